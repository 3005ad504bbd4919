"""The whole pipeline in a real ComfyUI: invert, discover, steer in stock samplers, save, load, measure."""

import json
from pathlib import Path

import numpy as np
import pytest

from devtools.workflow_names import role_of

from .graphs import FACE, base, discover, face, node, pictures, render, sampler, save, steer

ROOT = Path(__file__).resolve().parents[2]


def fewer_splits(prompt: dict, steps: int) -> None:
    """What counts in steps of a schedule that is about to get ``steps`` steps: Split Sigmas cuts at the same share of
    them, as behind its end nothing would be left, and half of them are skipped at most."""
    for entry in prompt.values():
        if entry["class_type"] == "HSpaceSampleEditFriendly":
            entry["inputs"]["skip"] = min(entry["inputs"]["skip"], steps // 2)
        if entry["class_type"] == "SplitSigmas":
            cut = entry["inputs"]
            cut["step"] = round(cut["step"] * steps / prompt[cut["sigmas"][0]]["inputs"]["steps"])


WORKFLOWS = sorted(path.stem for path in (ROOT / "workflows" / "api").glob("*.json"))


NEED_FILES = ("sd15", "sdxl", "checkpoint", "released", "photographs")
"""How the names of workflows end that run on checkpoints of others."""


SET = 20
"""Pictures of a set to train on: the fewest that Train Heads takes."""


@pytest.mark.sweep("")
@pytest.mark.parametrize("name", [name for name in WORKFLOWS if not name.endswith(NEED_FILES)])
def test_shipped_workflows_run(server, name):
    prompt = json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))
    fewer_splits(prompt, 8)
    for entry in prompt.values():
        if "steps" in entry["inputs"]:
            entry["inputs"]["steps"] = 8
        if entry["class_type"] == "HSpaceDemoFace":  # sets to train on
            entry["inputs"]["count"] = min(entry["inputs"]["count"], SET)
        if "iterations" in entry["inputs"] and "k" in entry["inputs"]:
            entry["inputs"] |= {"k": 2, "iterations": 2}
        if entry["class_type"] in ("HSpaceDirectionAtlas", "HSpaceBasisDirections"):
            entry["inputs"] |= {"count": 2} if "count" in entry["inputs"] else {"k": 2}
    measures = [number for number, entry in prompt.items() if entry["class_type"] == "HSpaceMeasureEdit"]
    tables = {f"table {number}": node("PreviewAny", source=[number, 0]) for number in measures}
    result = server.queue(prompt | tables, timeout=600)
    for number in tables:
        (table,) = result.outputs[number]["text"]
        assert "smile" in table and "leak ratio" in table
    titles = {number: role_of(entry["_meta"]["title"]) for number, entry in prompt.items()}
    shown = {number for number in titles if result.outputs.get(number, {}).get("images")}
    ends = ("SaveImage", "PreviewImage", "HSpaceDirectionAtlas", "HSpaceMeasureEdit")
    assert shown >= {number for number, entry in prompt.items() if entry["class_type"] in ends}
    assert all(picture.std() > 10 for number in shown for picture in pictures(server, result, number))
    assert all(
        picture.shape == (64, 64, 3)
        for n in shown
        if prompt[n]["class_type"] == "SaveImage" and titles[n] in ("Edited", "New")
        for picture in pictures(server, result, n)
    )


def test_strength_zero_is_the_unedited_picture_bit_for_bit(server):
    prompt = {**base(), "discover": discover(), "off": steer(0.0), "on": steer(25.0)}
    prompt |= {
        "empty": node("EmptyImage", width=64, height=64, batch_size=2, color=0),
        "latent": node("VAEEncode", pixels=["empty", 0], vae=["model", 1]),
    }
    for name in ("model", "off", "on"):
        prompt |= {
            f"sample {name}": sampler(name, ["latent", 0]),
            f"decode {name}": node("VAEDecode", samples=[f"sample {name}", 0], vae=["model", 1]),
        }
        prompt |= {f"save {name}": save([f"decode {name}", 0])}
        prompt |= {f"render {name}": render(name), f"keep {name}": save([f"render {name}", 0])}
    result = server.queue(prompt, timeout=600)
    for kind in ("save", "keep"):
        plain, off, on = (np.stack(pictures(server, result, f"{kind} {name}")) for name in ("model", "off", "on"))
        assert np.array_equal(plain, off)
        assert not np.array_equal(plain, on)
    assert len(pictures(server, result, "save on")) == 2
    assert any(kind == "binary" for kind, _ in result.events), "no preview came"


def test_resume_in_the_stock_sampler_equals_render(server):
    prompt = {
        **base(),
        "discover": discover(),
        "steer": steer(20.0),
        "again": steer(-10.0, model=("steer", 0), direction=2),
    }
    prompt |= {
        "guider": node("BasicGuider", model=["again", 0], conditioning=["model", 2]),
        "noise": node("DisableNoise"),
        "render": render("again"),
        "keep": save(["render", 0]),
        "render asymmetric": render("again", asymmetric=True),
        "keep asymmetric": save(["render asymmetric", 0]),
    }
    for asymmetric in (False, True):
        end = " asymmetric" if asymmetric else ""
        prompt |= {
            f"resume{end}": node("HSpaceResumeTrajectory", trajectory=["invert", 0], asymmetric=asymmetric, eta=0.0),
            f"sample{end}": node(
                "SamplerCustomAdvanced",
                noise=["noise", 0],
                guider=["guider", 0],
                sampler=[f"resume{end}", 0],
                sigmas=[f"resume{end}", 1],
                latent_image=["invert", 1],
            ),
            f"decode{end}": node("VAEDecode", samples=[f"sample{end}", 0], vae=["model", 1]),
            f"save{end}": save([f"decode{end}", 0]),
        }
    result = server.queue(prompt, timeout=600)
    for end in ("", " asymmetric"):
        a, b = (
            pictures(server, result, f"keep{end}")[0].astype(int),
            pictures(server, result, f"save{end}")[0].astype(int),
        )
        assert np.abs(a - b).max() <= 1
    symmetric, other = (
        pictures(server, result, "keep")[0].astype(int),
        pictures(server, result, "keep asymmetric")[0].astype(int),
    )
    assert np.abs(symmetric - other).max() > 1


