"""Where the nodes of a graph lie, from their sizes and links: a page of the shape of a screen, as small as possible.

Nothing here knows the editor. A node is a box with its title bar; a block is a group of the graph, or its notes. The
nodes of a block fill columns in the order in which they depend on each other, blocks are stacked into columns of the
page, and of all ways to do both the one is taken that fits the screen at the largest zoom.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

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
WEIGHTS = (0.6, 1.0, 1.8)
"""How much lowness counts against narrowness when a block is packed: what the page needs is not known yet."""


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
    """Nodes that belong together.

    Attributes:
        boxes: in the order in which they are laid; nothing depends on a later one.
        framed: whether a group is around them.
        links: pairs of ids (from, to). No node lies in a column left of one that it depends on.
    """

    boxes: tuple[Box, ...]
    framed: bool
    links: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Shape:
    """A block in columns: the number of each box's column, and the size with the frame."""

    columns: tuple[int, ...]
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


Sized = TypeVar("Sized", Shape, "_Stack")


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
    page = _best_page([shapes_of(block) for block in blocks])
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


def shapes_of(block: Block) -> list[Shape]:
    """The block in one column, in two, and so on, from the narrowest to the widest; each is lower than those before."""
    found = []
    for columns in range(1, min(COLUMNS, len(block.boxes)) + 1):
        # Moves of single boxes do not lead from columns of all widths to a column for each width.
        for start in (_split(block.boxes, columns), _split_by_width(block.boxes, columns)):
            if _flows(block, start):
                found += [_shape(block, start), *(_shape(block, _packed(block, start, weight)) for weight in WEIGHTS)]
    return _lower_the_wider(found)


def _lower_the_wider(shapes: Iterable[Sized]) -> list[Sized]:
    """Without those than which another is no wider and no higher."""
    kept: list[Sized] = []
    for shape in sorted(shapes, key=lambda shape: (shape.width, shape.height)):
        if not kept or shape.height < kept[-1].height:
            kept.append(shape)
    return kept


def _split(boxes: Sequence[Box], columns: int) -> tuple[int, ...]:
    """Column of each box, the boxes in their order: the tallest column is as low as so many can be."""
    ways = itertools.combinations(range(1, len(boxes)), columns - 1)
    cuts = min(ways, key=lambda ends: _tallest(boxes, (0, *ends, len(boxes))))
    return tuple(sum(place >= cut for cut in cuts) for place in range(len(boxes)))


def _split_by_width(boxes: Sequence[Box], columns: int) -> tuple[int, ...]:
    """Column of each box, the narrowest in the first and the widest in the last."""
    order = sorted(range(len(boxes)), key=lambda place: boxes[place].width)
    column_of = dict(zip(order, _split([boxes[place] for place in order], columns), strict=True))
    return tuple(column_of[place] for place in range(len(boxes)))


def _tallest(boxes: Sequence[Box], ends: Sequence[int]) -> tuple[int, int]:
    """Height of the tallest column; among equals the sum of squares, which is least where columns are alike."""
    heights = [_stacked(boxes[a:b]) for a, b in itertools.pairwise(ends)]
    return max(heights), sum(height**2 for height in heights)


def _packed(block: Block, columns: tuple[int, ...], weight: float) -> tuple[int, ...]:
    """Move boxes, and change them for each other, as long as that makes the block smaller and keeps its links."""
    best, cost = columns, _cost(block, columns, weight)
    while True:
        tried = [(_cost(block, way, weight), way) for way in _neighbours(best) if _flows(block, way)]
        better = min(tried, default=(cost, best))
        if better[0] >= cost:
            return best
        cost, best = better


def _cost(block: Block, columns: Sequence[int], weight: float) -> float:
    width, height = _extent(block, columns)
    return math.log(width) + weight * math.log(height)


