"""The shipped workflows that need files of others, run on files of the embedded models in the place of those."""

import json
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from devtools.workflow_names import role_of

from .graphs import pictures
from .test_pipeline import NEED_FILES, ROOT, WORKFLOWS
from .test_trained_inputs import WEIGHTS, block

CHECKPOINTS = ("sd15", "sdxl", "checkpoint")
"""How the names of those end that test_checkpoint_workflows.py runs."""
FACE_MODEL, DIFFAE, TUNED = "face_model.safetensors", "face_diffae.safetensors", "red_hair_t401.safetensors"
ASYRP = "smiling_LC_CelebA_HQ_t999_ninv40_ngen40_0.pth"
FILES = {
    "HSpaceLoadPixelModel": {"checkpoint": FACE_MODEL},
    "HSpaceLoadAsyrp": {"checkpoint": ASYRP, "sigma_edit": 0.5},
    "HSpaceLoadDiffusionCLIP": {"checkpoint": TUNED},
    "HSpaceLoadDiffAE": {"checkpoint": DIFFAE, "statistics": "none"},
    "HSpaceLoadHeads": {"file": "hspace/face_diffae.safetensors"},
    "HSpaceManipulateCode": {"attribute": "smile"},
    "ImageScale": {"width": 64, "height": 64},
}


@pytest.fixture(scope="module")
def portrait(server):
    """The files, in the models folder of the server; a picture for Load Image."""
    folder = server.process.models / "hspace"
    folder.mkdir(exist_ok=True)
    shutil.copy(WEIGHTS / FACE_MODEL, folder)
    shutil.copy(WEIGHTS / DIFFAE, folder)
    torch.save({"0": block()}, folder / ASYRP)
    write_tuned(folder / TUNED)
    yield server.upload(ROOT / "assets" / "portrait.png")
    for name in (FACE_MODEL, DIFFAE, TUNED, ASYRP):
        (folder / name).unlink()


def write_tuned(path) -> None:
    """The face model, fine-tuned as the shipped edit of red hair says, as a whole network."""
    with safe_open(WEIGHTS / FACE_MODEL, "pt") as file:
        facts, weights = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}
    with safe_open(WEIGHTS / "edits" / "finetuned" / "red hair.safetensors", "pt") as file:
        change = {name.removeprefix("diffusion_model.net."): file.get_tensor(name).float() for name in file.keys()}
    for name, value in weights.items():
        start, kind = name.rsplit(".", 1)
        up, down = (change.get(f"{start}.lora_{side}.weight") for side in ("up", "down"))
        if kind == "weight" and up is not None and down is not None:
            weights[name] = (value.float() + (up.flatten(1) @ down.flatten(1)).view(value.shape)).to(value.dtype)
        elif kind == "bias" and f"{start}.diff_b" in change:
            weights[name] = (value.float() + change[f"{start}.diff_b"]).to(value.dtype)
    save_file(weights, path, facts)


@pytest.mark.sweep("")
@pytest.mark.parametrize(
    "name", [name for name in WORKFLOWS if name.endswith(NEED_FILES) and not name.endswith(CHECKPOINTS)]
)
def test_they_run_on_other_files(server, portrait, name):
    prompt = json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))
    vision = {number for number, entry in prompt.items() if entry["class_type"] == "CLIPVisionLoader"}
    steps, faces = (3, 1) if vision else (8, 2)  # each step asks a tower of full size, forwards and backwards
    for entry in prompt.values():
        inputs, kind = entry["inputs"], entry["class_type"]
        if kind in ("CLIPLoader", "CLIPVisionLoader"):
            entry |= {"class_type": "HSpaceTestClip", "inputs": {"case": "joint"}}  # its outputs are both towers
        elif kind == "LoadImageDataSetFromFolder":
            entry |= {"class_type": "HSpaceDemoFace", "inputs": {"source": "random", "seed": 100, "count": faces}}
        elif kind in ("LoadImage", "HSpaceDemoPhoto"):  # the stand-ins know drawn faces only
            entry |= {"class_type": "LoadImage", "inputs": {"image": portrait}}
        inputs |= {key: [link[0], 1] for key, link in inputs.items() if isinstance(link, list) and link[0] in vision}
        inputs |= FILES.get(kind, {}) | (
            {"steps": steps} if isinstance(inputs.get("steps"), int) and kind != "HSpaceLoadAsyrp" else {}
        )
    if any(entry["class_type"] == "HSpaceTestClip" for entry in prompt.values()):
        for inputs in (entry["inputs"] for entry in prompt.values() if "target" in entry["inputs"]):
            inputs |= {"source": "a red picture", "target": "a blue picture"}
    result = server.queue(prompt, timeout=600)
    saved = [number for number, entry in prompt.items() if entry["class_type"] == "SaveImage"]
    (edited,) = (number for number in saved if role_of(prompt[number]["_meta"]["title"]) == "Edited")
    assert all(picture.shape == (64, 64, 3) and picture.std() > 10 for picture in pictures(server, result, edited))
