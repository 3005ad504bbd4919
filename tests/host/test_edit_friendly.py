"""Edit-friendly sampling in a real ComfyUI, in the stock SamplerCustomAdvanced."""

import json

import numpy as np
import pytest

from .edit_friendly_graphs import HAIR, SOURCE, TARGET, cfg_guider, queue_pictures, run, world
from .graphs import FACE, edit_friendly, half_mask, invert, node, refused, save
from .pair_graphs import local_blend


@pytest.mark.sweep("")
@pytest.mark.parametrize("solver", ["ddpm", "sde-dpm++2"])
@pytest.mark.parametrize(
    ("model", "cfg"), [("HSpaceLoadFaceTextModel", 3.5), ("HSpaceLoadFaceTextModel", 1.0), ("HSpaceLoadFaceModel", 1.0)]
)
def test_the_picture_comes_back(server, model, cfg, solver):
    prompt = world(20, model, cfg=cfg, solver=solver)
    result = server.queue(prompt | {"keep": save(["invert", 2])}, timeout=600)
    assert float(result.outputs["psnr"]["text"][0]) >= 60


@pytest.mark.sweep("")
@pytest.mark.parametrize("steps", [20, 50, 100])
def test_the_source_prompt_gives_the_pixels_back(server, steps):
    """By the stock sampler, and measured on its latent, which no file has rounded."""
    prompt = (
        world(steps, cfg=3.5, levels_at_once=8) | {"back": cfg_guider("source", 3.5)} | run(world(), "out", ["back", 0])
    )
    prompt["apart"] = node("HSpaceTestDifference", a=["invert", 1], b=["run out", 0])
    result = server.queue(prompt, timeout=600)
    assert float(result.outputs["psnr"]["text"][0]) >= 60
    (apart,) = json.loads(result.outputs["apart"]["text"][0])["rows"]
    assert apart < 1e-3  # over the size of the picture, which is below 1 where PSNR counts from 2: more than 60 dB


@pytest.mark.sweep("")
@pytest.mark.parametrize(
    ("network", "dtype"), [("sd15", "fp32"), ("sd15", "bf16"), ("sd2 v", "fp16"), ("sdxl", "fp32")]
)
def test_latents_come_back_as_well_as_from_the_autoencoder(server, network, dtype):
    prompt = {
        "model": node("HSpaceTestUNet", network=network, dtype=dtype, seed=0),
        "vae": node("HSpaceTestVAE", network="tiny"),
        "picture": node("HSpaceTestPicture", case="noise", width=96, height=64),
        "sigmas": node("BasicScheduler", model=["model", 0], scheduler="normal", steps=20, denoise=1.0),
        "invert": edit_friendly(
            "picture", "sigmas", positive=["model", 1], negative=["model", 2], cfg=3.0, vae=["vae", 0]
        ),
        "psnr": node("PreviewAny", source=["invert", 3]),
        "latent": node("VAEEncode", pixels=["picture", 0], vae=["vae", 0]),
        "round trip": node("VAEDecode", samples=["latent", 0], vae=["vae", 0]),
        "rebuilt": save(["invert", 2]),
        "best": save(["round trip", 0]),
        "original": save(["picture", 0]),
    }
    (rebuilt, best, original), result = queue_pictures(server, prompt, "rebuilt", "best", "original")
    assert float(result.outputs["psnr"]["text"][0]) >= 60
    errors = [10 * np.log10(255**2 / np.square(p - original).mean()) for p in (rebuilt, best)]
    assert abs(errors[0] - errors[1]) < 0.1


def test_sampling_with_the_source_prompt_returns_the_picture_and_another_prompt_edits_it(server):
    prompt = world(20, cfg=2.0)
    prompt |= {
        "plain": save([FACE, 0]),
        "back": cfg_guider("source", 2.0),
        "to": cfg_guider("target", 2.0),
        "strong": cfg_guider("target", 5.0),
    }
    prompt |= run(prompt, "source 0", ["back", 0]) | run(prompt, "source 7", ["back", 0], skip=7)
    prompt |= run(prompt, "edit 4", ["strong", 0], skip=4) | run(prompt, "edit 16", ["strong", 0], skip=16)
    (plain, zero, seven, edit, late), _ = queue_pictures(
        server, prompt, "plain", "source 0", "source 7", "edit 4", "edit 16"
    )
    assert np.abs(zero - plain).max() <= 1 and np.abs(seven - plain).max() <= 1
    assert np.abs(edit - plain).mean() > 2 * np.abs(late - plain).mean() > 0
    redness = [float((p[..., 0] - p[..., 1:].mean(-1)).mean()) for p in (plain, edit)]
    assert redness[1] > redness[0] + 3  # brown hair to red hair


