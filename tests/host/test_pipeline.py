"""The whole pipeline in a real ComfyUI: invert, discover, steer in stock samplers, save, load, measure."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .graphs import FACE, base, discover, face, node, refused, render, sampler, save, steer

ROOT = Path(__file__).resolve().parents[2]


def pictures(server, result, name) -> list[np.ndarray]:
    """What a SaveImage node saved, `[h w 3]` uint8 each."""
    return [np.asarray(Image.open(io.BytesIO(server.view(image))).convert("RGB")) for image in result.outputs[name]["images"]]


WORKFLOWS = sorted(path.stem for path in (ROOT / "workflows" / "api").glob("*.json"))


@pytest.mark.parametrize("name", [name for name in WORKFLOWS if not name.endswith(("sd15", "sdxl"))])
def test_shipped_workflows_run(server, name):
    prompt = json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))
    for entry in prompt.values():
        if "steps" in entry["inputs"]:
            entry["inputs"]["steps"] = 8
        if "iterations" in entry["inputs"] and "k" in entry["inputs"]:
            entry["inputs"] |= {"k": 2, "iterations": 2}
        if entry["class_type"] in ("HSpaceDirectionAtlas", "HSpaceBasisDirections"):
            entry["inputs"] |= {"count": 2} if "count" in entry["inputs"] else {"k": 2}
    result = server.queue(prompt, timeout=600)
    titles = {number: entry["_meta"]["title"] for number, entry in prompt.items()}
    for number, title in titles.items():
        if title.startswith("Table"):
            (table,) = result.outputs[number]["text"]
            assert "smile" in table and "leak ratio" in table
    shown = {number for number in titles if result.outputs.get(number, {}).get("images")}
    ends = ("SaveImage", "PreviewImage", "HSpaceDirectionAtlas", "HSpaceMeasureEdit")
    assert shown >= {number for number, entry in prompt.items() if entry["class_type"] in ends}
    assert all(picture.std() > 10 for number in shown for picture in pictures(server, result, number))
    assert all(picture.shape == (64, 64, 3) for n in shown if titles[n] in ("Edited", "New") for picture in pictures(server, result, n))


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
    prompt = {**base(), "discover": discover(), "steer": steer(20.0), "again": steer(-10.0, model=("steer", 0), direction=2)}
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
                "SamplerCustomAdvanced", noise=["noise", 0], guider=["guider", 0], sampler=[f"resume{end}", 0], sigmas=[f"resume{end}", 1],
                latent_image=["invert", 1],
            ),
            f"decode{end}": node("VAEDecode", samples=[f"sample{end}", 0], vae=["model", 1]),
            f"save{end}": save([f"decode{end}", 0]),
        }  # fmt: skip
    result = server.queue(prompt, timeout=600)
    for end in ("", " asymmetric"):
        a, b = pictures(server, result, f"keep{end}")[0].astype(int), pictures(server, result, f"save{end}")[0].astype(int)
        assert np.abs(a - b).max() <= 1
    symmetric, other = pictures(server, result, "keep")[0].astype(int), pictures(server, result, "keep asymmetric")[0].astype(int)
    assert np.abs(symmetric - other).max() > 1


def test_saved_directions_do_the_same_when_loaded(server):
    prompt = {**base(), "discover": discover(), "save": node("HSpaceSaveDirections", directions=["discover", 0], name="round trip")}
    prompt |= {"named": node("HSpaceSelectDirections", directions=["discover", 0], first=1, count=1, flip=True, label="grin")}
    prompt |= {"both": node("HSpaceCombineDirections", a=["discover", 0], b=["named", 0], how="append", weight_a=1.0, weight_b=1.0)}
    prompt |= {
        "steer": steer(20.0), "render": render("steer"), "keep": save(["render", 0]),
        "flipped": steer(-20.0, directions=("both", 0), direction=3), "render flipped": render("flipped"), "keep flipped": save(["render flipped", 0]),
    }  # fmt: skip
    first = server.queue(prompt, timeout=600)
    (said,) = first.outputs["save"]["text"]
    assert said == "saved as round trip.safetensors"
    assert (server.process.models / "hspace_directions" / "round trip.safetensors").is_file()
    loaded = {**base(), "load": node("HSpaceLoadDirections", file="round trip.safetensors"), "steer": steer(20.0, directions=("load", 0))}
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
    prompt |= {"measure": node("HSpaceMeasureEdit", before=["a", 0], after=["b", 0], mask=["a", 1], factors="face world")}
    prompt |= {"table": node("PreviewAny", source=["measure", 0]), "json": node("PreviewAny", source=["measure", 1])}
    result = server.queue(prompt)
    facts = json.loads(result.outputs["json"]["text"][0])
    assert "**smile**" in result.outputs["table"]["text"][0]
    assert facts["leak_ratio"] < 0.05
    large = {f"large {n}": node("ImageScale", image=[n, 0], upscale_method="bilinear", width=96, height=80, crop="disabled") for n in "ab"}
    prompt["measure"]["inputs"] |= {"before": ["large a", 0], "after": ["large b", 0]}
    del prompt["measure"]["inputs"]["mask"]
    facts = json.loads(server.queue(prompt | large).outputs["json"]["text"][0])
    assert facts["factors"] == {} and facts["change"] > 0  # factors are read from pictures of 64x64 only


def test_stock_model_patches_and_image_to_image_compose(server):
    prompt = {**base(), "discover": discover(), "freeu": node("FreeU_V2", model=["model", 0], b1=1.3, b2=1.4, s1=0.9, s2=0.2)}
    prompt |= {"steer": steer(15.0, model=("freeu", 0)), "latent": node("VAEEncode", pixels=[FACE, 0], vae=["model", 1])}
    prompt |= {"sample": sampler("steer", ["latent", 0], denoise=0.5), "decode": node("VAEDecode", samples=["sample", 0], vae=["model", 1])}
    result = server.queue({**prompt, "save": save(["decode", 0])}, timeout=600)
    assert pictures(server, result, "save")[0].std() > 10


def test_the_dials_of_a_basis_run_without_the_network(server):
    """Region Basis is the costly part: with another mode only the cheap node runs again."""

    def prompt(**dials):
        inputs = {"k": 2, "mode": "generalized", "tau": 0.01, "rank": 3, **dials}
        return {
            **base(steps=6, iterations=1),
            "basis": node(
                "HSpaceRegionBasis", model=["model", 0], trajectory=["invert", 0], mask=["face", 1], max_k=2, max_rank=3, sigma=1.0
            ),
            "directions": node("HSpaceBasisDirections", basis=["basis", 0], **inputs),
            "show": save(["directions", 1], "spectrum"),
        }

    first = server.queue(prompt(), timeout=300)
    again = server.queue(prompt(mode="constrained", tau=0.1), timeout=300)
    ran = {data["node"] for kind, data in again.events if kind == "executing" and data.get("node")}
    assert "directions" in ran and not ran & {"basis", "invert", "model"}
    assert first.outputs["show"]["images"] and again.outputs["show"]["images"]


def test_directions_over_steps_and_over_pictures(server):
    """Track, average over a batch, carry to another picture; each is rendered."""
    prompt = base(steps=8, iterations=1)
    prompt["face"] = {**prompt["face"], "inputs": {**prompt["face"]["inputs"], "count": 2}}
    look = {"model": ["model", 0], "trajectory": ["invert", 0], "mask": ["one mask", 0]}
    dials = {"k": 2, "mode": "generalized", "tau": 0.01, "rank": 3, "layer": "middle", "iterations": 2, "seed": 0}
    prompt |= {
        "one mask": node("ImageToMask", image=["mask image", 0], channel="red"),
        "mask image": node("ImageFromBatch", image=["mask images", 0], batch_index=0, length=1),
        "mask images": node("MaskToImage", mask=["face", 1]),
        "track": node("HSpaceTrackDirections", **look, **dials, sigma_start=20.0, sigma_end=0.5, levels=3, image_index=0),
        "global": node("HSpaceGlobalDirections", **{**look, "mask": ["face", 1]}, **dials, how="match", sigma=1.0),
        "basis": node("HSpaceRegionBasis", **look, max_k=2, max_rank=0, sigma=1.0, image_index=1, layer="middle", iterations=2, seed=0),
        "moved": node("HSpaceTransportDirections", directions=["global", 0], basis=["basis", 0]),
    }
    for name in ("track", "global", "moved"):
        prompt[f"steer {name}"] = steer(20.0, directions=(name, 0))
        prompt[f"render {name}"] = render(f"steer {name}")
        prompt[f"save {name}"] = save([f"render {name}", 0], name)
        prompt[f"say {name}"] = node("PreviewAny", source=[name, 1 if name == "moved" else 2])
    prompt["plain"] = save(["invert", 2], "plain")
    result = server.queue(prompt, timeout=300)
    plain = pictures(server, result, "plain")
    for name in ("track", "global", "moved"):
        edited = pictures(server, result, f"save {name}")
        assert len(edited) == len(plain) == 2
        assert all(np.abs(a.astype(float) - b).mean() > 0.5 for a, b in zip(edited, plain, strict=True)), name
    said = {name: result.outputs[f"say {name}"]["text"][0] for name in ("track", "global", "moved")}
    assert said["track"].count("Jacobian products") == 3
    assert "mean of 2 (match)" in said["global"] and "cosine" in said["global"]
    assert "of its length kept" in said["moved"]


def test_the_other_published_ways(server):
    """LOCO, pullback, PCA and mean difference: each finds, is applied and shows."""
    prompt = base(steps=8, iterations=5)
    prompt["face"] = {**prompt["face"], "inputs": {**prompt["face"]["inputs"], "count": 4}}
    prompt["other face"] = face(77)
    prompt["other face"]["inputs"]["count"] = 3
    prompt["other"] = {**prompt["invert"], "inputs": {**prompt["invert"]["inputs"], "image": ["other face", 0]}}
    prompt["pictures"] = node("MaskToImage", mask=["face", 1])
    prompt["first"] = node("ImageFromBatch", image=["pictures", 0], batch_index=0, length=1)
    prompt["mask"] = node("ImageToMask", image=["first", 0], channel="red")
    look = {"model": ["model", 0], "trajectory": ["invert", 0], "mask": ["mask", 0], "k": 2, "rank": 3, "sigma": 1.0}
    advanced = {"layer": "middle", "image_index": 0, "iterations": 3, "seed": 0}
    for name, method, how, strength in (("loco", "LOCO Edit (x)", "step", 4.0), ("pullback", "pullback (x)", "guidance", 0.5)):
        prompt[name] = node("HSpaceBaselineDirections", **look, **advanced, method=method)
        edit = {"model": ["model", 0], "trajectory": ["invert", 0], "directions": [name, 0], "direction": 1, "how": how, "repeats": 4}
        for part, amount in (("", strength), (" off", 0.0)):
            prompt[f"edit {name}{part}"] = node("HSpaceEditState", **edit, strength=amount)
            prompt[f"render {name}{part}"] = {
                **render("model"),
                "inputs": {**render("model")["inputs"], "trajectory": [f"edit {name}{part}", 0]},
            }
            prompt[f"save {name}{part}"] = save([f"render {name}{part}", 0], name)
    prompt["preset"] = node("HSpaceBaselineDirections", **look, **advanced, method="LOCO Edit (x)", preset="MetFaces")
    edit |= {"directions": ["preset", 0], "how": "step", "strength": ["preset", 2]}
    prompt["edit preset"] = node("HSpaceEditState", **edit)
    prompt["render preset"] = {**render("model"), "inputs": {**render("model")["inputs"], "trajectory": ["edit preset", 0]}}
    prompt["save preset"] = save(["render preset", 0], "preset")
    prompt["render lagged"] = render("steer pca", lagged=True)
    prompt["save lagged"] = save(["render lagged", 0], "lagged")
    prompt["pca"] = node("HSpaceBaselineDirections", **look, **advanced, method="PCA of h")
    prompt["difference"] = node(
        "HSpaceMeanDifference", model=["model", 0], positive=["invert", 0], negative=["other", 0], sigma=1.0, layer="middle"
    )
    for name in ("pca", "difference"):
        prompt[f"steer {name}"] = steer(30.0, directions=(name, 0))
        prompt[f"render {name}"] = render(f"steer {name}")
        prompt[f"save {name}"] = save([f"render {name}", 0], name)
    prompt |= {"plain": save(["invert", 2], "plain"), "faces": save(["face", 0], "faces")}
    result = server.queue(prompt, timeout=300)
    plain, faces, off = pictures(server, result, "plain"), pictures(server, result, "faces"), ("loco off", "pullback off")
    for name in ("loco", "preset", "pullback", "pca", "lagged", "difference"):
        edited = pictures(server, result, f"save {name}")
        change = [np.abs(a.astype(float) - b).mean() for a, b in zip(edited, plain, strict=True)]
        assert change[0] > 0.3, (name, change)
    assert any((a != b).any() for a, b in zip(pictures(server, result, "save lagged"), pictures(server, result, "save pca"), strict=True))
    # With strength 0 the way back begins at a stored state instead of the noisiest one, so it misses the picture by no more.
    away = {
        name: [np.abs(a.astype(float) - b).mean() for a, b in zip(pictures(server, result, f"save {name}"), faces, strict=True)]
        for name in off
    }
    missed = [np.abs(a.astype(float) - b).mean() for a, b in zip(plain, faces, strict=True)]
    assert all(max(a) < max(missed) + 0.3 for a in away.values()), (away, missed)


def test_directions_of_the_state_are_not_steered_with(server):
    prompt = base(steps=6, iterations=1)
    look = {"model": ["model", 0], "trajectory": ["invert", 0], "mask": ["face", 1], "k": 1, "rank": 2, "sigma": 1.0}
    prompt["loco"] = node("HSpaceBaselineDirections", **look, layer="middle", image_index=0, iterations=2, seed=0, method="LOCO Edit (x)")
    prompt["steer"] = steer(5.0, directions=("loco", 0))
    refused(server, {**prompt, "render": render("steer"), "save": save(["render", 0])}, "Edit State")


def test_discovery_looks_at_the_plain_model_even_after_steer(server):
    """Directions found on a steered MODEL are those of the MODEL itself, and rendering it without strength changes nothing."""
    prompt = {**base(steps=6, iterations=1), "discover": discover(), "steer": steer(40.0), "again": discover(model=["steer", 0])}
    for name in ("discover", "again"):
        prompt[f"say {name}"] = node("PreviewAny", source=[name, 2])
    said = {}
    result = server.queue(prompt, timeout=300)
    for name in ("discover", "again"):
        said[name] = [line for line in result.outputs[f"say {name}"]["text"][0].splitlines() if line.startswith("#")]
    assert said["discover"] == said["again"]
