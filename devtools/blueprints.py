"""``dev.py workflow blueprint``: put a subgraph that was saved in the editor into the repository.

A blueprint is a graph whose only node is a subgraph. The editor lists it among the nodes by the name of its file, so
the words that people search for stand in the name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from .console import ROOT
from .workflow_names import find_title_faults, stamp

FOLDER = ROOT / "subgraphs"
MENU = "HSpace"
Facts = Mapping[str, Mapping[str, Any]]


def names() -> list[str]:
    """All shipped blueprints."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def find_blueprint_faults(graph: Mapping[str, Any], facts: Facts) -> Iterator[str]:
    """What keeps a saved graph from being a blueprint.

    Args:
        graph: as the editor saves it.
        facts: what the host says of its nodes.
    """
    inside = subgraphs(graph)
    nodes = graph["nodes"]
    if len(nodes) != 1 or len(inside) != 1 or nodes[0]["type"] != inside[0]["id"]:
        yield (
            f"the graph has {len(nodes)} nodes and {len(inside)} subgraphs; select the nodes of the blueprint, choose"
            " Convert to Subgraph, delete what stays outside, and save"
        )
        return
    (inner,) = inside
    yield from (f"the host knows no node {node['type']}" for node in inner["nodes"] if node["type"] not in facts)
    yield from find_title_faults(inner, facts)
    if not inner.get("description"):
        yield "the subgraph has no description: what it does, and which sockets to wire"
    sockets = (*inner["inputs"], *inner["outputs"])
    names = [socket.get("label") or socket["name"] for socket in sockets]
    yield from (f"the socket {name!r} is no name: rename it in the subgraph" for name in names if name != name.lower())
    if not inner["outputs"]:
        yield "no output leads out of the subgraph"


def subgraphs(graph: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The definitions that a graph carries."""
    return (graph.get("definitions") or {}).get("subgraphs") or []


def write_blueprint(graph: Mapping[str, Any], name: str) -> str:
    """The file of a blueprint: named like the file, in this pack's menu, its nodes with their pack and version."""
    (inner,) = subgraphs(graph)
    (outer,) = graph["nodes"]
    whole = {
        **graph,
        "nodes": [outer | {"title": name, "pos": [0, 0]}],
        "links": [],
        "groups": [],
        "definitions": {"subgraphs": [stamp(inner) | {"name": name, "category": MENU}]},
    }
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"
