"""How much room every node of a graph needs in the editor: in both renderers, before and after a run."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .editor import ROOM, Editor
from .layout import on_grid

Graph = dict[str, Any]
Show = Callable[[], None]
"""Fills an open graph with its pictures, by a run."""
NOTES = {"MarkdownNote", "Note"}
LOW = 20
"""Height that a graph is opened with, so that every node takes what it needs."""
PLAIN, WIDEST, NOTE = 280, 400, 400
"""Widths: the narrowest node, the widest of one without a large picture, and a note."""
LETTER, MARGIN = 7.5, 60
"""Width of a letter of a title, and of what stands beside it."""
PREVIEW = 212
"""Height that the classic canvas gives a picture at least."""
CAPTION = 24
"""Below a picture: its size in pixels."""
TALLEST = 480
SOURCES = {"HSpaceDemoFace", "LoadImage"}
"""Their pictures may stay small: they are the beginning of a graph."""
RESULTS = {"PreviewImage", "SaveImage", "HSpacePasteBack"}
"""They show the result of a graph, large."""
_SIZES = (
    f"""() => {{ const room = {ROOM}; """
    + """
    return Object.fromEntries(window.app.graph.nodes.map(node => [node.id, {
    size: room(node),
    pictures: (node.imgs ?? []).map(image => [image.naturalWidth, image.naturalHeight]),
    said: (node.widgets ?? []).filter(widget => widget.name === '$$node-text-preview')
        .reduce((sum, widget) => sum + (widget.computedHeight ?? 0), 0)}])); }"""
)


@dataclass(frozen=True)
class Need:
    """What one node needs.

    Attributes:
        size: width and height without the title bar, the largest that was seen.
        pictures: width and height in pixels of what it shows.
        said: height of the line that it says when it runs; a run from the cache does not say it.
    """

    size: tuple[float, float]
    pictures: tuple[tuple[int, int], ...] = ()
    said: float = 0

    def join(self, other: Need) -> Need:
        """The larger of both."""
        size = max(self.size[0], other.size[0]), max(self.size[1], other.size[1])
        return Need(size, self.pictures or other.pictures, max(self.said, other.said))

    def as_pair(self) -> Need:
        """With a row of two pictures, where a single one was pretended."""
        return self if _grid_aspect(self.pictures or ((2, 1),)) > 1 else replace(self, pictures=((2, 1),))


def is_folded(node: Mapping[str, Any]) -> bool:
    """Whether a node is a title bar only; it keeps the size that it has when it is opened."""
    return bool((node.get("flags") or {}).get("collapsed"))


AS_SAVED = {"HSpaceDials"}
"""Nodes whose picture takes whatever room it is given: they keep the size that they were saved with."""


def measure(editor: Editor, graph: Graph, show: Show) -> dict[int, tuple[int, int]]:
    """Open a graph in both renderers, run it, and find the sizes that its nodes should have.

    Args:
        editor: in the classic canvas.
        graph: as the editor saves it.
        show: what is called when it is open.

    Returns:
        width and height without the title bar by the node's id, on the grid.
    """
    kinds = {node["id"]: node["type"] for node in graph["nodes"]}
    titles = {node["id"]: node.get("title") or node["type"] for node in graph["nodes"]}
    folded = {node["id"] for node in graph["nodes"] if is_folded(node)}
    widths = {id: _plain_width(kinds[id], titles[id]) for id in kinds}
    seen = _seen(editor, graph, widths, show)
    pairs = _pairs(graph, kinds)
    seen = {id: need.as_pair() if id in pairs else need for id, need in seen.items()}
    widths = {id: max(widths[id], _picture_width(kinds[id], seen[id])) for id in kinds}
    needs = _seen(editor, graph, widths, show)
    editor.use_nodes_2(True)
    drawn = _seen(editor, graph, widths, show)
    editor.use_nodes_2(False)
    found = {}
    saved = {node["id"]: node["size"] for node in graph["nodes"]}
    for id, kind in kinds.items():
        if kind in AS_SAVED:
            found[id] = on_grid(saved[id][0]), on_grid(saved[id][1])
            continue
        if id in folded:
            need = needs[id].join(drawn[id])
            found[id] = on_grid(need.size[0]), on_grid(need.size[1])
            continue
        need = seen[id].join(needs[id]).join(drawn[id])
        # The first run is in it for what only that shows: samplers keep their last preview.
        height = need.size[1] + need.said + _more_picture(kind, need, widths[id])
        found[id] = on_grid(max(widths[id], needs[id].size[0])), on_grid(height)
    return found


def _pairs(graph: Graph, kinds: Mapping[int, str]) -> set[int]:
    """Nodes that show what was put side by side."""
    return {link[3] for link in graph["links"] if kinds[link[1]] == "ImageStitch"}


def _seen(editor: Editor, graph: Graph, widths: Mapping[int, int], show: Show) -> dict[int, Need]:
    """What the nodes take before and after a run, in the renderer that is on."""
    low = copy.deepcopy(graph)
    for node in low["nodes"]:
        if not is_folded(node):
            node["size"] = [widths[node["id"]], LOW]
    editor.load(low)
    before = _needs(editor)
    show()
    editor.wait_for_pictures()
    after = _needs(editor)
    # A line that the node says is in its height here, and not after a run from the cache: it is counted by itself.
    return {id: before[id].join(_without_said(after[id])) for id in widths}


def _without_said(need: Need) -> Need:
    return Need((need.size[0], need.size[1] - need.said), need.pictures, need.said)


def _needs(editor: Editor) -> dict[int, Need]:
    facts = editor.settled(_SIZES)
    return {
        int(id): Need(tuple(fact["size"]), tuple(map(tuple, fact["pictures"])), fact["said"])
        for id, fact in facts.items()
    }


def _plain_width(kind: str, title: str) -> int:
    return NOTE if kind in NOTES else min(WIDEST, max(PLAIN, on_grid(LETTER * len(title) + MARGIN)))


def _picture_width(kind: str, need: Need) -> int:
    """The wider a picture, the wider its node; rows of results are the widest."""
    if not need.pictures:
        return 0
    return 340 if _grid_aspect(need.pictures) < 1.3 else 540 if kind in RESULTS else 440


def _grid_aspect(pictures: tuple[tuple[int, int], ...]) -> float:
    """Width by height of all pictures in rows and columns."""
    columns = math.ceil(math.sqrt(len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    width, height = pictures[0]
    return (columns * max(1, width)) / (rows * max(1, height))


def _more_picture(kind: str, need: Need, width: int) -> float:
    """What to add to the least height of a picture so that it fills the width of its node."""
    if not need.pictures or kind in SOURCES:
        return 0
    wanted = min(TALLEST, (width - 20) / _grid_aspect(need.pictures)) + CAPTION
    return max(0.0, wanted - PREVIEW)
