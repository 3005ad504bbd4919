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
DOWNLOADS = {
    "v1-5-pruned-emaonly-fp16.safetensors": (
        "checkpoints",
        "https://huggingface.co/Comfy-Org/stable-diffusion-v1-5-archive/resolve/main/v1-5-pruned-emaonly-fp16.safetensors",
    ),
    "sd_xl_base_1.0.safetensors": (
        "checkpoints",
        "https://huggingface.co/stabilityai/stable-diffusion-xl-base-1.0/resolve/main/sd_xl_base_1.0.safetensors",
    ),
}
"""File that a graph names -> folder of models and address; the editor offers those that are missing. It takes addresses
of a few well-known sites only, so files that lie elsewhere are named in the graph's note."""


def role_of(title: str) -> str:
    """What a node does in its graph: the part of its title behind the node's name, else the title."""
    return title.rpartition(BETWEEN)[2]


def stamp(graph: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a graph whose nodes say from which version of this pack they come, and where to find missing files."""
    stamped = copy.deepcopy(dict(graph))
    for node in stamped["nodes"]:
        if node["type"].startswith(OWN):
            node["properties"] = {**node.get("properties", {}), "cnr_id": PACK_ID, "ver": version()}
        if models := _downloads(node):
            node["properties"] = {**node.get("properties", {}), "models": models}
    return stamped


def _downloads(node: Mapping[str, Any]) -> list[dict[str, str]]:
    """What the editor may offer to download for a node."""
    values = node.get("widgets_values")
    named = [one for one in values if isinstance(one, str) and one in DOWNLOADS] if isinstance(values, list) else []
    return [{"name": name, "url": DOWNLOADS[name][1], "directory": DOWNLOADS[name][0]} for name in named]


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
