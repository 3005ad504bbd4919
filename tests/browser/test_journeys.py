"""Ways of a person through the real editor, in both renderers: the first picture, a missing file, Cancel, a reload."""

import json
import time

import numpy as np
from safetensors.numpy import load_file

from devtools import gestures
from devtools.layout import SCREEN

START_HERE = "01_start_here"
PANEL = ".hspace-dials"
DIALS = "window.app.graph.nodes.find(node => node.comfyClass === 'HSpaceDials')"
VALUES = f"() => {DIALS}.widgets.filter(w => w.name.startsWith('dial_')).map(w => w.value)"
PIXELS = f"""() => {{ const canvas = document.querySelector('{PANEL} canvas');
    return Array.from(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data); }}"""
# Sizes of letters on the screen: those of elements that hold text, and, in the classic canvas, those that it draws.
LETTERS = """() => { const sizes = [], canvas = window.app.canvas, modern = window.LiteGraph.vueNodesMode;
    if (!modern) sizes.push(canvas.low_quality ? 0 : window.LiteGraph.NODE_SUBTEXT_SIZE * canvas.ds.scale);
    for (const element of document.querySelectorAll('[data-node-id] *, .dom-widget *, .hspace-dials *')) {
        const box = element.getBoundingClientRect();
        const told = [...element.childNodes].some(child => child.nodeType === Node.TEXT_NODE && child.textContent.trim());
        if (told && box.width && element.offsetWidth)
            sizes.push(parseFloat(getComputedStyle(element).fontSize) * box.width / element.offsetWidth); }
    return sizes; }"""
LEGIBLE = 8  # pixels
JUDGEABLE = 320  # pixels
OUTSIDE = """() => { const {scale, offset} = window.app.canvas.ds, title = window.LiteGraph.NODE_TITLE_HEIGHT;
    return window.app.graph.nodes.filter(({pos, size, flags}) => { if (flags?.collapsed) return false; const [x, y] = [pos[0] + offset[0], pos[1] - title + offset[1]];
        return x < 0 || y < 0 || (x + size[0]) * scale > innerWidth || (y + size[1] + title) * scale > innerHeight; }).map(node => node.title); }"""


def test_a_newcomer_sees_the_first_edited_picture(person, quiet, record_property):
    """Opens *Start here*, reads it, presses Run, and judges the edited picture."""
    page = person.page
    gestures.choose_template(person.editor, START_HERE)
    assert min(page.evaluate(LETTERS)) >= LEGIBLE and page.evaluate(OUTSIDE) == []
    person.forget_results()
    began = time.monotonic()
    gestures.press_run(person.editor)
    page.locator(f"{PANEL} button").nth(1).wait_for(timeout=300_000)
    seconds = time.monotonic() - began
    record_property("seconds from Run to the first edited picture", round(seconds, 1))
    print(f"first edited picture after {seconds:.1f} s")
    person.editor.wait_for_pictures()
    page.wait_for_timeout(1500)
    box = page.locator(f"{PANEL} canvas").first.bounding_box()
    assert min(box["width"], box["height"]) >= JUDGEABLE
    assert box["x"] + box["width"] < SCREEN[0] and box["y"] + box["height"] < SCREEN[1]
    edited, original = page.evaluate(PIXELS), _original(page)
    assert np.abs(np.subtract(edited, original)).mean() > 1, "the picture that one sees first is edited"
    assert min(page.evaluate(LETTERS)) >= LEGIBLE and not person.editor.overlaps()
    person.keep_picture("newcomer")


def _original(page) -> list[int]:
    """What the picture shows while Space is held."""
    page.locator(f"{PANEL} canvas").first.focus()
    page.keyboard.down(" ")
    original = page.evaluate(PIXELS)
    page.keyboard.up(" ")
    return original


CHECKPOINT = "v1-5-pruned-emaonly-fp16.safetensors"


def test_a_missing_checkpoint_is_named_with_the_place_to_get_it(person):
    """Opens the workflow for Stable Diffusion 1.5 without its file: it is offered; Run says which widget of which node."""
    page = person.page
    try:
        gestures.choose_template(person.editor, "discover_region_sd15")
        page.get_by_test_id("error-overlay-see-errors").click()
        offered = page.get_by_test_id("error-group-missing-model")
        offered.wait_for()
        assert CHECKPOINT in offered.inner_text() and "checkpoints" in offered.inner_text()
        offered.get_by_role("button", name="Download").first.wait_for()
        gestures.press_run(person.editor)
        page.get_by_test_id("error-group-execution").first.wait_for()
        page.wait_for_timeout(1000)
        said = " ".join(page.get_by_test_id("error-group-execution").all_inner_texts())
        assert "Load Checkpoint" in said and "ckpt_name" in said
        (refused,) = page.evaluate("Object.values(window.app.lastNodeErrors)")
        assert CHECKPOINT in refused["errors"][0]["details"] and not person.ran()
        loader = page.evaluate("window.app.graph.nodes.find(node => node.type === 'CheckpointLoaderSimple').id")
        gestures.look_at(person.editor, [loader])
        person.keep_picture("missing")
    finally:
        gestures.close_panel(person.editor)


