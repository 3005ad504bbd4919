"""Latent models: pixels in and pixels out, through a VAE."""

import json
import re
from pathlib import Path

import pytest
import torch

from devtools.workflow_names import role_of

from .graphs import ksampler, node, refused, render, steer
from .unet_graphs import latent_base, latent_discover, lora, picture, resampled, unet

ROOT = Path(__file__).resolve().parents[2]


def test_discovery_in_pixels(server):
    """With the VAE the derivative ends in pixels, in every node alike; a VAE of another family is refused."""
    prompt = {**latent_base(), **latent_discover(mode="none")}
    pixels = {**prompt["discover"]["inputs"], "vae": ["vae", 0]}
    look = {
        key: pixels[key]
        for key in ("model", "trajectory", "mask", "sigma", "layer", "image_index", "iterations", "seed", "vae")
    }
    prompt |= {
        "through": node("HSpaceDiscoverRegion", **pixels),
        "basis": node("HSpaceRegionBasis", max_k=2, max_rank=0, **look),
        "from": node("HSpaceBasisDirections", basis=["basis", 0], k=2, mode="none", tau=0.01, rank=20),
    }
    prompt["plot"] = node("SaveImage", images=["from", 1], filename_prefix="plot")
    for name in ("discover", "through"):
        prompt[f"text {name}"] = node("PreviewAny", source=[name, 2])
    outputs = server.queue(prompt, timeout=600).outputs
    gain = {
        name: [float(g) for g in re.findall(r"gain ([\d.]+)", str(outputs[f"text {name}"]))]
        for name in ("discover", "through")
    }
    assert abs(gain["through"][0] / gain["discover"][0] - 1) > 0.1  # not the same units
    prompt |= {
        "wide": node("HSpaceTestVAE", network="wide"),
        "through": node("HSpaceDiscoverRegion", **{**pixels, "vae": ["wide", 0]}),
    }
    refused(server, prompt, "4 latent channels", "has 16")


@pytest.mark.sweep("")
@pytest.mark.parametrize("network", ["sd15", "sdxl"])
def test_the_whole_way_in_latents(server, network):
    """Invert, discover, steer, render, and the same edit in the stock samplers."""
    off = {
        "steer off": steer(0.0),
        "render off": render("steer off", vae=["vae", 0]),
    }
    prompt = {
        **latent_base(network),
        **latent_discover(),
        "steer": steer(20.0),
        **off,
        "render": render("steer", vae=["vae", 0]),
        **resampled("steer"),
        "atlas": node(
            "HSpaceDirectionAtlas",
            model=["model", 0],
            trajectory=["invert", 0],
            directions=["discover", 0],
            strength=10.0,
            columns=3,
            count=2,
            title="",
            vae=["vae", 0],
        ),
    }
    for name, source in (
        ("inverted", ["invert", 2]),
        ("edited", ["render", 0]),
        ("same", ["render off", 0]),
        ("plain", ["render", 1]),
        ("sampled", ["decode", 0]),
        ("sheet", ["atlas", 0]),
    ):
        prompt[name] = node("SaveImage", images=source, filename_prefix=name)
    outputs = server.queue(prompt, timeout=600).outputs
    shown = {
        name: picture(server, outputs, name) for name in ("inverted", "edited", "same", "plain", "sampled", "sheet")
    }
    assert shown["plain"].shape == (128, 144, 3)
    assert torch.equal(shown["same"], shown["plain"]) and torch.equal(shown["plain"], shown["inverted"])
    change = (shown["edited"] - shown["plain"]).abs()
    assert change.mean() > 2 / 255, "the edit shows nothing"
    # The stock sampler runs the same steps; the two ways round differently.
    assert (shown["sampled"] - shown["edited"]).abs().mean() < 0.1 * change.mean()


@pytest.mark.sweep("")
@pytest.mark.parametrize(("name", "network"), [("discover_region_sd15", "sd15"), ("discover_region_sdxl", "sdxl")])
def test_shipped_workflows_for_checkpoints_run(server, name, network):
    """The shipped graph, its loader exchanged for a small network of the same family, its picture for one with a
    painted half."""
    prompt = json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))
    number = {role_of(entry["_meta"]["title"]): key for key, entry in prompt.items()}
    assert prompt[number["Load Checkpoint"]]["class_type"] == "CheckpointLoaderSimple"
    moved = {
        (number["Load Checkpoint"], 2): ["vae", 0],
        (number["CLIP Text Encode (Prompt)"], 0): [number["Load Checkpoint"], 1],
        (number["Picture"], 1): ["region", 0],
    }
    del prompt[number["CLIP Text Encode (Prompt)"]]
    prompt |= unet(network) | {number["Load Checkpoint"]: unet(network)["model"], "vae": node("HSpaceTestVAE")}
    prompt[number["Picture"]] = node("HSpaceTestPicture", case="noise", width=128, height=128)
    prompt |= {key: entry for key, entry in latent_discover().items() if key != "discover"}
    for entry in prompt.values():
        inputs = entry["inputs"]
        inputs |= {key: moved.get(tuple(value), value) for key, value in inputs.items() if isinstance(value, list)}
        inputs |= {
            key: value
            for key, value in {"width": 128, "height": 128, "steps": 6, "k": 2, "count": 2, "iterations": 2}.items()
            if key in inputs
        }
    prompt["half"]["inputs"]["width"] = 64
    outputs = server.queue(prompt, timeout=600).outputs
    assert picture(server, outputs, number["Edited"]).shape == (128, 128, 3)
    assert "Jacobian products" in outputs[number["Report"]]["text"][0]


