"""The pack inside a real ComfyUI: it loads, shows its nodes and leaves the server usable."""

import ast
import re
import urllib.error
from pathlib import Path

import pytest

from devtools.client import ExecutionFailed, PromptRefused
from devtools.host import LINK

ROOT = Path(__file__).resolve().parents[2]
PACK = "ComfyUI-HSpace"
NODE_IDS = {
    f"HSpace{name}"
    for name in """
    ApplyRectifier AsyrpLevels BaselineDirections BasisDirections CheckModel ClipEmbedder CombineDirections
    ConceptEditGuider DeltaEdit DemoFace DemoPhoto Dials DiffAESteps DirectionAtlas DiscoverRegion EditConcept
    EditDial EditFriendlyInversion EditMetrics EditState EncodeCode FitImageLora FitLatentSVD FitPhoto FlowEdit
    GlobalDirections
    InjectFeatures InterpolateCodes IntoDomain InvertImage LatentSVD LoadAsyrp LoadDeltaMapper LoadDiffAE
    LoadDiffusionCLIP LoadDirections LoadFaceDiffAE LoadFaceEmbedder LoadFaceModel LoadFaceTextModel
    LoadFineTuned LoadHeads LoadPada LoadPixelModel LoadRectifier LoadTrained ManipulateCode MeanDifference
    MeanTrained MeasureEdit MixCodeLevels MixLatentSVD MorphFrames NullTextOptimise P2PBlendMask P2PLocalBlend
    PadaAge PairConditioning PairLatent PasteBack PerceptualReschedule PromptToPrompt ProximalCFG RecolourEditFriendly
    RegionBasis RenderTrajectory ResumeTrajectory SDEditRepeat SDEditSigmas SampleCodes SampleEditFriendly
    SampleExactInversion SaveDirections SaveTrained SelectDirections SplitPair Steer SteerFineTuned
    SteerTrained TrackDirections TrainAsyrp TrainDeltaMapper TrainDiffusionCLIP TrainHeads TrainPada
    TrainRectifier TrainRectifierEdit TransportDirections VaryNoise WordMask
""".split()
}
"""Saved workflows name nodes by these: none may go, and a new one is written in here."""
PICTURE = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 48, "batch_size": 1, "color": 0x336699}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "plain"}},
}


def declared_ids() -> set[str]:
    """Every literal node_id in the sources of nodes/."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "nodes").rglob("*.py"))]
    keywords = [
        word for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call) for word in node.keywords
    ]
    return {word.value.value for word in keywords if word.arg == "node_id" and isinstance(word.value, ast.Constant)}


@pytest.fixture(scope="module")
def pack(server) -> dict[str, dict]:
    """The pack's nodes as the graph editor sees them."""
    return {name: info for name, info in server.object_info().items() if info.get("python_module", "").endswith(PACK)}


def test_pack_is_imported(server):
    server.process.check_pack()
    assert f"seconds: {LINK}" in server.log


def test_every_declared_node_is_offered(pack):
    assert declared_ids(), "nodes/ declares no node"
    assert set(pack) == declared_ids() == NODE_IDS
    assert all(name.startswith("HSpace") for name in pack)


def test_menus_are_the_folders_and_short():
    """A person who reads a menu finds the file, and no menu holds more than about a dozen nodes."""
    menus: dict[str, int] = {}
    for path in sorted((ROOT / "nodes").rglob("*.py")):
        folder = "HSpace/" + path.parent.relative_to(ROOT / "nodes").as_posix()
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for word in getattr(call, "keywords", ()):
                if isinstance(call, ast.Call) and word.arg == "category" and isinstance(word.value, ast.Constant):
                    menu = word.value.value
                    # What was trained has a menu of its own below that of all loaders.
                    assert menu in (folder, f"{folder}/trained"), f"{path}: {menu}"
                    menus[menu] = menus.get(menu, 0) + 1
    assert sum(menus.values()) == len(declared_ids())
    assert max(menus.values()) <= 13, menus


