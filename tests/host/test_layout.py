"""Laid-out graphs: nothing overlaps, dependencies run to the right, the page has the shape of a screen."""

import itertools
import random

import pytest

from devtools.layout import GRID, TITLE, Block, Box, Page, arrange, depths, on_grid, shapes_of
from devtools.workflow_layout import placed


def random_blocks(seed: int) -> list[Block]:
    dice = random.Random(seed)
    ids = itertools.count(1)
    return [
        Block(
            tuple(Box(next(ids), dice.randrange(140, 600, 20), dice.randrange(0, 900, 20)) for _ in range(count)),
            framed=number > 0,
        )
        for number, count in enumerate(dice.choices(range(1, 9), k=dice.randint(1, 5)))
    ]


def rectangles(blocks: list[Block]) -> dict[int, tuple[int, int, int, int]]:
    """Left, top, right, bottom of every node, title bar included."""
    places = arrange(blocks).nodes
    boxes = [box for block in blocks for box in block.boxes]
    return {box.id: (x, y - TITLE, x + box.width, y + box.height) for box in boxes for x, y in (places[box.id],)}


def apart(a, b) -> bool:
    return a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


@pytest.mark.parametrize("seed", range(12))
def test_nothing_overlaps_and_frames_hold_their_own_nodes_only(seed):
    blocks = random_blocks(seed)
    found, frames = rectangles(blocks), arrange(blocks).frames
    assert all(apart(a, b) for a, b in itertools.combinations(found.values(), 2))
    for block, frame in zip(blocks, frames, strict=True):
        assert (frame is not None) == block.framed
        if frame is None:
            continue
        x, y, width, height = frame
        own = {box.id for box in block.boxes}
        for id, (left, top, right, bottom) in found.items():
            inside = left >= x and top >= y and right <= x + width and bottom <= y + height
            assert inside if id in own else apart((x, y, x + width, y + height), (left, top, right, bottom))


def test_the_same_graph_is_laid_out_the_same_way_on_the_grid():
    first, second = (arrange(random_blocks(5)) for _ in range(2))
    assert first == second
    assert all(x % GRID == 0 for x, _ in first.nodes.values())


def test_the_page_is_about_as_wide_as_a_screen():
    blocks = [Block(tuple(Box(id, 300, 300) for id in range(24)), framed=False)]
    found = rectangles(blocks).values()
    width, height = max(box[2] for box in found), max(box[3] for box in found)
    assert 1.2 < width / height < 2.4


def test_more_columns_are_lower_and_wider():
    block = Block(tuple(Box(id, 300, 40 * id) for id in range(1, 8)), framed=True)
    shapes = shapes_of(block)
    assert len(shapes) > 2 and all(len(shape.columns) == 7 for shape in shapes)
    assert all(a.height > b.height and a.width < b.width for a, b in itertools.pairwise(shapes))


def test_no_link_leads_to_the_left_and_small_nodes_do_not_widen_a_column():
    boxes = tuple(Box(id, 540 if id % 2 else 280, 300) for id in range(8))
    for shape in shapes_of(Block(boxes, framed=False, links=((0, 3), (3, 4), (1, 6)))):
        at = dict(enumerate(shape.columns))
        assert at[0] <= at[3] <= at[4] and at[1] <= at[6]
    two = min(shapes_of(Block(boxes, framed=False)), key=lambda shape: abs(max(shape.columns) - 1))
    assert two.width == 540 + 40 + 280, "wide nodes and narrow ones have a column each"


def test_zoom_is_what_fits_both_ways():
    assert Page((), 3840, 1080).zoom == 0.5 and Page((), 1920, 2160).zoom == 0.5


@pytest.mark.parametrize(("length", "expected"), [(0, 0), (1, 20), (20, 20), (20.5, 40)])
def test_lengths_go_up_to_the_grid(length, expected):
    assert on_grid(length) == expected


def test_depth_is_the_longest_way():
    assert depths([1, 2, 3, 4], [(1, 2), (2, 3), (1, 3), (3, 4)]) == {1: 0, 2: 1, 3: 2, 4: 3}


def graph(*nodes: tuple[int, str, int], links=(), groups=()) -> dict:
    """Nodes (id, kind, x) in one row, links (from, to), groups (title, x, width)."""
    return {
        "nodes": [{"id": id, "type": kind, "pos": [x, 100], "size": [1, 1], "flags": {}} for id, kind, x in nodes],
        "links": [[n, a, 0, b, 0, "IMAGE"] for n, (a, b) in enumerate(links)],
        "groups": [{"title": title, "bounding": [x, 0, width, 500]} for title, x, width in groups],
    }


def test_groups_keep_their_nodes_and_a_lonely_one_joins_what_it_leads_to():
    before = graph(
        (1, "A", 10), (2, "B", 110), (3, "C", 120), (4, "MarkdownNote", 130), (5, "D", 900),
        links=[(1, 2), (2, 3), (3, 5)],
        groups=[("lonely", 0, 100), ("both", 100, 100)],
    )  # fmt: skip
    sizes = {id: (280, 100) for id in range(1, 6)}
    after = placed(before, sizes)
    assert [group["title"] for group in after["groups"]] == ["both"]
    x, y, width, height = after["groups"][0]["bounding"]
    position = {node["id"]: node["pos"] for node in after["nodes"]}
    inside = {id for id, (left, top) in position.items() if x <= left < x + width and y <= top < y + height}
    assert inside == {1, 2, 3, 5}
    assert position[4] == [0, TITLE], "notes come first"
    assert placed(after, sizes) == after, "a second time changes nothing"
