"""What the nodes of a shipped graph are called, and from which pack they come."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from . import env

BETWEEN = " — "
"""Between the name of a node and its role in the graph: Invert Image — the photo."""
OWN = "HSpace"
PACK_ID = "comfyui-hspace"
"""Name of the pack in the registry; the editor offers it to those who open a graph without having it."""


def role_of(title: str) -> str:
    """What a node does in its graph: the part of its title behind the node's name, else the title."""
    return title.rpartition(BETWEEN)[2]


def stamp(graph: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a graph whose nodes say that they come from this pack, and from which version."""
    stamped = copy.deepcopy(dict(graph))
    for node in stamped["nodes"]:
        if node["type"].startswith(OWN):
            node["properties"] = {**node.get("properties", {}), "cnr_id": PACK_ID, "ver": version()}
    return stamped


def find_title_faults(graph: Mapping[str, Any], facts: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Titles that hide which node it is: people look nodes up by their names."""
    for node in graph["nodes"]:
        name = facts.get(node["type"], {}).get("display_name")
        title = node.get("title") or name
        if name and title != name and not title.startswith(name + BETWEEN):
            yield f"node {node['id']} is called {title!r}; call it {name!r}, or {name + BETWEEN}and its role"


@cache
def version() -> str:
    """The pack's version, by ``pyproject.toml``."""
    return env.project()["version"]
