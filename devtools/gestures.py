"""What a person does in the graph editor by mouse and keys, for tests that walk a person's way."""

from __future__ import annotations

import base64
import mimetypes
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .console import ROOT
from .editor import Editor
from .layout import SCREEN

if TYPE_CHECKING:
    from playwright.sync_api import FloatRect

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
_STORE = "document.querySelector('#vue-app').__vue_app__.config.globalProperties.$pinia._s.get('subgraph')"
_LISTED = f"name => {_STORE}.subgraphBlueprints.some(node => node.display_name === name)"
_PLACE = f"""([name, position]) => {{ const store = {_STORE};
    const blueprint = store.getBlueprint(store.subgraphBlueprints.find(node => node.display_name === name).name);
    const given = {{nodes: blueprint.nodes, subgraphs: blueprint.definitions.subgraphs}};
    const [node] = window.app.canvas._deserializeItems(given, {{position}}).nodes.values(); return node.id; }}"""
_ADD = """([kind, position]) => { const node = window.LiteGraph.createNode(kind);
    window.app.graph.add(node); node.pos = position;
    return node.id; }"""
_SET = """([id, values]) => { const node = window.app.graph.getNodeById(id);
    for (const [name, value] of Object.entries(values)) { const widget = node.widgets.find(one => one.name === name);
        widget.value = value; widget.callback?.(value); } }"""
_CONNECT = """([source, output, target, socket]) => {
    const {graph} = window.app, from = graph.getNodeById(source), to = graph.getNodeById(target);
    const named = slot => slot.label ?? slot.name;
    const place = (slots, name) => slots.findIndex(slot => named(slot) === name);
    const out = place(from.outputs, output), into = place(to.inputs, socket);
    if (out < 0 || into < 0) throw Error(`${from.outputs.map(named)} to ${to.inputs.map(named)}`);
    from.connect(out, to, into); }"""
_REMOVE_BEFORE = """([id, sockets]) => { const {graph} = window.app, seen = new Set();
    const follow = node => { if (!node || seen.has(node)) return; seen.add(node);
        node.inputs.forEach((_, i) => follow(node.getInputNode(i))); };
    const node = graph.getNodeById(id);
    node.inputs.forEach((slot, i) => { if (sockets.includes(slot.name)) follow(node.getInputNode(i)); });
    for (const one of seen) graph.remove(one); }"""
_LOOK = """([ids, zoom]) => { const {canvas, graph} = window.app;
    canvas.deselectAll();
    const boxes = ids.map(id => graph.getNodeById(id).boundingRect), middle = axis => { const edges = boxes.flatMap(
        box => [box[axis], box[axis] + box[axis + 2]]); return (Math.min(...edges) + Math.max(...edges)) / 2; };
    canvas.ds.scale = zoom;
    canvas.ds.offset = [innerWidth / 2 / zoom - middle(0), innerHeight / 2 / zoom - middle(1)];
    canvas.setDirty(true, true); }"""
_VALUE = "([id, name]) => window.app.graph.getNodeById(id).widgets.find(widget => widget.name === name).value"


def sit_down(editor: Editor, modern: bool) -> None:
    """Take a screen of the usual size, one of the renderers, and close panels that were left open."""
    editor.page.set_viewport_size({"width": SCREEN[0], "height": SCREEN[1]})
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
    editor.page.wait_for_timeout(1000)  # a person's pace: the editor stays blocked if two files come at once
    editor.page.wait_for_function("!document.querySelector('.p-blockui-mask')", timeout=20_000)
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
    clip: FloatRect | None = None
    if part:
        x, y, width, height = part
        clip = {"x": x, "y": y, "width": width, "height": height}
    editor.page.screenshot(path=path, clip=clip, timeout=120_000)
    return path


def place_blueprint(editor: Editor, name: str, at: Point) -> int:
    """Put one of the pack's subgraphs onto the canvas, as its entry in the list of nodes does.

    Args:
        editor: the page.
        name: of the blueprint's file.
        at: where on the canvas.

    Returns:
        the id of the node.
    """
    editor.page.wait_for_function(_LISTED, arg=name, timeout=60_000)
    return editor.page.evaluate(_PLACE, [name, list(at)])


def add_node(editor: Editor, kind: str, at: Point, **values: object) -> int:
    """Put a node onto the canvas and set widgets of it.

    Args:
        editor: the page.
        kind: class of the node.
        at: where on the canvas.
        values: of widgets, by name.

    Returns:
        its id.
    """
    node = editor.page.evaluate(_ADD, [kind, list(at)])
    set_values(editor, node, **values)
    return node


def set_values(editor: Editor, node: int, **values: object) -> None:
    """Set widgets of a node, by their names."""
    editor.page.evaluate(_SET, [node, values])


def connect(editor: Editor, source: int, output: str, target: int, socket: str) -> None:
    """Draw a link from an output of one node to an input of another, by the names that the editor shows."""
    editor.page.evaluate(_CONNECT, [source, output, target, socket])


def remove_before(editor: Editor, node: int, sockets: Sequence[str]) -> None:
    """Delete the nodes that some inputs of a node hang on, and those before them."""
    editor.page.evaluate(_REMOVE_BEFORE, [node, list(sockets)])


def look_at(editor: Editor, nodes: Sequence[int], zoom: float = 1.0) -> None:
    """Scroll so that some nodes are in the middle of the screen, at a zoom of 1 unless another is asked for."""
    editor.page.evaluate(_LOOK, [list(nodes), zoom])
    editor.page.wait_for_timeout(1500)  # drawn, and pictures loaded
