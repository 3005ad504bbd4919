"""``dev.py workflow layout``: measure the nodes of a graph in the real editor, and lay them out anew."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from typing import Any

from .console import StepFailed
from .editor import Editor
from .layout import SCREEN, Block, Box, Places, arrange, depths
from .node_sizes import NOTES, Graph, is_folded, measure

EXAMPLE = "example.png"
"""The picture that graphs for checkpoints of others load; it comes with the host and need not be on this machine."""
SHOWN = {
    "LoadImage",
    "PreviewImage",
    "SaveImage",
    *(
        f"HSpace{name}"
        for name in """
        AsyrpLevels BaselineDirections BasisDirections CheckModel DemoFace DemoPhoto DirectionAtlas DiscoverRegion
        EditFriendlyInversion FitLatentSVD FitPhoto GlobalDirections IntoDomain InvertImage LatentSVD
        MeasureEdit MorphFrames NullTextOptimise PasteBack PerceptualReschedule RenderTrajectory TrackDirections
        TrainAsyrp TrainDeltaMapper TrainDiffusionCLIP TrainPada TrainRectifier TrainRectifierEdit
        """.split()
    ),
}
"""Nodes that show a picture, for graphs that are not run: they need files of others, or minutes."""
ROUNDS = 4
Sizes = dict[int, tuple[int, int]]


def lay_out(editor: Editor, graph: Graph, runnable: bool) -> Graph:
    """A copy of the graph with new positions, sizes and groups, that has no overlaps in either renderer.

    Args:
        editor: in the classic canvas; it is left there.
        graph: as the editor saves it.
        runnable: whether all its files are here; else pictures are pretended.

    Raises:
        StepFailed: nodes grow further with every layout.
    """

    def show() -> None:
        editor.run(timeout=1800) if runnable else editor.pretend(SHOWN, EXAMPLE)

    editor.page.set_viewport_size({"width": SCREEN[0], "height": SCREEN[1]})
    sizes = measure(editor, graph, show)
    for _ in range(ROUNDS):
        laid = placed(graph, sizes)
        grown = _grown(editor, laid, sizes, show)
        if not grown:
            return laid
        sizes |= grown
    raise StepFailed("workflow", f"nodes {sorted(grown)} grow with every layout", "Look at them in the editor.")


def placed(graph: Graph, sizes: Sizes) -> Graph:
    """A copy of the graph, laid out with these sizes."""
    laid = copy.deepcopy(graph)
    members = _members(laid)
    links = [(link[1], link[3]) for link in laid["links"]]
    order = depths([node["id"] for node in laid["nodes"]], links)
    blocks = []
    for group, ids in members:
        boxes = tuple(Box(id, *sizes[id]) for id in sorted(ids, key=lambda id: (order[id], id)))
        inside = tuple((source, target) for source, target in links if {source, target} <= set(ids))
        blocks.append(Block(boxes, group is not None, inside))
    places = arrange(blocks)
    for node in laid["nodes"]:
        node["pos"] = list(places.nodes[node["id"]])
        if not is_folded(node):
            node["size"] = list(sizes[node["id"]])
    laid["groups"] = _framed(members, places)
    return laid


def _framed(members: list[tuple[dict[str, Any] | None, list[int]]], places: Places) -> list[dict[str, Any]]:
    return [
        group | {"bounding": list(frame)}
        for (group, _), frame in zip(members, places.frames, strict=True)
        if group is not None and frame is not None
    ]


def _members(graph: Graph) -> list[tuple[dict[str, Any] | None, list[int]]]:
    """The notes, then every group with two nodes or more; others join the group that they are linked to most.

    Where there is no group at all, notes lie among the nodes.
    """
    groups = graph.get("groups") or []
    home = {node["id"]: _group_at(groups, node["pos"]) for node in graph["nodes"] if node["type"] not in NOTES}
    crowd = Counter(home.values())
    home = {id: at if at is not None and crowd[at] > 1 else None for id, at in home.items()}
    for _ in home:
        for id in [id for id, at in home.items() if at is None]:
            home[id] = _neighbours_home(graph, home, id)
    notes = [node["id"] for node in graph["nodes"] if node["type"] in NOTES]
    members = [(group, [id for id, at in home.items() if at == place]) for place, group in enumerate(groups)]
    alone = [id for id, at in home.items() if at is None]
    everything = [(None, notes), *members, (None, alone)] if groups else [(None, notes + alone)]
    return [(group, ids) for group, ids in everything if ids]


def _group_at(groups: list[dict[str, Any]], position: list[float]) -> int | None:
    for place, group in enumerate(groups):
        x, y, width, height = group["bounding"]
        if x <= position[0] < x + width and y <= position[1] < y + height:
            return place
    return None


def _neighbours_home(graph: Graph, home: dict[int, int | None], id: int) -> int | None:
    """The group of the node that this one leads to, else of the one that leads here."""
    targets = [home.get(link[3]) for link in graph["links"] if link[1] == id]
    sources = [home.get(link[1]) for link in graph["links"] if link[3] == id]
    return next((at for at in (*targets, *reversed(sources)) if at is not None), None)


def _grown(editor: Editor, graph: Graph, sizes: Sizes, show: Callable[[], None]) -> Sizes:
    """Nodes that became larger than planned when this graph was opened and run, with what they took."""
    grown: Sizes = {}
    for modern in (True, False):
        editor.use_nodes_2(modern)
        editor.load(graph)
        seen = [editor.sizes()]
        show()
        editor.wait_for_pictures()
        seen.append(editor.sizes())
        for id, (width, height) in ((id, size) for found in seen for id, size in found.items()):
            planned = grown.get(id, sizes[id])
            if width > planned[0] or height > planned[1]:
                grown[id] = max(width, planned[0]), max(height, planned[1])
    return grown
