"""The shipped workflows as files: every node is in one, each is what the host takes, and the tool that takes new ones sees faults."""

import copy
import json

import pytest
from PIL import Image

from devtools import blueprints, thumbnails
from devtools.console import ROOT
from devtools.demo import names_of
from devtools.workflow_form import find_faults, find_name_fault, read_graph, write_graph, write_prompt
from devtools.workflow_names import PACK_ID, find_title_faults, stamp, version

FOLDER = ROOT / "workflows"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
NOTES = {"MarkdownNote", "Note"}


def read(path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def facts(server):
    return server.get("/object_info")


@pytest.fixture
def prompt():
    return copy.deepcopy(read(FOLDER / "api" / "discover_region.json"))


def numbered(prompt: dict, title: str) -> dict:
    (entry,) = [entry for entry in prompt.values() if title in names_of(entry)]
    return entry


def test_every_node_is_in_a_workflow(facts):
    used = {entry["class_type"] for name in NAMES for entry in read(FOLDER / "api" / f"{name}.json").values()}
    ours = {kind for kind, fact in facts.items() if kind.startswith("HSpace") and not kind.startswith("HSpaceTest")}
    assert ours and sorted(ours - used) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_workflow_is_whole(facts, name):
    text, api = (FOLDER / f"{name}.json").read_text(encoding="utf-8"), FOLDER / "api" / f"{name}.json"
    graph, prompt = read_graph(text), read(api)
    assert find_name_fault(name) == ""
    assert find_faults(prompt, facts) == []
    assert {str(node["id"]): node["type"] for node in graph["nodes"] if node["type"] not in NOTES} == {
        number: entry["class_type"] for number, entry in prompt.items()
    }
    assert text == write_graph(graph) and api.read_text(encoding="utf-8") == write_prompt(prompt)
    assert Image.open(FOLDER / f"{name}.jpg").size == thumbnails.SIZE


def test_no_file_is_left_behind():
    assert (
        {path.stem for path in (FOLDER / "api").iterdir()} == set(NAMES) == {path.stem for path in FOLDER.glob("*.jpg")}
    )


def test_a_thumbnail_keeps_the_aspect_of_its_pictures():
    square, wide = Image.new("RGB", (64, 64), "red"), Image.new("RGB", (2400, 800), "blue")
    sheet = thumbnails.arrange([square, wide])
    assert sheet.size == thumbnails.SIZE
    for channel, aspect in ((0, 1), (2, 3)):
        dark_elsewhere = sheet.split()[2 - channel].point(lambda v: 255 if v < 128 else 0)
        left, top, right, bottom = dark_elsewhere.getbbox()
        assert (right - left) / (bottom - top) == pytest.approx(aspect, rel=0.02)


FAULTS = {
    "knows no node HSpaceNothing": lambda p: numbered(p, "Steer").update(class_type="HSpaceNothing"),
    "directions is missing": lambda p: numbered(p, "Steer")["inputs"].pop("directions"),
    "it has no input volume": lambda p: numbered(p, "Steer")["inputs"].update(volume=1),
    "steps is 0, outside of 1": lambda p: numbered(p, "Sigmas")["inputs"].update(steps=0),
    "steps is 2.5, not a number": lambda p: numbered(p, "Sigmas")["inputs"].update(steps=2.5),
    "not one of generalized": lambda p: numbered(p, "Discover Region Directions — mouth")["inputs"].update(mode="best"),
    "title is 3, not string": lambda p: numbered(p, "Direction Atlas — mouth")["inputs"].update(title=3),
    "takes MODEL and is linked to VAE": lambda p: numbered(p, "Steer")["inputs"].update(model=["1", 1]),
    "output 7 of node 1, which is not there": lambda p: numbered(p, "Steer")["inputs"].update(model=["1", 7]),
    "output 0 of node 99, which is not there": lambda p: numbered(p, "Steer")["inputs"].update(model=["99", 0]),
}


@pytest.mark.parametrize("said", FAULTS)
def test_a_fault_is_found_and_named(facts, prompt, said):
    FAULTS[said](prompt)
    faults = find_faults(prompt, facts)
    assert any(said in fault for fault in faults), faults


@pytest.mark.parametrize(
    "name", ["02_start_here", "mouth", "Discover_mouth", "discover mouth", "discover-mouth", "smile_asyrp", "discover"]
)
def test_names_begin_with_a_stage(name):
    assert find_name_fault(name)


@pytest.mark.parametrize("name", NAMES)
def test_titles_keep_the_name_of_the_node_and_nodes_name_their_pack(facts, name):
    graph = read_graph((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    assert list(find_title_faults(graph, facts)) == []
    assert stamp(graph) == graph, "run python dev.py workflow layout"
    ours = [node["properties"] for node in graph["nodes"] if node["type"].startswith("HSpace")]
    assert ours and all(facts["cnr_id"] == PACK_ID and facts["ver"] == version() for facts in ours)


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_that_is_missing_can_be_downloaded_from_the_editor(name):
    """The editor offers a file of these places, and only while the choice of the node is that file."""
    graph = read(FOLDER / f"{name}.json")
    for node in graph["nodes"]:
        if node["type"] == "CheckpointLoaderSimple":
            (file,) = node["properties"]["models"]
            assert file["name"] == node["widgets_values"][0] and file["directory"] == "checkpoints"
            assert file["url"].startswith("https://huggingface.co/") and file["url"].endswith("/" + file["name"])


@pytest.mark.parametrize(
    ("title", "faulty"),
    [("Steer", False), ("Steer — a smile", False), ("A smile", True), ("Steering", True), ("Invert Image — it", True)],
)
def test_a_title_without_the_node_s_name_is_a_fault(facts, title, faulty):
    graph = {"nodes": [{"id": 3, "type": "HSpaceSteer", "title": title}]}
    assert bool(list(find_title_faults(graph, facts))) == faulty


def test_a_prompt_is_no_graph():
    with pytest.raises(ValueError, match="no graph of the editor"):
        read_graph((FOLDER / "api" / "discover_region.json").read_text(encoding="utf-8"))


def test_the_window_is_no_part_of_a_graph():
    graph = {
        "id": "a",
        "revision": 3,
        "nodes": [],
        "links": [],
        "extra": {"ds": {"scale": 2}, "frontendVersion": "1", "reroutes": [1]},
    }
    assert read_graph(json.dumps(graph)) == {"nodes": [], "links": [], "extra": {"reroutes": [1]}}


@pytest.fixture
def blueprint():
    return read(blueprints.FOLDER / f"{blueprints.names()[0]}.json")


BLUEPRINT_FAULTS = {
    "the graph has 2 nodes": lambda g: g["nodes"].append(g["nodes"][0]),
    "and 0 subgraphs": lambda g: g["definitions"].update(subgraphs=[]),
    "knows no node HSpaceNothing": lambda g: inner(g)["nodes"][0].update(type="HSpaceNothing"),
    "call it": lambda g: inner(g)["nodes"][0].update(title="Something"),
    "no description": lambda g: inner(g).pop("description"),
    "the socket 'IMAGE' is no name": lambda g: inner(g)["outputs"][0].update(name="IMAGE", label="IMAGE"),
    "no output leads out": lambda g: inner(g).update(outputs=[]),
}


def inner(graph: dict) -> dict:
    return graph["definitions"]["subgraphs"][0]


@pytest.mark.parametrize("said", BLUEPRINT_FAULTS)
def test_a_fault_of_a_blueprint_is_found_and_named(facts, blueprint, said):
    assert list(blueprints.find_blueprint_faults(blueprint, facts)) == []
    BLUEPRINT_FAULTS[said](blueprint)
    assert any(said in fault for fault in blueprints.find_blueprint_faults(blueprint, facts))