def test_nodes_explain_themselves(server, pack):
    silent = []
    assert pack
    for name, info in pack.items():
        if not info["category"].startswith("HSpace/"):
            silent.append(f"{name}: category {info['category']}")
        if not info["description"]:
            silent.append(f"{name}: no description")
        for kind in ("required", "optional"):
            for entry, (_, *options) in info["input"].get(kind, {}).items():
                if not (options and options[0].get("tooltip")):
                    silent.append(f"{name}.{entry}: no tooltip")
        try:
            if len(server.fetch(f"/extensions/{PACK}/docs/{name}.md")) < 200:
                silent.append(f"{name}: the help page says almost nothing")
        except urllib.error.HTTPError as error:
            silent.append(f"{name}: no help page ({error})")
    assert not silent, "\n".join(silent)


def test_help_pages_name_every_input(server, pack):
    """In bold, by what the editor shows."""
    unsaid = []
    for name, info in pack.items():
        page = server.fetch(f"/extensions/{PACK}/docs/{name}.md").decode()
        bold = set(re.findall(r"\w+", " ".join(re.findall(r"\*\*([^*]+)\*\*", page))))
        entries = [entry for kind in ("required", "optional") for entry in info["input"].get(kind, {}).items()]
        labels = [(options[0] if options else {}).get("display_name") or entry for entry, (_, *options) in entries]
        unsaid += [f"{name}: {label}" for label in labels if not set(re.findall(r"\w+", label)) <= bold]
    assert not unsaid, "\n".join(unsaid)


def test_templates_are_offered_with_their_pictures(server):
    shipped = sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))
    assert shipped and sorted(server.get("/workflow_templates").get(PACK, [])) == shipped
    for name in shipped:
        graph = server.get(f"/api/workflow_templates/{PACK}/{name}.json")
        assert graph["nodes"], name
        assert server.fetch(f"/api/workflow_templates/{PACK}/{name}.jpg").startswith(b"\xff\xd8"), name


def test_prompt_runs_and_its_picture_comes_back(server):
    result = server.queue(PICTURE)
    (image,) = result.outputs["2"]["images"]
    assert server.view(image).startswith(b"\x89PNG")
    assert ("execution_success") in [kind for kind, _ in result.events]


def test_uploaded_picture_is_loaded(server, tmp_path):
    path = tmp_path / "a picture with spaces.png"
    path.write_bytes(server.view(server.queue(PICTURE).outputs["2"]["images"][0]))
    name = server.upload(path)
    prompt = {
        "1": {"class_type": "LoadImage", "inputs": {"image": name}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    assert server.queue(prompt).outputs["2"]["images"]


def test_refused_prompt_names_the_input(server):
    with pytest.raises(PromptRefused, match="width") as caught:
        server.queue({"1": {**PICTURE["1"], "inputs": {**PICTURE["1"]["inputs"], "width": -5}}, "2": PICTURE["2"]})
    assert set(caught.value.node_errors) == {"1"}


def test_half_valid_prompt_is_refused_too(server):
    with pytest.raises(PromptRefused, match="images"):
        server.queue({**PICTURE, "3": {"class_type": "SaveImage", "inputs": {"filename_prefix": "half"}}})


def test_server_survives_a_failing_node(server):
    outside = {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "../../outside"}}
    with pytest.raises(ExecutionFailed, match="outside the output folder") as caught:
        server.queue({"1": PICTURE["1"], "2": outside})
    assert caught.value.node_type == "SaveImage"
    assert server.queue(PICTURE).outputs["2"]["images"]


def test_what_no_released_file_was_run_on_is_marked_as_beta(server):
    facts = server.get("/object_info")
    marked = {name for name, node in facts.items() if name.startswith("HSpace") and node.get("experimental")}
    assert marked == {f"HSpaceLoad{name}" for name in ("PixelModel", "DiffAE", "Asyrp", "DiffusionCLIP")}
    for name in marked:
        assert "marked as beta" in (ROOT / "web" / "docs" / f"{name}.md").read_text(encoding="utf-8")
