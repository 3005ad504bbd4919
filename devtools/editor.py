"""The real graph editor, driven in Chromium: for its tests, and for the command that takes saved workflows."""

from __future__ import annotations

import json
import math
import re
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from .browser import ensure_chromium
from .console import ROOT
from .host import LINK

PACK = LINK.name
SHOWN_AS = "HSpace"  # the name of the pack in the template browser, by locales/en/main.json
SCREENSHOTS = ROOT / "output" / "screenshots"
# Works as root and in containers; the last two keep the page on this machine.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--proxy-server=direct://",
    "--host-resolver-rules=MAP * ~NOTFOUND,EXCLUDE 127.0.0.1",
]
QUIET = 8  # times in a row, a tenth of a second apart
START = 180_000  # ms; generous, the page takes about ten seconds on one busy core
_READY = "window.app?.graph && window.app.extensionManager && Object.keys(window.LiteGraph?.registered_node_types ?? {}).length > 100"
# Width and height that a node takes below its title bar; one that is folded away has nothing below it.
ROOM = """node => { const drawn = document.querySelector(`[data-node-id="${node.id}"]`);
  if (!node.flags?.collapsed) return [node.size[0], node.size[1]];
  return drawn ? [drawn.offsetWidth, Math.max(0, drawn.offsetHeight - window.LiteGraph.NODE_TITLE_HEIGHT)] : [node._collapsed_width ?? node.size[0], 0]; }"""
_LISTEN = """() => {
  window.__events = [];
  for (const name of ['execution_start', 'execution_success', 'execution_error', 'execution_interrupted', 'execution_cached', 'executing', 'executed', 'progress'])
    window.app.api.addEventListener(name, event => window.__events.push([name, event.detail]));
}"""
_LOAD = "async graph => { await window.app.loadGraphData(graph); }"
_LOAD_API = "async ([prompt, name]) => { await window.app.loadApiJson(prompt, name); }"
_SHOWS = """nodes => JSON.stringify(nodes) ===
  JSON.stringify(window.app.graph.nodes.map(node => `${node.id} ${node.type}`).sort())"""
_LOADED = """() => [...window.app.graph.nodes].every(node => node.flags?.collapsed || window.LiteGraph.vueNodesMode
  || !window.app.nodeOutputs[node.id]?.images?.length || node.imgs?.length && node.imgs.every(image => image.complete && image.naturalWidth))
  && [...document.querySelectorAll('[data-node-id] img')].every(image => image.complete)"""
_FINISHED = "window.__events.some(event => ['execution_success', 'execution_error', 'execution_interrupted'].includes(event[0]))"


