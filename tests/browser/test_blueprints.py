"""The subgraphs of the pack as the editor offers them: found by search, placed, wired by three sockets, run."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from devtools import blueprints

NAMES = blueprints.names()
REGION = {"model": ("HSpaceLoadFaceModel", "model"), "mask": ("HSpaceDemoFace", "mouth")}
TEXT = {name: ("HSpaceLoadFaceTextModel", name) for name in ("model", "clip", "vae")}
SOURCES = {
    "Find": REGION | {"image": ("HSpaceDemoFace", "image")},
    "Edit": TEXT | {"image": ("HSpaceDemoFace", "image")},
    "Morph": TEXT | {"first": ("HSpaceDemoFace", "image"), "second": ("HSpaceDemoFace", "image")},
    "Photo": REGION | {"photo": ("HSpaceDemoFace", "image")},
}
"""First word of the name -> what is wired into its sockets: a node of the pack and its output."""


LISTED = """name => document.querySelector('#vue-app').__vue_app__.config.globalProperties.$pinia._s.get('subgraph')
    .subgraphBlueprints.some(node => node.display_name === name)"""


@pytest.fixture(scope="module")
def facts(server):
    return server.get("/object_info")


def test_all_four_are_there():
    assert {name.split()[0] for name in NAMES} == set(SOURCES)


@pytest.mark.parametrize("name", NAMES)
def test_the_file_is_a_blueprint_and_the_server_gives_it(server, facts, name):
    text = (blueprints.FOLDER / f"{name}.json").read_text(encoding="utf-8")
    graph = json.loads(text)
    assert list(blueprints.find_blueprint_faults(graph, facts)) == []
    assert text == blueprints.write_blueprint(graph, name)
    (entry,) = [key for key, entry in server.get("/global_subgraphs").items() if entry["name"] == name]
    assert json.loads(server.get(f"/global_subgraphs/{entry}")["data"]) == graph


@pytest.mark.parametrize("words", ["edit region", "text edit", "morph", "edit photo", "real image"])
def test_the_search_finds_a_blueprint_by_its_words(shared_editor, words):
    found = shared_editor.page.evaluate(
        """words => { const pinia = document.querySelector('#vue-app').__vue_app__.config.globalProperties.$pinia;
            return pinia._s.get('nodeDef').nodeSearchService.searchNode(words, [], {limit: 40}).map(node => node.display_name); }""",
        words,
    )
    assert set(found) & set(NAMES), found


@pytest.mark.sweep("")
@pytest.mark.parametrize("modern", [False, True], ids=["classic", "nodes 2.0"])
@pytest.mark.parametrize("name", NAMES)
def test_it_is_placed_wired_and_runs(shared_editor, server, name, modern):
    editor = shared_editor.open()  # afresh: the editor keeps values of widgets by the number of their node
    editor.use_nodes_2(modern)
    try:
        place_and_wire(editor, name)
        editor.run(timeout=900)
        pictures = editor.pictures()
        assert editor.screenshot(f"blueprint_{name.split()[0].lower()}_{'nodes2' if modern else 'classic'}")
        (shown,) = [files for title, files in pictures.items() if title == "Preview Image"]
        result = np.asarray(Image.open(io.BytesIO(server.view(shown[0]))).convert("RGB"), dtype=float)
        assert result.shape == (64, 64, 3) and result.std() > 10
    finally:
        editor.use_nodes_2(False)


def place_and_wire(editor, name: str) -> None:
    """Put a blueprint on an empty canvas as its entry in the list of nodes does, and wire its sockets."""
    editor.page.wait_for_function(LISTED, arg=name, timeout=60_000)
    editor.page.evaluate(
        """async ([name, sources]) => {
            const app = window.app, pinia = document.querySelector('#vue-app').__vue_app__.config.globalProperties.$pinia;
            const entry = pinia._s.get('subgraph').subgraphBlueprints.find(node => node.display_name === name);
            const blueprint = pinia._s.get('subgraph').getBlueprint(entry.name);
            app.graph.clear();
            const made = app.canvas._deserializeItems({nodes: blueprint.nodes, subgraphs: blueprint.definitions.subgraphs}, {position: [700, 0]});
            const [node] = made.nodes.values();
            const outer = {};
            for (const [socket, [kind, output]] of Object.entries(sources)) {
                const key = kind + (socket === 'second' ? ' 2' : '');
                if (!outer[key]) { outer[key] = window.LiteGraph.createNode(kind); app.graph.add(outer[key]); outer[key].pos = [0, 700 * (Object.keys(outer).length - 1)];
                    if (socket === 'second') outer[key].widgets.find(widget => widget.name === 'seed').value = 9; }
                const from = outer[key].outputs.findIndex(slot => slot.name === output), to = node.inputs.findIndex(slot => (slot.label ?? slot.name) === socket);
                if (from < 0 || to < 0) throw Error(`${socket}: ${node.inputs.map(slot => slot.label ?? slot.name)}; ${outer[key].outputs.map(slot => slot.name)}`);
                outer[key].connect(from, node, to); }
            const show = window.LiteGraph.createNode('PreviewImage'); app.graph.add(show); show.pos = [1300, 0];
            const result = node.outputs.findIndex(slot => ['edited', 'frames', 'photo'].includes(slot.label ?? slot.name));
            node.connect(result, show, 0); }""",
        [name, SOURCES[name.split(maxsplit=1)[0]]],
    )
