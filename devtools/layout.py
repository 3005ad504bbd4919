"""Where the nodes of a graph lie, from their sizes and links: a page of the shape of a screen, as small as possible.

Nothing here knows the editor. A node is a box with its title bar; a block is a group of the graph, or its notes. The
nodes of a block fill columns in the order in which they depend on each other, blocks are stacked into columns of the
page, and of all ways to do both the one is taken that fits the screen at the largest zoom.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

GRID = 20
"""Saved positions and sizes are multiples of it; all lengths are units of the canvas, pixels at 100 %."""
TITLE = 30
"""Height of a node's title bar, above its position."""
ASIDE, BELOW = 40, 20
"""Between the columns of a block, where links run, and between the nodes of a column."""
FRAME, HEAD = 20, 40
"""Between a group's frame and its nodes, and the height of the group's own title."""
SCREEN = (1920, 1080)
COLUMNS = 6
"""Columns of a block at most."""


@dataclass(frozen=True)
class Box:
    """A node: its id, its width and its height without the title bar."""

    id: int
    width: int
    height: int

    @property
    def tall(self) -> int:
        """Height with the title bar."""
        return on_grid(self.height + TITLE)


@dataclass(frozen=True)
class Block:
    """Nodes that belong together, in the order in which they are laid; ``framed`` with a group around them."""

    boxes: tuple[Box, ...]
    framed: bool


@dataclass(frozen=True)
class Shape:
    """A block in columns: how many nodes each holds, and the size with the frame."""

    counts: tuple[int, ...]
    width: int
    height: int


@dataclass(frozen=True)
class Page:
    """Columns of the page, each a stack of blocks in their shapes."""

    stacks: tuple[tuple[Shape, ...], ...]
    width: int
    height: int

    @property
    def zoom(self) -> float:
        """At which the page fills the screen."""
        return min(SCREEN[0] / self.width, SCREEN[1] / self.height)


@dataclass(frozen=True)
class Places:
    """Position of every node by its id, and the frame (x, y, width, height) of every block, None without one."""

    nodes: dict[int, tuple[int, int]]
    frames: list[tuple[int, int, int, int] | None]


def on_grid(length: float) -> int:
    """The next multiple of the grid."""
    return GRID * math.ceil(length / GRID)


def depths(nodes: Sequence[int], links: Sequence[tuple[int, int]]) -> dict[int, int]:
    """How many links lead to each node at most, from nodes that nothing leads to.

    Args:
        nodes: ids.
        links: pairs (from, to).
    """
    depth = dict.fromkeys(nodes, 0)
    for _ in nodes:
        for source, target in links:
            depth[target] = max(depth[target], depth[source] + 1)
    return depth


def arrange(blocks: Sequence[Block]) -> Places:
    """Lay blocks out on the page that fits the screen at the largest zoom; the order of blocks and nodes is kept."""
    page = _best_page([list(shapes_of(block)) for block in blocks])
    waiting = iter(blocks)
    nodes: dict[int, tuple[int, int]] = {}
    frames: list[tuple[int, int, int, int] | None] = []
    left = 0
    for stack in page.stacks:
        top = 0
        for shape in stack:
            block = next(waiting)
            nodes |= _place(block, shape, left, top)
            frames.append((left, top, shape.width, shape.height) if block.framed else None)
            top += shape.height + BELOW
        left += max(shape.width for shape in stack) + BELOW
    return Places(nodes, frames)


def shapes_of(block: Block) -> Iterator[Shape]:
    """The block in one column, in two, and so on: each time as low as so many columns can be."""
    low = math.inf
    for columns in range(1, min(COLUMNS, len(block.boxes)) + 1):
        counts = _split(block.boxes, columns)
        width, height = _extent(block, counts)
        if height < low:
            low = height
            yield Shape(counts, width, height)


