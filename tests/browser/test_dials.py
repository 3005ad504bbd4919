"""Edit Image by Dials in the real editor, in both renderers: it follows the mouse and keys, and runs once when let go."""

import json

import pytest

from devtools.editor import open_page

NODE = "window.app.graph.nodes.find(node => node.comfyClass === 'HSpaceDials')"
VALUES = f"() => Object.fromEntries({NODE}.widgets.filter(w => w.name.startsWith('dial_')).map(w => [w.name, w.value]))"
LABELS = f"() => {NODE}.widgets.filter(w => w.name.startsWith('dial_') && !w.hidden).map(w => w.label)"
PIXELS = """() => { const canvas = document.querySelector('.hspace-dials canvas');
    return Array.from(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data); }"""
STATUS = ".hspace-dials [aria-live]"
NAMES = ["lip shade", "smile", "one corner", "lip colour", "parted"]
FIRST, TURNED = 1, "dial_2"
"""The dial that the picture moves at first, and the one at which the workflow opens with an edit."""


class Page:
    """The shipped workflow, opened and run once."""

    def __init__(self, editor, is_vue: bool):
        self.editor, self.page, self.is_vue = editor, editor.page, is_vue
        setting = "on => window.app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)"
        self.page.evaluate(setting, is_vue)
        editor.load(editor.template("01_start_here"))
        self.page.evaluate("() => { const ds = window.app.canvas.ds; ds.scale = 1; ds.offset = [90, 90]; }")
        editor.run(timeout=300)
        self.page.locator(".hspace-dials button").nth(1).wait_for(timeout=30_000)
        self.wait_until_quiet()

    def wait_until_quiet(self, still: int = 2500) -> None:
        """Wait until the editor has asked for nothing for so many ms: it lists the run's pictures by and by."""
        asked: list = []
        hear = lambda request: asked.append(request.url)  # noqa: E731
        self.page.on("request", hear)
        while True:
            before = len(asked)
            self.page.wait_for_timeout(still)
            if len(asked) == before:
                break
        self.page.remove_listener("request", hear)

    def status(self) -> str:
        return self.page.locator(STATUS).inner_text()

    def values(self) -> dict[str, float]:
        return self.page.evaluate(VALUES)

    def pixels(self) -> list[int]:
        return self.page.evaluate(PIXELS)

    def picture(self) -> tuple[float, float, float]:
        """The middle of the picture, and its width."""
        box = self.page.locator(".hspace-dials canvas").first.bounding_box()
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, box["width"]

    def after_run(self) -> list[str]:
        """Wait for the end of a run; the nodes that were executed."""
        self.page.wait_for_function("window.__events.some(event => event[0] === 'execution_success')", timeout=60_000)
        self.page.wait_for_function(f"!document.querySelector('{STATUS}').textContent.includes('preview')")
        return self.page.evaluate("[...new Set(window.__ran)]")

    def forget(self) -> None:
        """Listen anew for what runs."""
        self.page.evaluate(
            """() => { window.__events.length = 0; window.__ran = [];
                if (!window.__hears) window.app.api.addEventListener('executing', e => { if (e.detail) window.__ran.push(String(e.detail)); });
                window.__hears = true; }"""
        )


@pytest.fixture(scope="module", params=[False, True], ids=["classic", "nodes 2.0"])
def dials(request, chromium, server):
    with open_page(chromium, server.url) as editor:
        yield Page(editor, request.param)


def test_it_opens_with_the_picture_alone_and_named_sliders(dials):
    page = dials.page
    assert page.evaluate(LABELS) == NAMES
    shown = page.evaluate(f"() => {NODE}.widgets.map(w => w.name)")
    assert "picture" in shown and not [name for name in shown if "preview" in name]
    assert page.locator(".hspace-dials").count() == 1
    if dials.is_vue:
        node = page.locator("[data-node-id]").filter(has=page.locator(".hspace-dials"))
        assert node.locator("img").count() == 0
        text = node.inner_text()
        assert "parted" in text and "dial_6" not in text and "#6" not in text
    assert dials.picture()[2] > 300
    assert dials.editor.screenshot(f"dials_{'vue' if dials.is_vue else 'classic'}", fit=False).stat().st_size > 50_000
    assert not dials.editor.overlaps()


