"""Graphs of edit-friendly inversion, and of stock samplers that go back from it."""

import numpy as np

from .graphs import FACE, custom_sampler, edit_friendly, face, node, pictures, save

SOURCE = "a smiling person with short brown hair"
TARGET = "a smiling person with short red hair"
HAIR = 3  # output of Demo Face


def world(steps: int = 10, model: str = "HSpaceLoadFaceTextModel", seed: int = 35, **options) -> dict[str, dict]:
    """A face, inverted by the model with a prompt of what it shows."""
    text = model == "HSpaceLoadFaceTextModel"
    prompt = {
        "model": node(model),
        FACE: face(seed),
        "sigmas": node("BasicScheduler", model=["model", 0], scheduler="karras", steps=steps, denoise=1.0),
        "noise": node("RandomNoise", noise_seed=3),
        "invert": edit_friendly(FACE, "sigmas", **options),
        "psnr": node("PreviewAny", source=["invert", 3]),
    }
    if text:
        for name, words in (("source", SOURCE), ("target", TARGET), ("empty", "")):
            prompt[name] = node("CLIPTextEncode", clip=["model", 1], text=words)
        negative = {"negative": ["empty", 0]} if options.get("cfg", 1.0) != 1 else {}
        prompt["invert"]["inputs"] |= {"positive": ["source", 0], **negative, "vae": ["model", 2], **options}
    return prompt


def vae(prompt: dict) -> list:
    return ["model", 2 if prompt["model"]["class_type"] == "HSpaceLoadFaceTextModel" else 1]


def run(
    prompt: dict,
    name: str,
    guider: list,
    latent: list | None = None,
    sampler: list | None = None,
    sigmas: list | None = None,
    **dials,
) -> dict:
    """A stock sampler run, decoded and saved as ``name``."""
    latent = latent or ["invert", 1]
    nodes = {}
    if sampler is None:
        nodes[f"sampler {name}"] = node("HSpaceSampleEditFriendly", **{"trajectory": ["invert", 0], "skip": 0, **dials})
        sampler, sigmas = [f"sampler {name}", 0], [f"sampler {name}", 1]
    nodes[f"run {name}"] = custom_sampler("noise", guider, sampler, sigmas, latent)
    nodes[f"decode {name}"] = node("VAEDecode", samples=[f"run {name}", 0], vae=vae(prompt))
    nodes[name] = save([f"decode {name}", 0])
    return nodes


def cfg_guider(positive: str, cfg: float, model: str = "model") -> dict:
    return node("CFGGuider", model=[model, 0], positive=[positive, 0], negative=["empty", 0], cfg=cfg)


def concept(words: str, **dials) -> dict:
    return node(
        "HSpaceEditConcept", conditioning=[words, 0], **{"scale": 6.0, "threshold": 0.7, "reverse": False, **dials}
    )


def queue_pictures(server, prompt, *names):
    result = server.queue(prompt, timeout=600)
    return [np.stack(pictures(server, result, name)).astype(int) for name in names], result