class Editor:
    """One page with the graph editor.

    Args:
        page: a new Playwright page.
        url: of the server.
    """

    def __init__(self, page: Page, url: str):
        self.page, self.url = page, url
        self.errors: list[str] = []
        self.outside: set[str] = set()
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: self._watch(request.url))

    def open(self, template: str | None = None) -> Editor:
        """Open the editor, with one of the pack's templates if named, and wait until it is ready."""
        query = "?" + urllib.parse.urlencode({"template": template, "source": PACK}) if template else ""
        self.page.goto(self.url + "/" + query, wait_until="domcontentloaded", timeout=START)
        self.page.wait_for_function(_READY, timeout=START)
        self.page.evaluate(_LISTEN)
        if template:
            # The start-up graph is replaced a moment after the editor is ready; it can have as many nodes.
            self.wait_until_shown(sorted(f"{node['id']} {node['type']}" for node in self.template(template)["nodes"]))
        self.close_dialogs()
        return self

    def reload(self) -> None:
        """Load the page anew, as a person does with F5; the editor opens the graph that was open."""
        nodes = self.page.evaluate("() => window.app.graph.nodes.map(node => `${node.id} ${node.type}`).sort()")
        self.page.reload(wait_until="domcontentloaded", timeout=START)
        self.page.wait_for_function(_READY, timeout=START)
        self.page.evaluate(_LISTEN)
        self.wait_until_shown(nodes)

    def wait_until_shown(self, nodes: list[str]) -> None:
        """Wait until the graph has these nodes alone; each is its id, a blank and its class, and they are sorted."""
        self.page.wait_for_function(_SHOWS, arg=nodes, timeout=60_000)

    def forget_events(self) -> None:
        """Listen anew for what runs."""
        self.page.evaluate("() => { window.__events.length = 0; }")

    def load(self, graph: dict) -> None:
        """Load a UI-format graph, as opening its file does."""
        self.page.evaluate(_LOAD, graph)

    def load_api(self, prompt: dict, name: str = "prompt") -> None:
        """Load an API-format prompt, as opening its file does."""
        self.page.evaluate(_LOAD_API, [prompt, name])

    def template(self, name: str) -> dict:
        """One of the pack's templates in the UI format, as the server gives it."""
        reply = self.page.request.get(f"{self.url}/api/workflow_templates/{PACK}/{name}.json")
        if not reply.ok:
            raise AssertionError(f"template {name} is not served: HTTP {reply.status}")
        return reply.json()

    def to_prompt(self) -> dict:
        """The API-format prompt that Run would send now."""
        return self.page.evaluate("async () => (await window.app.graphToPrompt()).output")

    def unknown_nodes(self) -> list[str]:
        """Classes in the graph that the editor has no node for."""
        return self.page.evaluate(
            "() => window.app.graph.nodes.map(node => node.type).filter(type => !(type in window.LiteGraph.registered_node_types))"
        )

    def run(self, timeout: float = 300) -> list[tuple[str, dict]]:
        """Press Run and wait for the end.

        Returns:
            the events of the run, ``(name, detail)``.

        Raises:
            AssertionError: a node failed, or the host refused the prompt.
        """
        self.close_dialogs()
        self.forget_events()
        self.page.get_by_test_id("queue-button").first.click(timeout=8_000)
        try:
            self.page.wait_for_function(_FINISHED, timeout=timeout * 1000)
        except Exception as error:
            raise AssertionError(
                f"Run did not finish in {timeout} s; the page says: {self.dialog_text()!r}; console: {self.errors[-3:]}"
            ) from error
        events = [(name, detail) for name, detail in self.page.evaluate("window.__events")]
        name, detail = next(
            event for event in events if event[0] in {"execution_success", "execution_error", "execution_interrupted"}
        )
        if name != "execution_success":
            raise AssertionError(f"{name}: {json.dumps(detail)[:2000]}")
        return events

    def pictures(self) -> dict[str, list[dict]]:
        """Node title to the files (``filename``, ``subfolder``, ``type``) that it shows."""
        return self.page.evaluate(
            """() => Object.fromEntries(window.app.graph.nodes
                .map(node => [node.title, window.app.nodeOutputs[node.id]?.images ?? []])
                .filter(([, images]) => images.length))"""
        )

    def overlaps(self) -> list[str]:
        """Pairs of nodes that cover each other, and nodes that stick out of the group they begin in, with their boxes."""
        return self.page.evaluate(
            f"""() => {{ const room = {ROOM}; """
            """const title = window.LiteGraph.NODE_TITLE_HEIGHT, found = [];
                const box = n => { const [w, h] = room(n); return [n.pos[0], n.pos[1] - title, n.pos[0] + w, n.pos[1] + h]; };
                const say = n => `${n.title} ${box(n).map(Math.round)}`;
                const nodes = window.app.graph.nodes;
                nodes.forEach((a, i) => nodes.slice(i + 1).forEach(b => { const p = box(a), q = box(b);
                    if (p[0] < q[2] && q[0] < p[2] && p[1] < q[3] && q[1] < p[3]) found.push(`${say(a)} over ${say(b)}`); }));
                for (const g of window.app.graph.groups) { const [x, y, w, h] = g.boundingRect;
                    for (const n of nodes) { const b = box(n);
                        if (b[0] >= x && b[1] >= y && b[0] < x + w && b[1] < y + h && (b[2] > x + w || b[3] > y + h))
                            found.push(`${say(n)} sticks out of ${g.title}`); } }
                return found; }"""
        )

    def sizes(self) -> dict[int, tuple[int, int]]:
        """Width and height of every node, without the title bar, rounded up to a multiple of 20."""
        found = self.settled(
            f"() => {{ const room = {ROOM}; return Object.fromEntries(window.app.graph.nodes.map(node => [node.id, room(node)])); }}"
        )
        return {
            int(id): (20 * math.ceil(width / 20), 20 * math.ceil(height / 20)) for id, (width, height) in found.items()
        }

    def settled(self, script: str) -> Any:
        """What a script of the page gives once it gives the same for half a second: nodes grow while they are drawn."""
        last, same = None, 0
        for _ in range(80):
            found = self.page.evaluate(script)
            same, last = (same + 1 if found == last else 0), found
            if same == QUIET:
                return found
            self.page.wait_for_timeout(100)
        raise AssertionError(f"the page does not come to rest: {str(last)[:500]}")

    def wait_for_pictures(self) -> None:
        """Wait until the pictures of the last run have been loaded; they come after its end."""
        with suppress(PlaywrightTimeout):  # what cannot be loaded stays away, and is seen to be missing
            self.page.wait_for_function(_LOADED, timeout=15_000)

    def use_nodes_2(self, on: bool) -> None:
        """Choose the renderer: Nodes 2.0, or the classic canvas."""
        self.page.evaluate("on => window.app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)", on)
        self.page.wait_for_timeout(500)

    def pretend(self, kinds: set[str], file: str) -> None:
        """Let nodes of these kinds show a picture of the input folder, as if they had run."""
        self.page.evaluate(
            """([kinds, filename]) => { for (const node of window.app.graph.nodes) if (kinds.includes(node.type))
                window.app.api.dispatchCustomEvent('executed', {node: String(node.id), display_node: String(node.id), prompt_id: 'pretended',
                    output: {images: [{filename, subfolder: '', type: 'input'}]}}); }""",
            [sorted(kinds), file],
        )

    def fit(self) -> float:
        """Fit the graph into the window; the zoom, 1 where a unit of the canvas is a pixel."""
        self.close_dialogs()
        self.page.evaluate("() => window.app.extensionManager.command.execute('Comfy.Canvas.FitView')")
        return self.settled("() => window.app.canvas.ds.scale")

    def template_names(self) -> str:
        """Open the template browser at the pack's entry; the text that it shows."""
        self.page.evaluate("() => window.app.extensionManager.command.execute('Comfy.BrowseTemplates')")
        content = self.page.get_by_test_id("template-workflows-content")
        content.wait_for(timeout=60_000)
        entry = self.page.get_by_role("dialog").get_by_text(re.compile(rf"^\s*{SHOWN_AS}\s*$")).first
        entry.click(timeout=60_000)
        self.page.wait_for_timeout(1500)
        return content.inner_text()

    def search(self, words: str) -> list[str]:
        """Ids of the nodes that the editor's search shows for ``words``, in its order."""
        return self.page.evaluate(
            """words => { const app = document.querySelector('#vue-app').__vue_app__.config.globalProperties;
                return app.$pinia._s.get('nodeDef').nodeSearchService.searchNode(words, [], {limit: 10}).map(node => node.name); }""",
            words,
        )

    def help_of(self, kind: str) -> str:
        """Put one node on an empty canvas, select it and press its help button; the page that opens, as text."""
        self.page.evaluate(
            """kind => { const app = window.app; app.graph.clear(); const node = window.LiteGraph.createNode(kind); app.graph.add(node);
                app.canvas.centerOnNode(node); app.canvas.setDirty(true, true); }""",
            kind,
        )
        self.page.wait_for_timeout(1000)
        x, y = self.page.evaluate(
            """() => { const canvas = window.app.canvas, node = window.app.graph.nodes[0], box = canvas.canvas.getBoundingClientRect();
                const at = canvas.ds.convertOffsetToCanvas([node.pos[0] + 80, node.pos[1] - 15]);
                return [at[0] + box.left, at[1] + box.top]; }"""
        )
        self.page.mouse.click(x, y)
        button = self.page.get_by_test_id("info-button").first
        button.click(timeout=8_000)
        content = self.page.locator(".node-help-content").first
        content.wait_for(timeout=8_000)
        self.page.wait_for_timeout(1000)
        return content.inner_text()

    def screenshot(self, name: str, fit: bool = True) -> Path:
        """Keep a picture of the page, the graph fitted into the window if asked for."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.evaluate("() => { window.app.canvas.min_font_size_for_lod = 0; }")  # texts at any zoom
        if fit:
            self.fit()
            self.page.wait_for_timeout(1000)
        path = SCREENSHOTS / f"{name}.png"
        self.page.screenshot(path=path, timeout=120_000)
        return path

    def close_dialogs(self) -> None:
        """Close what opens by itself on a first visit."""
        for _ in range(3):
            if not self.page.get_by_role("dialog").count():
                return
            self.page.keyboard.press("Escape")
            self.page.wait_for_timeout(400)

    def dialog_text(self) -> str:
        """What open dialogs say."""
        return " ".join(self.page.get_by_role("dialog").all_inner_texts())[:1000]

    def _watch(self, url: str) -> None:
        if not url.startswith((self.url, "data:", "blob:")):
            self.outside.add(url)


@contextmanager
def launch_chromium() -> Iterator[Browser]:
    """A headless Chromium that stays on this machine."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(ensure_chromium()), headless=True, args=FLAGS, timeout=120_000
        )
        yield browser
        browser.close()


@contextmanager
def open_page(browser: Browser, url: str) -> Iterator[Editor]:
    """A fresh page, opened at the graph editor."""
    context = browser.new_context(viewport={"width": 2400, "height": 1500}, base_url=url)
    try:
        yield Editor(context.new_page(), url).open()
    finally:
        context.close()


@contextmanager
def open_editor(url: str) -> Iterator[Editor]:
    """The graph editor of a server, in a browser of its own."""
    with launch_chromium() as browser, open_page(browser, url) as editor:
        yield editor
