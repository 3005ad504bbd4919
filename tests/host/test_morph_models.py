"""Morphing on every family of models, and with little memory."""

import numpy as np
import pytest

from .graphs import AS_IT_IS, face, invert, node, refused, save
from .morph_graphs import SEEDS, TUNED, frames, inverted, rendered, saved, shown


@pytest.mark.sweep("")
@pytest.mark.parametrize("family", ["sd15", "sd2 v", "sdxl", "sd15 fp16"])
def test_every_family_with_its_posterior(server, family):
    """Non-square latents, guidance with prompts of different length, and the posterior of a KL autoencoder."""
    network, _, dtype = family.partition(" fp")
    prompt = {
        "model": node("HSpaceTestUNet", network=network, dtype=f"fp{dtype}" if dtype else "fp32", seed=0),
        "vae": node("HSpaceTestVAE", network="kl"),
        "sigmas": node("BasicScheduler", model=["model", 0], scheduler="karras", steps=3, denoise=0.6),
        "prompt first": node("ConditioningZeroOut", conditioning=["model", 1]),
    }
    for i, name in enumerate(SEEDS):
        positive = ["model", 1 + i]
        prompt |= {
            f"face {name}": node("HSpaceTestPicture", case="noise", width=96, height=64),
            f"fit {name}": node(
                "HSpaceFitImageLora",
                model=["model", 0],
                image=[f"face {name}", 0],
                positive=positive,
                vae=["vae", 0],
                steps=3,
                rank=2,
                lr=1e-3,
                seed=0,
                **AS_IT_IS,
            ),
            f"tuned {name}": node(
                "LoraModelLoader", model=["model", 0], lora=[f"fit {name}", 0], strength_model=1.0, bypass=False
            ),
            f"invert {name}": invert(
                f"face {name}",
                "sigmas",
                "ddim B",
                vae=["vae", 0],
                positive=positive,
                negative=["prompt first", 0],
                cfg=1.5,
                model=f"tuned {name}",
            ),
        }
        prompt |= rendered(name, f"tuned {name}")
        prompt[f"render {name}"]["inputs"]["vae"] = ["vae", 0]
    prompt |= saved(frames(vae=["vae", 0]), "all")
    prompt["said"] = node("PreviewAny", source=["fit first", 2])
    result = server.queue(prompt, timeout=600)
    assert "posterior is drawn" in result.outputs["said"]["text"][0]
    morphed = shown(server, result, "all")
    assert morphed.shape == (3, 64, 96, 3)
    for i, end in ((0, "first"), (2, "second")):
        difference = np.abs(morphed[i] - shown(server, result, f"render {end}")[0])
        assert difference.max() <= (1 if not dtype else 12) and difference.mean() < 1


def test_pixel_models_morph_without_attention_and_say_so(server):
    prompt = {"model": node("HSpaceLoadFaceModel")}
    prompt["sigmas"] = node("BasicScheduler", model=["model", 0], scheduler="karras", steps=4, denoise=1.0)
    for name, seed in SEEDS.items():
        prompt |= {
            f"face {name}": face(seed),
            f"invert {name}": invert(f"face {name}", "sigmas", "ddim B"),
        } | rendered(name, "model")
        prompt[f"render {name}"]["inputs"]["vae"] = ["model", 1]
    result = server.queue(prompt | saved(frames(loras=False, vae=["model", 1]), "all"), timeout=600)
    assert "nowhere" in result.outputs["text all"]["text"][0]
    for i, end in ((0, "first"), (2, "second")):
        assert np.abs(shown(server, result, "all")[i] - shown(server, result, f"render {end}")[0]).max() <= 1


def test_a_lora_of_convolutions_is_refused(server):
    prompt = {
        "model": node("HSpaceLoadFaceModel"),
        "tuned": node("HSpaceLoadFineTuned", file=TUNED),
        "face first": face(3),
        "face second": face(4),
    }
    prompt["sigmas"] = node("BasicScheduler", model=["model", 0], scheduler="karras", steps=3, denoise=1.0)
    prompt["with"] = node("LoraModelLoader", model=["model", 0], lora=["tuned", 0], strength_model=1.0, bypass=False)
    for name in SEEDS:
        prompt |= inverted(name, "with" if name == "first" else "model")
        del prompt[f"invert {name}"]["inputs"]["positive"]
        prompt[f"invert {name}"]["inputs"]["vae"] = ["model", 1]
    morph = frames(loras=False, lora_first=["tuned", 0], vae=["model", 1])
    refused(server, prompt | saved(morph, "all"), "lora_first", "not a plain low-rank difference")


def test_split_batches_of_guidance(server):
    """With little memory free the host runs positive and negative prompts one after the other: the frames are the
    same."""
    prompt = {
        "model": node("HSpaceTestUNet", network="sd15", dtype="fp32", seed=0),
        "vae": node("HSpaceTestVAE", network="tiny"),
        "sigmas": node("BasicScheduler", model=["model", 0], scheduler="karras", steps=3, denoise=0.6),
    }
    for i, name in enumerate(SEEDS):
        prompt |= {
            f"face {name}": node("HSpaceTestPicture", case="noise", width=64, height=64),
            f"invert {name}": invert(
                f"face {name}",
                "sigmas",
                "ddim B",
                vae=["vae", 0],
                positive=["model", 1 + i],
                negative=["model", 2 - i],
                cfg=2.0,
            ),
        }
    result = server.queue(prompt | saved(frames(loras=False, vae=["vae", 0]), "plenty"), timeout=600)
    try:
        tight = dict(prompt)
        for name in SEEDS:
            tight[f"free {name}"] = node("HSpaceTestFreeMemory", image=[f"face {name}", 0], megabytes=0)
            tight[f"invert {name}"] = {
                **prompt[f"invert {name}"],
                "inputs": {**prompt[f"invert {name}"]["inputs"], "image": [f"free {name}", 0]},
            }
        little = server.queue(tight | saved(frames(loras=False, vae=["vae", 0]), "little"), timeout=600)
    finally:
        reset = {"face": node("EmptyImage", width=8, height=8, batch_size=1, color=0)}
        reset["free"] = node("HSpaceTestFreeMemory", image=["face", 0], megabytes=-1)
        server.queue({**reset, "keep": save(["free", 0])})
    a, b = shown(server, result, "plenty"), shown(server, little, "little")
    assert np.abs(a - b).max() <= 1 and np.abs(a[0] - a[2]).max() > 1