def test_saved_directions_do_the_same_when_loaded(server):
    prompt = {
        **base(),
        "discover": discover(),
        "save": node("HSpaceSaveDirections", directions=["discover", 0], name="round trip"),
    }
    prompt |= {
        "named": node("HSpaceSelectDirections", directions=["discover", 0], first=1, count=1, flip=True, label="grin")
    }
    prompt |= {
        "both": node(
            "HSpaceCombineDirections", a=["discover", 0], b=["named", 0], how="append", weight_a=1.0, weight_b=1.0
        )
    }
    prompt |= {
        "steer": steer(20.0),
        "render": render("steer"),
        "keep": save(["render", 0]),
        "flipped": steer(-20.0, directions=("both", 0), direction=3),
        "render flipped": render("flipped"),
        "keep flipped": save(["render flipped", 0]),
    }
    first = server.queue(prompt, timeout=600)
    (said,) = first.outputs["save"]["text"]
    assert said == "saved as round trip.safetensors"
    assert (server.process.models / "hspace_directions" / "round trip.safetensors").is_file()
    loaded = {
        **base(),
        "load": node("HSpaceLoadDirections", file="round trip.safetensors"),
        "steer": steer(20.0, directions=("load", 0)),
    }
    loaded |= {"render": render("steer"), "keep": save(["render", 0])}
    second = server.queue(loaded, timeout=600)
    once, again = pictures(server, first, "keep")[0], pictures(server, second, "keep")[0]
    assert np.array_equal(once, again)
    assert np.abs(once.astype(int) - pictures(server, first, "keep flipped")[0].astype(int)).max() <= 1


def test_same_prompt_again_comes_from_the_cache(server):
    prompt = {**base(), "discover": discover(), "save": save(["discover", 1])}
    server.queue(prompt, timeout=600)
    assert {"model", FACE, "invert", "discover"} <= server.queue(prompt, timeout=600).cached


def test_measure_finds_what_the_dials_changed(server):
    prompt = {"a": face(origin="dials", smile=-0.8), "b": face(origin="dials", smile=0.8)}
    prompt |= {
        "measure": node("HSpaceMeasureEdit", before=["a", 0], after=["b", 0], mask=["a", 1], factors="face world")
    }
    prompt |= {"table": node("PreviewAny", source=["measure", 0]), "json": node("PreviewAny", source=["measure", 1])}
    result = server.queue(prompt)
    facts = json.loads(result.outputs["json"]["text"][0])
    assert "**smile**" in result.outputs["table"]["text"][0]
    assert facts["leak_ratio"] < 0.05
    large = {
        f"large {n}": node("ImageScale", image=[n, 0], upscale_method="bilinear", width=96, height=80, crop="disabled")
        for n in "ab"
    }
    prompt["measure"]["inputs"] |= {"before": ["large a", 0], "after": ["large b", 0]}
    del prompt["measure"]["inputs"]["mask"]
    facts = json.loads(server.queue(prompt | large).outputs["json"]["text"][0])
    assert facts["factors"] == {} and facts["change"] > 0  # factors are read from pictures of 64x64 only


def test_stock_model_patches_and_image_to_image_compose(server):
    prompt = {
        **base(),
        "discover": discover(),
        "freeu": node("FreeU_V2", model=["model", 0], b1=1.3, b2=1.4, s1=0.9, s2=0.2),
    }
    prompt |= {
        "steer": steer(15.0, model=("freeu", 0)),
        "latent": node("VAEEncode", pixels=[FACE, 0], vae=["model", 1]),
    }
    prompt |= {
        "sample": sampler("steer", ["latent", 0], denoise=0.5),
        "decode": node("VAEDecode", samples=["sample", 0], vae=["model", 1]),
    }
    result = server.queue({**prompt, "save": save(["decode", 0])}, timeout=600)
    assert pictures(server, result, "save")[0].std() > 10


def test_discovery_looks_at_the_plain_model_even_after_steer(server):
    """Directions found on a steered MODEL are those of the MODEL itself, and rendering it without strength changes
    nothing."""
    prompt = {
        **base(steps=6, iterations=1),
        "discover": discover(),
        "steer": steer(40.0),
        "again": discover(model=["steer", 0]),
    }
    for name in ("discover", "again"):
        prompt[f"say {name}"] = node("PreviewAny", source=[name, 2])
    said = {}
    result = server.queue(prompt, timeout=300)
    for name in ("discover", "again"):
        said[name] = [line for line in result.outputs[f"say {name}"]["text"][0].splitlines() if line.startswith("#")]
    assert said["discover"] == said["again"]