def test_guidance_travels_with_the_trajectory(server):
    prompt = {**latent_base(negative=["model", 2], cfg=3.0), **latent_discover(), "steer": steer(10.0)}
    prompt["render"] = render("steer", asymmetric=True, vae=["vae", 0])
    prompt["save"] = node("SaveImage", images=["render", 0], filename_prefix="guided")
    assert server.queue(prompt, timeout=600).outputs["save"]["images"]


def test_a_steered_latent_model_in_the_stock_sampler(server):
    def sampled(model: str) -> torch.Tensor:
        prompt = {
            **latent_base(),
            **latent_discover(),
            "steer": steer(30.0, sigma_start=1000.0, sigma_end=0.0),
            **lora(server),
            "after lora": steer(30.0, sigma_start=1000.0, sigma_end=0.0, model=["lora", 0]),
            "before lora": node(
                "LoraLoaderModelOnly", model=["steer", 0], lora_name="hspace_test.safetensors", strength_model=1.0
            ),
            "empty latent": node("EmptyLatentImage", width=144, height=128, batch_size=2),
            "sample": ksampler(model, ["model", 1], ["model", 2], "empty latent", seed=1, steps=4, cfg=4.0),
            "decode": node("VAEDecode", samples=["sample", 0], vae=["vae", 0]),
            "save": node("SaveImage", images=["decode", 0], filename_prefix="k"),
        }
        return picture(server, server.queue(prompt, timeout=300).outputs, "save")

    assert (sampled("model") - sampled("steer")).abs().mean() > 1 / 255
    assert (sampled("lora") - sampled("after lora")).abs().mean() > 1 / 255
    assert torch.equal(sampled("after lora"), sampled("before lora"))


def test_what_latent_models_need_is_said(server):
    no_vae = latent_base()
    del no_vae["invert"]["inputs"]["vae"]
    refused(server, {**no_vae, "save": node("SaveImage", images=["invert", 2], filename_prefix="x")}, "connect the VAE")
    no_prompt = latent_base()
    del no_prompt["invert"]["inputs"]["positive"]
    refused(
        server,
        {**no_prompt, "save": node("SaveImage", images=["invert", 2], filename_prefix="x")},
        "takes prompts",
        "CLIP Text Encode",
    )
    refused(
        server,
        {**latent_base(cfg=4.0), "save": node("SaveImage", images=["invert", 2], filename_prefix="x")},
        "negative",
        "cfg",
    )


def test_rivals_on_a_latent_model(server):
    """LOCO and pullback differentiate the encoder too, with kernels that allow it."""
    prompt = {**latent_base(), **latent_discover()}
    for name, method in (("loco", "LOCO Edit (x)"), ("pullback", "pullback (x)")):
        prompt[name] = node(
            "HSpaceBaselineDirections",
            model=["model", 0],
            trajectory=["invert", 0],
            method=method,
            k=1,
            sigma=2.0,
            **({"mask": ["region", 0], "rank": 2} if name == "loco" else {"rank": 5}),
            layer="middle",
            image_index=0,
            iterations=2,
            seed=0,
        )
        prompt[f"edit {name}"] = node(
            "HSpaceEditState",
            model=["model", 0],
            trajectory=["invert", 0],
            directions=[name, 0],
            strength=3.0,
            direction=1,
            how="step",
            repeats=16,
        )
        prompt[f"render {name}"] = render("model", trajectory=[f"edit {name}", 0], vae=["vae", 0])
        prompt[f"save {name}"] = node("SaveImage", images=[f"render {name}", 0], filename_prefix=name)
    prompt["plain"] = node("SaveImage", images=["invert", 2], filename_prefix="plain")
    outputs = server.queue(prompt, timeout=300).outputs
    for name in ("loco", "pullback"):
        assert (picture(server, outputs, f"save {name}") - picture(server, outputs, "plain")).abs().mean() > 0.5 / 255


def test_resuming_on_another_model_is_refused(server):
    prompt = {
        **latent_base(),
        "other": node("HSpaceTestUNet", network="sd15", dtype="fp32", seed=9),
        **resampled("other"),
        "save": node("SaveImage", images=["decode", 0], filename_prefix="x"),
    }
    refused(server, prompt, "this trajectory was made with model", "connect the same MODEL")


def test_masks_are_spoken_of_in_pixels(server):
    prompt = {**latent_base(), **latent_discover()}
    prompt["wrong"] = node("SolidMask", value=1.0, width=100, height=200)
    prompt["discover"]["inputs"]["mask"] = ["wrong", 0]
    prompt["show"] = node("SaveImage", images=["discover", 1], filename_prefix="x")
    refused(server, prompt, "aspect of the image (144x128)", "got 100x200")