def _split(boxes: Sequence[Box], columns: int) -> tuple[int, ...]:
    """How many boxes each of so many columns takes, in their order, so that the tallest column is as low as can be."""
    ways = itertools.combinations(range(1, len(boxes)), columns - 1)
    cuts = min(ways, key=lambda ends: _tallest(boxes, (0, *ends, len(boxes))))
    ends = (0, *cuts, len(boxes))
    return tuple(b - a for a, b in itertools.pairwise(ends))


def _tallest(boxes: Sequence[Box], ends: Sequence[int]) -> tuple[int, int]:
    """Height of the tallest column; among equals the sum of squares, which is least where columns are alike."""
    heights = [_stacked(boxes[a:b]) for a, b in itertools.pairwise(ends)]
    return max(heights), sum(height**2 for height in heights)


def _stacked(boxes: Sequence[Box]) -> int:
    return sum(box.tall for box in boxes) + BELOW * (len(boxes) - 1)


def _columns(block: Block, counts: Sequence[int]) -> list[tuple[Box, ...]]:
    ends = [0, *itertools.accumulate(counts)]
    return [block.boxes[a:b] for a, b in itertools.pairwise(ends)]


def _extent(block: Block, counts: Sequence[int]) -> tuple[int, int]:
    columns = _columns(block, counts)
    width = sum(max(box.width for box in column) for column in columns) + ASIDE * (len(columns) - 1)
    height = max(_stacked(column) for column in columns)
    return (width + 2 * FRAME, height + HEAD + FRAME) if block.framed else (width, height)


def _best_page(choices: Sequence[Sequence[Shape]]) -> Page:
    """The page of the largest zoom, the smallest among equals: every cut of the blocks into stacks is tried."""
    count = len(choices)
    pages = (
        page for cuts in itertools.product((False, True), repeat=count - 1) for page in _pages(_stacks(choices, cuts))
    )
    return max(pages, key=lambda page: (page.zoom, -page.width * page.height))


def _stacks(choices: Sequence[Sequence[Shape]], cuts: Sequence[bool]) -> list[list[Sequence[Shape]]]:
    """Blocks by the column of the page that they stand in; a cut in front of a block begins a new one."""
    stacks = [[choices[0]]]
    for shapes, cut in zip(choices[1:], cuts, strict=True):
        if cut:
            stacks.append([])
        stacks[-1].append(shapes)
    return stacks


def _pages(stacks: Sequence[Sequence[Sequence[Shape]]]) -> Iterator[Page]:
    """For every height that a stack can have: the narrowest page of at most that height."""
    ways = [[_Stack.of(way) for way in itertools.product(*stack)] for stack in stacks]
    for limit in sorted({way.height for stack in ways for way in stack}):
        fitting = [[way for way in stack if way.height <= limit] for stack in ways]
        if all(fitting):
            chosen = [min(stack, key=lambda way: (way.width, way.height)) for stack in fitting]
            width = sum(way.width for way in chosen) + BELOW * (len(chosen) - 1)
            yield Page(tuple(way.shapes for way in chosen), width, max(way.height for way in chosen))


@dataclass(frozen=True)
class _Stack:
    """A column of the page."""

    shapes: tuple[Shape, ...]
    width: int
    height: int

    @classmethod
    def of(cls, shapes: tuple[Shape, ...]) -> _Stack:
        height = sum(shape.height for shape in shapes) + BELOW * (len(shapes) - 1)
        return cls(shapes, max(shape.width for shape in shapes), height)


def _place(block: Block, shape: Shape, left: int, top: int) -> Mapping[int, tuple[int, int]]:
    """Positions of a block's nodes, its corner given: a node's position is below its title bar."""
    places = {}
    x = left + (FRAME if block.framed else 0)
    for column in _columns(block, shape.counts):
        y = top + (HEAD if block.framed else 0)
        for box in column:
            places[box.id] = (x, y + TITLE)
            y += box.tall + BELOW
        x += max(box.width for box in column) + ASIDE
    return places
