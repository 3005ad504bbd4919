"""The shipped workflows for Stable Diffusion, run on small random checkpoints of its layouts, and on a DDPM as their notes say."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from devtools.workflow_names import role_of

from .graphs import pictures
from .test_file_workflows import CHECKPOINTS
from .test_pipeline import ROOT, WORKFLOWS
from .test_trained_inputs import WEIGHTS

SIDE, STEPS = 64, 8
"""Of the pictures, where a real checkpoint tells 512 or 1024; and fewer steps."""
PAINTED = slice(40, 80)
EDIT = "photo_edit_checkpoint"
PHOTO = 512
DDPM = "face_model.safetensors"


def shipped(name: str) -> dict:
    """The prompt with fewer steps, smaller pictures and few directions."""
    prompt = json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))
    for entry in prompt.values():
        inputs, kind = entry["inputs"], entry["class_type"]
        if "steps" in inputs:
            inputs["steps"] = STEPS
        if kind == "ImageScale":
            inputs |= {"width": SIDE, "height": SIDE}
        if kind == "HSpaceFitPhoto":
            inputs["size"] = SIDE  # these checkpoints do not tell theirs
        if kind == "HSpaceDiscoverRegion":
            inputs |= {"k": 2, "iterations": 2}
        if kind == "HSpaceDirectionAtlas":
            inputs |= {"count": 2, "columns": 3}
        if kind == "HSpaceDials":
            inputs["frames"] = 3
    return prompt


def small_checkpoint(prompt: dict, family: str) -> None:
    """Put a small checkpoint in the place of the one that is not here."""
    for entry in prompt.values():
        if entry["class_type"] == "CheckpointLoaderSimple":
            entry |= {"class_type": "HSpaceTestCheckpoint", "inputs": {"family": family}}


@pytest.fixture(scope="module")
def painted(server, tmp_path_factory):
    """A picture of which a square is painted, as the mask editor leaves it: transparent there."""
    image = Image.open(ROOT / "assets" / "portrait.png").convert("RGB").resize((128, 128))
    alpha = np.full((128, 128), 255, np.uint8)
    alpha[PAINTED, PAINTED] = 0
    image.putalpha(Image.fromarray(alpha))
    path = tmp_path_factory.mktemp("painted") / "painted.png"
    image.save(path)
    return server.upload(path)


@pytest.mark.sweep("")
@pytest.mark.parametrize("family", ["sd15", "sdxl"])
@pytest.mark.parametrize("name", [name for name in WORKFLOWS if name.endswith(CHECKPOINTS)])
def test_they_run_on_small_checkpoints(server, painted, name, family):
    prompt = shipped(name)
    small_checkpoint(prompt, family)
    for entry in prompt.values():
        if entry["class_type"] == "LoadImage":
            entry["inputs"]["image"] = painted
    result = server.queue(prompt, timeout=600)
    saved = [number for number, entry in prompt.items() if entry["class_type"] == "SaveImage"]
    assert saved and all(picture.std() > 1 for number in saved for picture in pictures(server, result, number))


def before_and_after(server, prompt: dict) -> tuple[np.ndarray, np.ndarray]:
    """The photograph as it was and as it came back, as the one node shows them."""
    result = server.queue(prompt, timeout=600)
    (number,) = [number for number, entry in prompt.items() if role_of(entry["_meta"]["title"]).endswith("after")][-1:]
    (shown,) = pictures(server, result, number)
    assert shown.shape[0] == PHOTO and shown.shape[1] >= 2 * PHOTO
    return shown[:, :PHOTO].astype(int), shown[:, -PHOTO:].astype(int)


@pytest.mark.sweep("")
@pytest.mark.parametrize("family", ["sd15", "sdxl", "ddpm"])
def test_the_photograph_changes_in_the_region_alone(server, executor, family):
    prompt = shipped(EDIT)
    if family == "ddpm":
        as_the_note_says(server, prompt)
    else:
        small_checkpoint(prompt, family)
    photo, edited = before_and_after(server, prompt)
    mouth = executor.call("HSpaceDemoPhoto")[1][0].numpy() > 0
    rows, columns = np.nonzero(mouth)
    near = np.zeros_like(mouth)
    near[rows.min() - 40 : rows.max() + 40, columns.min() - 40 : columns.max() + 40] = True
    change = np.abs(edited - photo).max(2)
    assert change[mouth].max() > 4 and not change[~near].any()
    for entry in prompt.values():
        if entry["class_type"] == "HSpaceDials":
            entry["inputs"]["dial_1"] = 0.0
    assert np.array_equal(*before_and_after(server, prompt)), "at rest the photograph comes back bit for bit"


def as_the_note_says(server, prompt: dict) -> None:
    """A DDPM in the place of the checkpoint, without a prompt, and the whole head as such models know it."""
    folder = server.process.models / "hspace"
    folder.mkdir(exist_ok=True)
    shutil.copy(WEIGHTS / DDPM, folder)
    numbers = {entry["class_type"]: number for number, entry in prompt.items()}
    loader, photo = numbers["CheckpointLoaderSimple"], numbers["HSpaceDemoPhoto"]
    del prompt[numbers["CLIPTextEncode"]], prompt[numbers["HSpaceInvertImage"]]["inputs"]["positive"]
    prompt[loader] |= {"class_type": "HSpaceLoadPixelModel", "inputs": {"checkpoint": DDPM}}
    for entry in prompt.values():
        entry["inputs"] = {key: value for key, value in entry["inputs"].items() if value != [loader, 2]}
    fit = prompt[numbers["HSpaceFitPhoto"]]["inputs"]
    fit |= {"framing": "face", "frame": [photo, 5], "size": 0}
