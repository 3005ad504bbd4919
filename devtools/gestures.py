"""What a person does in the graph editor by mouse and keys, for tests that walk a person's way."""

from __future__ import annotations

import base64
import mimetypes
from collections.abc import Sequence
from pathlib import Path

from .console import ROOT
from .editor import Editor

SCREEN = {"width": 1920, "height": 1080}
SCREENSHOTS = ROOT / "output" / "journeys"
Point = tuple[float, float]
Box = tuple[int, int, int, int]
"""Left, top, width and height on the screen."""

_DROP = """([name, type, data, x, y]) => {
    const bytes = Uint8Array.from(atob(data), letter => letter.charCodeAt(0)), carried = new DataTransfer();
    carried.items.add(new File([bytes], name, {type}));
    const at = {clientX: x, clientY: y, bubbles: true, cancelable: true, dataTransfer: carried};
    const canvas = document.querySelector('#graph-canvas');
    for (const kind of ['dragover', 'drop']) canvas.dispatchEvent(new DragEvent(kind, at)); }"""
_IDS = "() => window.app.graph.nodes.map(node => node.id)"
_VALUE = "([id, name]) => window.app.graph.getNodeById(id).widgets.find(widget => widget.name === name).value"


def sit_down(editor: Editor, modern: bool) -> None:
    """Take a screen of the usual size, one of the renderers, and close panels that were left open."""
    editor.page.set_viewport_size(SCREEN)
    editor.use_nodes_2(modern)
    close_panel(editor)


def close_panel(editor: Editor) -> None:
    """Close the panel at the right side, which the editor keeps open from one visit to the next."""
    panel = editor.page.get_by_test_id("properties-panel")
    if panel.count() and panel.is_visible():
        panel.get_by_role("button", name="Toggle properties panel").click()
        panel.wait_for(state="hidden")


def choose_template(editor: Editor, name: str) -> None:
    """Open the template browser and click a workflow's card; the editor fits it into the window."""
    nodes = sorted(f"{node['id']} {node['type']}" for node in editor.template(name)["nodes"])
    editor.template_names()
    card = editor.page.get_by_test_id(f"template-workflow-{name}")
    card.scroll_into_view_if_needed()
    card.click()
    editor.wait_until_shown(nodes)
    editor.settled("() => [window.app.canvas.ds.scale, ...window.app.canvas.ds.offset]")


def drop_file(editor: Editor, file: Path, at: Point = (500, 900)) -> int:
    """Drag a file onto the empty canvas, which makes a node that loads it.

    Args:
        editor: the page.
        file: a picture.
        at: where on the screen it is let go.

    Returns:
        the id of the new node.
    """
    before = set(editor.page.evaluate(_IDS))
    kind = mimetypes.guess_type(file.name)[0]
    editor.page.evaluate(_DROP, [file.name, kind, base64.b64encode(file.read_bytes()).decode(), *at])
    editor.page.wait_for_function("count => window.app.graph.nodes.length > count", arg=len(before), timeout=20_000)
    (new,) = set(editor.page.evaluate(_IDS)) - before
    return new


def paint_mask(editor: Editor, node: int, strokes: Sequence[Sequence[Point]], thickness: int, turns: int = 0) -> None:
    """Open a node's picture in the mask editor, paint with the brush, and save.

    Args:
        editor: the page.
        node: id of a Load Image node.
        strokes: points in shares of the picture's width and height, as it lies after the turns.
        thickness: of the brush, in pixels of the screen.
        turns: how often the picture is turned by a quarter to the right first.
    """
    page = editor.page
    before = page.evaluate(_VALUE, [node, "image"])
    page.evaluate("id => window.app.canvas.selectNode(window.app.graph.getNodeById(id))", node)
    page.evaluate("() => window.app.extensionManager.command.execute('Comfy.MaskEditor.OpenMaskEditor')")
    canvas = page.locator("#maskEditorCanvasContainer canvas").first
    canvas.wait_for(timeout=20_000)
    page.wait_for_timeout(2000)  # the picture is loaded and fitted into the window by and by
    for _ in range(turns):
        page.get_by_title("Rotate Right").click()
        page.wait_for_timeout(800)
    brush = page.get_by_test_id("brush-thickness-input")
    brush.fill(str(thickness))
    brush.press("Tab")
    box = canvas.bounding_box()
    assert box is not None  # noqa: S101 - it has just been waited for
    for stroke in strokes:
        points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point, steps=8)
        page.mouse.up()
    page.get_by_role("button", name="Save").click()
    page.wait_for_function(f"given => ({_VALUE})(given.slice(0, 2)) !== given[2]", arg=[node, "image", before])
    canvas.wait_for(state="hidden")


def press_run(editor: Editor) -> None:
    """Press Run and wait for nothing."""
    editor.close_dialogs()
    editor.forget_events()
    editor.page.get_by_test_id("queue-button").first.click(timeout=8_000)


def press_cancel(editor: Editor) -> None:
    """Press the cross beside Run."""
    editor.page.get_by_role("button", name="Cancel current run").click(timeout=8_000)


def keep_picture(editor: Editor, name: str, part: Box | None = None) -> Path:
    """Keep what the screen shows, as it is, in ``output/journeys``.

    Args:
        editor: the page.
        name: of the file.
        part: of the screen; None: all of it.
    """
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    path = SCREENSHOTS / f"{name}.png"
    clip = dict(zip(("x", "y", "width", "height"), part, strict=True)) if part else None
    editor.page.screenshot(path=path, clip=clip, timeout=120_000)
    return path
