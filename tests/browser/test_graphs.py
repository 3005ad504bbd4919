"""Every shipped graph in both renderers: nothing overlaps before or after a run, and the edit is seen before any sheet."""

import json

import pytest

from devtools.console import ROOT
from devtools.layout import SCREEN
from devtools.workflow_form import START, find_missing_files
from devtools.workflow_layout import EXAMPLE, SHOWN
from devtools.workflows import PORTRAIT, names

EDITS = {"HSpaceRenderTrajectory", "HSpacePasteBack", "HSpaceDials"}
SHEETS = {"HSpaceDirectionAtlas"}
RUN = {
    "01_start_here",
    "discover_explorer",
    "discover_mean_difference",
    "discover_region",
    "discover_track",
    "edit_directions_steer_saved",
    "edit_noise_ledits",
    "photo_edit",
}
"""Those that are run here, for the order in which pictures appear. In the others nodes show a picture as if they had
run; tests/host runs them all."""
TITLE = 14  # height of a title's letters, in units of the canvas
READABLE = 5.5  # pixels; the classic canvas draws no text that is smaller at this zoom


@pytest.fixture(scope="module")
def page(shared_editor, server):
    server.upload(PORTRAIT, EXAMPLE)
    shared_editor.page.set_viewport_size({"width": SCREEN[0], "height": SCREEN[1]})
    yield shared_editor
    shared_editor.use_nodes_2(False)


@pytest.fixture(scope="module")
def facts(server):
    return server.get("/object_info")


@pytest.mark.sweep("")
@pytest.mark.parametrize("name", names())
def test_a_graph_lies_well_in_both_renderers(page, facts, record_property, name):
    graph = page.template(name)
    kinds = {str(node["id"]): node["type"] for node in graph["nodes"]}
    page.use_nodes_2(False)
    page.load(graph)
    runnable = name in RUN and not find_missing_files(page.to_prompt(), facts)
    for modern in (False, True):  # the second run comes from the cache
        page.use_nodes_2(modern)
        page.load(graph)
        page.sizes()
        assert page.overlaps() == [], "before the run"
        events = page.run(timeout=1800) if runnable else page.pretend(SHOWN, EXAMPLE)
        page.sizes()
        assert page.overlaps() == [], "after the run"
        zoom = page.fit()
        record_property(f"zoom in {'Nodes 2.0' if modern else 'the classic canvas'}", round(zoom, 2))
        record_property("letters of titles on the screen, pixels", round(TITLE * zoom, 1))
        page.screenshot(f"graph_{name}_{'nodes2' if modern else 'classic'}")
        if events and not modern:
            shown = [kinds[detail["node"]] for event, detail in events if event == "executed" and pictured(detail)]
            assert first(shown, EDITS) <= first(shown, SHEETS), shown
        assert name != START or zoom >= 1
    assert TITLE * zoom > READABLE
    assert not [error for error in page.errors if "hspace" in error.lower()]


def pictured(detail: dict) -> bool:
    return bool((detail.get("output") or {}).get("images"))


def first(shown: list[str], kinds: set[str]) -> float:
    """Place of the first of these kinds; behind all if there is none."""
    return next((place for place, kind in enumerate(shown) if kind in kinds), float("inf"))


@pytest.mark.parametrize("name", names())
def test_what_is_saved_is_on_the_grid(name):
    graph = json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))
    off = [node["id"] for node in graph["nodes"] if node["pos"][0] % 20 or (node["pos"][1] - 30) % 20]
    assert off == [], "run python dev.py workflow layout"


def test_the_first_graph_is_small_and_shows_the_edit_beside_the_original():
    graph = json.loads((ROOT / "workflows" / f"{START}.json").read_text(encoding="utf-8"))
    kinds = {node["type"]: node for node in graph["nodes"]}
    assert len(graph["nodes"]) <= 7 and not set(kinds) & SHEETS
    for kind in ("HSpaceDemoFace", "HSpaceDials"):
        assert kinds[kind]["size"][0] >= 320 and not kinds[kind]["flags"].get("collapsed")