DISCOVERING = """window.__events.some(([name, detail]) => name === 'progress' && detail.value > 2
    && window.app.graph.getNodeById(Number(detail.node))?.type === 'HSpaceDiscoverRegion')"""
LONG_DISCOVERY = """() => { const {graph} = window.app, {LiteGraph} = window;
    const [found, other] = graph.nodes.filter(node => node.type === 'HSpaceDiscoverRegion');
    const sheets = graph.nodes.filter(node => ['HSpaceDirectionAtlas', 'ImageStitch', 'SaveImage'].includes(node.type));
    for (const node of [other, ...sheets]) graph.remove(node);
    found.widgets.find(widget => widget.name === 'k').value = 24;
    const save = LiteGraph.createNode('HSpaceSaveDirections');
    graph.add(save); save.pos = [found.pos[0] + 600, found.pos[1]];
    save.widgets.find(widget => widget.name === 'name').value = 'cancelled';
    found.connect(0, save, save.inputs.findIndex(input => input.name === 'directions'));
    return found.id; }"""
"""One discovery of many directions, and its file. The sheets are left out: how many of their cells are rendered at once, and
so how they are rounded, depends on the memory that is free."""


def test_cancel_stops_a_long_discovery_and_the_next_run_is_as_if_it_had_not_been(person, quiet, record_property):
    page = person.page
    person.forget_results()
    gestures.choose_template(person.editor, "discover_region")
    gestures.look_at(person.editor, [page.evaluate(LONG_DISCOVERY)])
    gestures.press_run(person.editor)
    page.wait_for_function(DISCOVERING, timeout=120_000)
    person.keep_picture("cancel")
    began = time.monotonic()
    gestures.press_cancel(person.editor)
    page.wait_for_function("window.__events.some(([name]) => name === 'execution_interrupted')", timeout=60_000)
    record_property("seconds from Cancel to the end", round(time.monotonic() - began, 2))
    names = [name for name, _ in page.evaluate("window.__events")]
    assert not {"execution_error", "execution_success"} & set(names), "it was stopped, and did not come to its end"
    after, saved_after = _pictures_and_directions(person)
    person.forget_results()
    undisturbed, saved = _pictures_and_directions(person)
    assert after.keys() == undisturbed.keys() and "Render Trajectory" in after
    for title, pictures in undisturbed.items():
        assert all(np.array_equal(a, b) for a, b in zip(after[title], pictures, strict=True)), title
    assert saved.keys() == saved_after.keys()
    assert all(np.array_equal(saved[name], saved_after[name]) for name in saved)


def _pictures_and_directions(person):
    """Run; what is shown, and the tensors of the file that was written."""
    folder = person.server.process.models / "hspace_directions"
    person.editor.run(timeout=600)
    (file,) = folder.glob("cancelled*.safetensors")
    tensors = load_file(file)
    file.unlink()
    return person.pictures(), tensors


def test_a_reload_brings_back_graph_dials_and_pictures(person, quiet, record_property):
    """Turns a dial, loads the page anew: all is there, nothing was computed, and Run takes it from the cache."""
    page, editor = person.page, person.editor
    gestures.choose_template(editor, START_HERE)
    editor.run(timeout=300)
    page.locator(f"{PANEL} button").nth(1).wait_for(timeout=30_000)
    record_property("seconds from the turn of a dial to the exact picture", round(_turn_a_dial(person), 2))
    values, pixels, shown = page.evaluate(VALUES), page.evaluate(PIXELS), editor.pictures()
    runs, asked = len(person.server.get("/history")), []
    hear = lambda request: asked.append((request.method, request.url))  # noqa: E731
    page.on("request", hear)
    editor.reload()
    page.locator(f"{PANEL} button").nth(1).wait_for(timeout=30_000)
    page.wait_for_timeout(1500)
    page.remove_listener("request", hear)
    assert page.evaluate(VALUES) == values and page.evaluate(PIXELS) == pixels
    assert editor.pictures() == shown and {"Demo Face — Image", "Invert Image"} <= shown.keys()
    assert not [url for method, url in asked if method == "POST" and url.endswith("/prompt")]
    assert person.ran() == [] and len(person.server.get("/history")) == runs
    page.wait_for_timeout(1000)
    person.keep_picture("reload")
    editor.run(timeout=60)
    assert person.ran() == [], "all of it is served by the cache"
    page.wait_for_timeout(1000)
    assert page.evaluate(VALUES) == values and page.evaluate(PIXELS) == pixels


def _turn_a_dial(person) -> float:
    """One that is turned already, further; seconds until the exact picture is there."""
    page, before = person.page, json.dumps(person.page.evaluate(VALUES))
    person.editor.forget_events()
    page.locator(f"{PANEL} canvas").first.focus()
    began = time.monotonic()
    page.keyboard.press("PageUp")
    page.wait_for_function("window.__events.some(([name]) => name === 'execution_success')", timeout=60_000)
    page.wait_for_function(f"!document.querySelector('{PANEL} [aria-live]').textContent.includes('preview')")
    seconds = time.monotonic() - began
    print(f"exact picture {seconds:.2f} s after the turn of a dial")
    assert json.dumps(page.evaluate(VALUES)) != before
    assert person.ran() == [str(page.evaluate(f"{DIALS}.id"))], "a turn of a dial executes that node alone"
    return seconds
