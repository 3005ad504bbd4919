"""What a shipped workflow consists of, and where the editor puts it: groups in rows, nodes in the columns of a group."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

_TITLE, _SLOT, _WIDGET, _FRAME = 30, 20, 24, 16  # pixels of the editor
_GAP, _PAD, _HEAD = 24, 24, 40


@dataclass(frozen=True, eq=False)
class Node:
    """One node: ``inputs`` are widget values, or links written as ``("title", output name)``; ``picture`` is room below the widgets."""

    title: str
    kind: str
    inputs: dict[str, Any] = field(default_factory=dict)
    width: int = 300
    picture: int = 0


@dataclass(frozen=True, eq=False)
class Note:
    """Markdown shown in the graph; not part of the API prompt."""

    text: str
    height: int = 240
    width: int = 340


@dataclass(frozen=True)
class Group:
    """A titled box around columns of nodes and notes."""

    title: str
    columns: tuple[tuple[Node | Note, ...], ...]
    color: str = "#3f789e"

    @property
    def items(self) -> Iterator[Node | Note]:
        """All that is inside."""
        return (item for column in self.columns for item in column)


@dataclass(frozen=True)
class Graph:
    """A whole workflow: rows of groups."""

    name: str
    rows: tuple[tuple[Group, ...], ...]

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes, sources before what they feed."""
        waiting = {n.title: n for n in self._items if isinstance(n, Node)}
        done: dict[str, Node] = {}
        while waiting:
            ready = [n for n in waiting.values() if all(v[0] in done for v in n.inputs.values() if isinstance(v, tuple))]
            if not ready:
                raise ValueError(f"workflow {self.name}: a link leads to no node, or in a circle, among {', '.join(waiting)}")
            for n in ready:
                done[n.title] = waiting.pop(n.title)
        return tuple(done.values())

    @property
    def notes(self) -> tuple[Note, ...]:
        """The notes."""
        return tuple(n for n in self._items if isinstance(n, Note))

    @property
    def _items(self) -> list[Node | Note]:
        return [item for row in self.rows for group in row for item in group.items]


Box = tuple[int, int, int, int]


def place(graph: Graph, heights: dict[str, int]) -> tuple[dict[Node | Note, Box], list[tuple[Group, Box]]]:
    """Boxes ``x, y, width, height`` of everything; those of nodes and notes begin below their title bar, as the editor counts.

    Args:
        graph: the workflow.
        heights: node title -> height without picture, see :func:`height`.
    """
    boxes: dict[Node | Note, Box] = {}
    groups: list[tuple[Group, Box]] = []
    top = 0
    for row in graph.rows:
        left, bottom = 0, top
        for group in row:
            x, low = left + _PAD, top
            for column in group.columns:
                y, wide = top + _HEAD, 0
                for item in column:
                    tall = item.height if isinstance(item, Note) else heights[item.title] + item.picture
                    boxes[item] = (x, y + _TITLE, item.width, tall)
                    y, wide = y + _TITLE + tall + _GAP, max(wide, item.width)
                x, low = x + wide + 2 * _PAD, max(low, y)
            groups.append((group, (left, top, x - _PAD - left, low - top)))
            left, bottom = x, max(bottom, low)
        top = bottom + _PAD
    return boxes, groups


def height(slots: int, outputs: int, widgets: int) -> int:
    """Height of a node in the editor, without a picture."""
    return max(slots, outputs) * _SLOT + widgets * _WIDGET + _FRAME