def test_dragging_the_picture_asks_the_server_for_nothing_and_letting_go_runs_once(dials):
    page, asked = dials.page, []
    page.locator(".hspace-dials button").nth(1 + FIRST).click()
    dials.wait_until_quiet()
    before, start = dials.pixels(), dials.values()[TURNED]
    x, y, width = dials.picture()
    dials.forget()
    hear = lambda request: asked.append(request.url)  # noqa: E731
    page.on("request", hear)
    page.mouse.move(x, y)
    page.mouse.down()
    for k in range(1, 9):
        page.mouse.move(x - k * width / 40, y)
    page.wait_for_timeout(800)
    dragged, text, moved, ran = dials.pixels(), dials.status(), dials.values()[TURNED], page.evaluate("window.__ran")
    page.remove_listener("request", hear)
    page.mouse.up()  # before anything is judged: a button that stays down would fail all tests behind this one
    assert asked == [] and ran == [], page.evaluate("JSON.stringify(window.app.nodeOutputs)")
    assert moved == pytest.approx(start - 0.8, abs=0.06) and "preview" in text
    ran = dials.after_run()
    exact = dials.pixels()
    assert ran == [str(page.evaluate(f"() => {NODE}.id"))]
    page.wait_for_timeout(1200)
    names = [name for name, _ in page.evaluate("window.__events")]
    assert names.count("execution_start") == 1
    change = sum(abs(a - b) for a, b in zip(exact, before, strict=True))
    missed = sum(abs(a - b) for a, b in zip(exact, dragged, strict=True))
    assert missed < 0.4 * change


def test_keys_turn_the_dial_and_show_the_original(dials):
    page = dials.page
    dials.forget()
    picture = page.locator(".hspace-dials canvas").first
    picture.focus()
    before, shown = dials.values()[TURNED], dials.pixels()
    page.keyboard.down(" ")
    original = dials.pixels()
    assert dials.status() == "original" and original != shown
    page.keyboard.up(" ")
    assert dials.pixels() == shown
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("PageDown")
    assert dials.values()[TURNED] == pytest.approx(before - 0.3)
    label = picture.get_attribute("aria-label")
    assert f"smile {before - 0.3:.2f}" in label and "lip shade 0.00" in label
    assert dials.after_run()
    dials.forget()
    page.locator(".hspace-dials button").first.click()  # the button does as Space
    assert dials.pixels() == original
    page.locator(".hspace-dials button").first.click()
    picture.focus()
    page.keyboard.press("Home")
    dials.after_run()
    assert dials.values()[TURNED] == 0 and dials.pixels() == original


def test_the_slider_of_the_host_moves_the_picture(dials):
    page = dials.page
    dials.forget()
    before = dials.pixels()
    if dials.is_vue:
        page.locator("[data-node-id]").filter(has=page.locator(".hspace-dials")).get_by_role("slider").first.focus()
        for _ in range(10):
            page.keyboard.press("ArrowRight")
    else:
        x, y, wide = page.evaluate(
            f"""() => {{ const node = {NODE}, canvas = window.app.canvas, box = canvas.canvas.getBoundingClientRect();
                const at = canvas.ds.convertOffsetToCanvas([node.pos[0] + node.size[0] / 2, node.pos[1] + node.widgets[0].y + 10]);
                return [at[0] + box.left, at[1] + box.top, node.size[0]]; }}"""
        )
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + wide / 12, y, steps=6)
        assert "preview" in dials.status()
        page.mouse.up()
    dials.after_run()
    assert 0.3 < dials.values()["dial_1"] < 1.0 and dials.pixels() != before
    assert dials.status().startswith("lip shade")


def test_values_and_names_survive_saving_and_loading(dials):
    page = dials.page
    saved, values = page.evaluate("() => window.app.graph.serialize()"), dials.values()
    (node,) = [node for node in saved["nodes"] if node["type"] == "HSpaceDials"]
    assert node["widgets_values"][:8] == list(values.values()) and len(node["widgets_values"]) == 12
    prompt = dials.editor.to_prompt()
    (sent,) = [entry["inputs"] for entry in prompt.values() if entry["class_type"] == "HSpaceDials"]
    assert {name: sent[name] for name in values} == values and "picture" not in sent
    dials.editor.load(json.loads(json.dumps(saved)))
    assert dials.values() == values and page.evaluate(LABELS) == NAMES
    dials.forget()
    dials.editor.run(timeout=60)
    page.locator(".hspace-dials button").nth(1).wait_for(timeout=30_000)
    assert page.locator(".hspace-dials").count() == 1
    assert not [error for error in dials.editor.errors if "hspace" in error.lower()]


def test_the_picture_is_there_again_after_another_tab(dials):
    page = dials.page
    run = "name => window.app.extensionManager.command.execute(name)"
    picture, values = dials.pixels(), dials.values()
    page.evaluate(run, "Comfy.NewBlankWorkflow")
    page.wait_for_function(f"!({NODE})")
    page.evaluate(run, "Workspace.PreviousOpenedWorkflow")
    page.wait_for_function(f"Boolean({NODE})")
    page.locator(".hspace-dials button").nth(1).wait_for(timeout=20_000)
    page.wait_for_timeout(500)
    assert dials.values() == values and dials.pixels() == picture