def _neighbours(columns: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """All ways that differ by one box in another column, or by two that changed places."""
    kinds = range(max(columns) + 1)
    for place, at in enumerate(columns):
        for other in kinds:
            if other != at:
                yield (*columns[:place], other, *columns[place + 1 :])
    for a, b in itertools.combinations(range(len(columns)), 2):
        if columns[a] != columns[b]:
            changed = list(columns)
            changed[a], changed[b] = columns[b], columns[a]
            yield tuple(changed)


def _flows(block: Block, columns: Sequence[int]) -> bool:
    """Whether every column has a box and no link leads to the left."""
    at = {box.id: column for box, column in zip(block.boxes, columns, strict=True)}
    forward = all(at[source] <= at[target] for source, target in block.links)
    return forward and len(set(columns)) == max(columns) + 1


def _stacked(boxes: Sequence[Box]) -> int:
    return sum(box.tall for box in boxes) + BELOW * (len(boxes) - 1)


def _columns(block: Block, columns: Sequence[int]) -> list[list[Box]]:
    rows: list[list[Box]] = [[] for _ in range(max(columns) + 1)]
    for box, column in zip(block.boxes, columns, strict=True):
        rows[column].append(box)
    return [row for row in rows if row]


def _shape(block: Block, columns: tuple[int, ...]) -> Shape:
    return Shape(columns, *_extent(block, columns))


def _extent(block: Block, columns: Sequence[int]) -> tuple[int, int]:
    stacks = _columns(block, columns)
    width = sum(max(box.width for box in stack) for stack in stacks) + ASIDE * (len(stacks) - 1)
    height = max(_stacked(stack) for stack in stacks)
    return (width + 2 * FRAME, height + HEAD + FRAME) if block.framed else (width, height)


def _best_page(choices: Sequence[Sequence[Shape]]) -> Page:
    """The page of the largest zoom, the smallest among equals: every cut of the blocks into stacks is tried."""
    count = len(choices)
    pages = (
        page for cuts in itertools.product((False, True), repeat=count - 1) for page in _pages(_stacks(choices, cuts))
    )
    return max(pages, key=lambda page: (page.zoom, -page.width * page.height))


def _stacks(choices: Sequence[Sequence[Shape]], cuts: Sequence[bool]) -> list[list[_Stack]]:
    """The ways of each column of the page; a cut in front of a block begins a new one."""
    columns = [[_Stack.of(shape) for shape in choices[0]]]
    for shapes, cut in zip(choices[1:], cuts, strict=True):
        if cut:
            columns.append([_Stack.of(shape) for shape in shapes])
        else:
            columns[-1] = _lower_the_wider(stack.on(shape) for stack in columns[-1] for shape in shapes)
    return columns


def _pages(columns: Sequence[Sequence[_Stack]]) -> Iterator[Page]:
    """For every height that a column can have: the narrowest page of at most that height."""
    for limit in sorted({way.height for column in columns for way in column}):
        fitting = [[way for way in column if way.height <= limit] for column in columns]
        if all(fitting):
            chosen = [min(column, key=lambda way: (way.width, way.height)) for column in fitting]
            width = sum(way.width for way in chosen) + BELOW * (len(chosen) - 1)
            yield Page(tuple(way.shapes for way in chosen), width, max(way.height for way in chosen))


@dataclass(frozen=True)
class _Stack:
    """A column of the page."""

    shapes: tuple[Shape, ...]
    width: int
    height: int

    @classmethod
    def of(cls, shape: Shape) -> _Stack:
        return cls((shape,), shape.width, shape.height)

    def on(self, shape: Shape) -> _Stack:
        """With another block beneath."""
        return _Stack((*self.shapes, shape), max(self.width, shape.width), self.height + BELOW + shape.height)


def _place(block: Block, shape: Shape, left: int, top: int) -> Mapping[int, tuple[int, int]]:
    """Positions of a block's nodes, its corner given: a node's position is below its title bar."""
    places = {}
    x = left + (FRAME if block.framed else 0)
    for column in _columns(block, shape.columns):
        y = top + (HEAD if block.framed else 0)
        for box in column:
            places[box.id] = (x, y + TITLE)
            y += box.tall + BELOW
        x += max(box.width for box in column) + ASIDE
    return places