def test_a_colour_painted_into_the_noises(server):
    prompt = world(20) | {
        "plain": save([FACE, 0]),
        "back": node("BasicGuider", model=["model", 0], conditioning=["source", 0]),
    }
    prompt |= {
        "hair": node("MaskToImage", mask=[FACE, HAIR]),
        "where": save(["hair", 0]),
        "red": node("EmptyImage", width=64, height=64, batch_size=1, color=0xFF2010),
        "part": node("SetLatentNoiseMask", samples=["invert", 1], mask=[FACE, HAIR]),
    }
    for name, strength in (("off", 0.0), ("on", 0.15)):
        links = {"model": ["model", 0], "trajectory": ["invert", 0], "colour": ["red", 0], "mask": [FACE, HAIR]}
        prompt[f"paint {name}"] = node("HSpaceRecolourEditFriendly", **links, strength=strength, start=0.6, end=0.95)
        prompt |= run(prompt, name, ["back", 0], trajectory=[f"paint {name}", 0])
    prompt |= run(prompt, "unpainted", ["back", 0]) | run(
        prompt, "held", ["back", 0], ["part", 0], trajectory=["paint on", 0]
    )
    (plain, where, off, on, unpainted, masked), _ = queue_pictures(
        server, prompt, "plain", "where", "off", "on", "unpainted", "held"
    )
    hair = where[0, ..., 0] > 128
    assert np.array_equal(off, unpainted)
    redder = ((on - plain)[..., 0] - (on - plain)[..., 1:].mean(-1))[0]
    assert redder[hair].mean() > 30 and abs(redder[~hair].mean()) < 0.2 * redder[hair].mean()
    assert np.array_equal(masked[0][where[0, ..., 0] == 0], plain[0][where[0, ..., 0] == 0])
    small = prompt | {"red": node("EmptyImage", width=32, height=32, batch_size=1, color=0xFF2010)}
    refused(server, small, "one size")


def test_other_seeds_edit_otherwise(server):
    edits = []
    for seed in (0, 1):
        prompt = world(12, seed=35) | {"strong": cfg_guider("target", 5.0)}
        prompt["invert"]["inputs"]["seed"] = seed
        (edit,), result = queue_pictures(server, prompt | run(prompt, "edit", ["strong", 0], skip=2), "edit")
        assert float(result.outputs["psnr"]["text"][0]) >= 60
        edits.append(edit)
    assert np.abs(edits[0] - edits[1]).mean() > 1


def test_paired_rows_share_the_noises(server):
    """Row 0 follows the source prompt, row 1 the target; and one prompt for a batch of three."""
    prompt = world(10, cfg=2.0) | {"plain": save([FACE, 0])}
    prompt |= {
        "rows": node("HSpaceTestRows", a=["source", 0], b=["target", 0]),
        "pair": cfg_guider("rows", 2.0),
        "to": cfg_guider("target", 2.0),
        "two": node("RepeatLatentBatch", samples=["invert", 1], amount=2),
        "three": node("RepeatLatentBatch", samples=["invert", 1], amount=3),
        "far": cfg_guider("rows", 6.0),
    }
    prompt |= run(prompt, "paired", ["pair", 0], ["two", 0], skip=1) | run(prompt, "alone", ["to", 0], skip=1)
    prompt |= run(prompt, "batch", ["to", 0], ["three", 0], skip=1) | run(
        prompt, "held", ["far", 0], ["two", 0], source_row=True
    )
    (plain, paired, alone, batch, direct), _ = queue_pictures(
        server, prompt, "plain", "paired", "alone", "batch", "held"
    )
    assert np.abs(paired[0] - plain[0]).max() <= 1 and np.abs(paired[1] - alone[0]).max() <= 1
    assert np.abs(batch - alone).max() <= 1 and len(batch) == 3
    assert np.array_equal(direct[0], plain[0]) and np.abs(direct[1] - plain[0]).mean() > 1


@pytest.mark.parametrize("solver", ["ddpm", "sde-dpm++2"])
def test_a_local_blend_takes_the_true_source(server, solver):
    """Outside of the mask the target is the inverted picture itself, not what the sampler made of the source row on its
    way."""
    prompt = world(10, cfg=2.0, solver=solver) | {
        "pair": node("HSpacePairConditioning", clip=["model", 1], source=SOURCE, targets=TARGET),
        "rows": node("HSpacePairLatent", latent=["invert", 1], rows=2),
        **half_mask(64, 64, "painted"),
        "edited": local_blend("model", mask=["painted", 0]),
        "far": cfg_guider("pair", 6.0, "edited"),
        "figures": node("HSpaceTestOutside", latent=["run held", 0], mask=["painted", 0]),
        "true": node("HSpaceTestDifference", a=["rows", 0], b=["run held", 0]),
    }
    prompt |= run(prompt, "held", ["far", 0], ["rows", 0], skip=1, source_row=True)
    result = server.queue(prompt, timeout=600)
    figures, true = (json.loads(result.outputs[name]["text"][0]) for name in ("figures", "true"))
    assert true["rows"][0] < 1e-6 and figures["outside"] == 0 and figures["inside"][0] > 0.05


def test_what_is_refused(server):
    prompt = world(6) | {"basic": node("BasicGuider", model=["model", 0], conditioning=["source", 0])}
    refused(server, prompt | run(prompt, "out", ["basic", 0], skip=6), "skip", "0..5")
    refused(
        server,
        prompt
        | run(prompt, "out", ["basic", 0], sampler=["x", 0], sigmas=["sigmas", 0])
        | {"x": node("HSpaceSampleEditFriendly", trajectory=["invert", 0], skip=2)},
        "SIGMAS output of Sample Edit-Friendly",
    )
    plain = invert(FACE, "sigmas", "ddim B", positive=["source", 0], vae=["model", 2])
    wrong = prompt | {"ddim": plain} | run(prompt, "out", ["basic", 0])
    wrong["sampler out"]["inputs"]["trajectory"] = ["ddim", 0]
    refused(server, wrong, "carries no noises", "Edit-Friendly Inversion")
    short = {name: value for name, value in prompt["invert"]["inputs"].items() if name != "negative"} | {"cfg": 3.0}
    refused(
        server,
        prompt | {"invert": node("HSpaceEditFriendlyInversion", **short), "keep": save(["invert", 2])},
        "negative",
        "cfg",
    )
