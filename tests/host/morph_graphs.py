"""Graphs that morph one face into another."""

import numpy as np

from .graphs import AS_IT_IS, face, node, pictures, save
from .text_graphs import text_model

TUNED = "hspace/glasses.safetensors"
LAYERS = 80  # ten transformer blocks
SEEDS = {"first": 3, "second": 11}
TEXTS = {"first": "a person with brown hair", "second": "a smiling person with glasses and long hair"}


def ends(steps: int = 6, method: str = "ddim B", lora_steps: int = 12, **fit) -> dict:
    """Both faces with prompt, LoRA, the model with it, and inversion."""
    prompt = {
        **text_model(),
        "sigmas": node("BasicScheduler", model=["model", 0], scheduler="karras", steps=steps, denoise=1.0),
    }
    for name, seed in SEEDS.items():
        prompt |= {
            f"face {name}": face(seed),
            f"prompt {name}": node("CLIPTextEncode", clip=["model", 1], text=TEXTS[name]),
            f"fit {name}": fitted(name, steps=lora_steps, **fit),
            f"tuned {name}": node(
                "LoraModelLoader", model=["model", 0], lora=[f"fit {name}", 0], strength_model=1.0, bypass=False
            ),
            **inverted(name, f"tuned {name}", method),
        }
    return prompt


def fitted(name: str, **options) -> dict:
    inputs = {"steps": 12, "rank": 4, "lr": 2e-3, "seed": 0, **options}
    links = {
        "model": ["model", 0],
        "image": [f"face {name}", 0],
        "positive": [f"prompt {name}", 0],
        "vae": ["model", 2],
    }
    return node("HSpaceFitImageLora", **{**links, **inputs})


def inverted(name: str, model: str, method: str = "ddim B", suffix: str = "") -> dict:
    links = {"model": [model, 0], "image": [f"face {name}", 0], "sigmas": ["sigmas", 0], "vae": ["model", 2]}
    more = {"method": method, "iterations": 1 if method == "fixed point" else 3, "positive": [f"prompt {name}", 0]}
    return {f"invert {name}{suffix}": node("HSpaceInvertImage", **links, **more, **AS_IT_IS)}


def frames(loras: bool = True, suffix: str = "", **options) -> dict:
    # Named places say how many frames there are.
    inputs = {
        "frames": 12 if options.get("alphas") else 3,
        "alphas": "",
        "attention": 0.6,
        "adain": True,
        "lora_mode": "delta",
        "batch": 4,
        **options,
    }
    links = {
        "model": ["model", 0],
        "first": [f"invert first{suffix}", 0],
        "second": [f"invert second{suffix}", 0],
        "vae": ["model", 2],
    }
    if loras:
        links |= {"lora_first": ["fit first", 0], "lora_second": ["fit second", 0]}
    return node("HSpaceMorphFrames", **{**links, **inputs})


def rendered(name: str, model: str, suffix: str = "") -> dict:
    inputs = {"asymmetric": False, "eta": 0.0, "seed": 0, "protect": 0.0, "vae": ["model", 2]}
    key = f"render {name}{suffix}"
    return {
        key: node("HSpaceRenderTrajectory", model=[model, 0], trajectory=[f"invert {name}{suffix}", 0], **inputs),
        f"keep {key}": save([key, 0]),
    }


def saved(prompt: dict, name: str) -> dict:
    return {name: prompt, f"keep {name}": save([name, 0]), f"text {name}": node("PreviewAny", source=[name, 3])}


def shown(server, result, name: str) -> np.ndarray:
    return np.stack(pictures(server, result, f"keep {name}")).astype(int)
