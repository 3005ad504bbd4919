"""The shipped workflows that edit by prompts, on other models than the one they ship with."""

import json

import pytest

from .graphs import pictures
from .test_pipeline import ROOT, fewer_splits

NAMES = [
    path.stem
    for path in sorted((ROOT / "workflows" / "api").glob("*.json"))
    if "HSpaceLoadFaceTextModel" in path.read_text(encoding="utf-8")
]


@pytest.mark.sweep("")
@pytest.mark.parametrize("family", ["sd15", "sdxl"])
@pytest.mark.parametrize("name", NAMES)
def test_they_run_on_other_families_by_another_loader(server, name, family):
    prompt = json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))
    fewer_splits(prompt, 8)
    for entry in prompt.values():
        inputs = entry["inputs"]
        if entry["class_type"] == "HSpaceLoadFaceTextModel":
            entry |= {"class_type": "HSpaceTestCheckpoint", "inputs": {"family": family}}
        inputs |= {"factors": "off"} if "factors" in inputs else {}
        inputs |= {"steps": 8} if inputs.get("steps", 0) > 8 else {}  # more than any skip
        inputs |= {"inner_steps": 2} if "inner_steps" in inputs else {}
        inputs |= {"fit": "any size"} if "fit" in inputs else {}  # 64 pixels, where these models work at 512 and more
        inputs |= {k: 4 for k in inputs if k.startswith("leading")}  # these latents have 8 singular vectors a channel
    result = server.queue(prompt, timeout=600)
    saved = [number for number, entry in prompt.items() if entry["class_type"] == "SaveImage"]
    assert saved and all(picture.std() > 1 for number in saved for picture in pictures(server, result, number))
