"""Small prompts for the tests, written as chains of nodes."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from devtools.client import ExecutionFailed, Interrupted, PromptRefused

FACE, SCHEDULE = "face", "sigmas"
AS_IT_IS = {"fit": "any size"}  # the pictures here are smaller than what most models work at


def node(kind: str, **inputs: Any) -> dict:
    """One node of a prompt."""
    return {"class_type": kind, "inputs": inputs}


def link(source: str | list | tuple) -> list:
    """A link to a node, by its name for the first output, or by name and output."""
    return [source, 0] if isinstance(source, str) else list(source)


def base(steps: int = 8, seed: int = 35, iterations: int = 2) -> dict[str, dict]:
    """Model, face, sigmas and inversion."""
    return {
        "model": node("HSpaceLoadFaceModel"),
        FACE: face(seed),
        SCHEDULE: node("BasicScheduler", model=["model", 0], scheduler="karras", steps=steps, denoise=1.0),
        "invert": invert(iterations=iterations),
    }


def invert(
    image: str | list = FACE,
    sigmas: str | list = SCHEDULE,
    method: str = "fixed point",
    iterations: int = 3,
    model: str | list = "model",
    **options: Any,
) -> dict:
    """Invert a picture. A link is the name of a node, or of a node and its output."""
    inputs = {
        "model": link(model),
        "image": link(image),
        "sigmas": link(sigmas),
        "method": method,
        **AS_IT_IS,
        **options,
    }
    return node("HSpaceInvertImage", iterations=iterations, **inputs)


def edit_friendly(
    image: str | list = FACE, sigmas: str | list = SCHEDULE, model: str | list = "model", **options: Any
) -> dict:
    """Invert a picture with its noises; links as in :func:`invert`."""
    inputs = {"model": link(model), "image": link(image), "sigmas": link(sigmas), "solver": "ddpm", "cfg": 1.0}
    return node("HSpaceEditFriendlyInversion", **{**inputs, "seed": 0, **AS_IT_IS, **options})


def face(seed: int = 35, origin: str = "random", **values: Any) -> dict:
    """A Demo Face with the schema's defaults."""
    dials = {
        "smile": 0.0,
        "mouth_open": 0.0,
        "eye_open": 0.75,
        "gaze": 0.0,
        "brow_height": 0.0,
        "brow_tilt": 0.0,
        "nose_size": 0.4,
        "face_width": 0.0,
        "yaw": 0.0,
        "light": 0.0,
        "skin": 0.3,
        "hair_length": 0.4,
        "hair_shade": 0.0,
        "bg_hue": 0.6,
        "shirt_hue": 0.0,
        "glasses": False,
        "hair_color": "brown",
        "eye_color": "brown",
    }
    return node("HSpaceDemoFace", source=origin, seed=seed, count=1, **{**dials, **values})


def discover(mask: list | None = (FACE, 1), **options: Any) -> dict:
    """Discover two directions of the mouth, cheaply."""
    inputs = {
        "model": ["model", 0],
        "trajectory": ["invert", 0],
        "k": 2,
        "mode": "generalized",
        "tau": 0.01,
        "rank": 20,
        "sigma": 0.0,
    }
    if mask is not None:
        inputs["mask"] = list(mask)
    return node(
        "HSpaceDiscoverRegion", **{**inputs, "layer": "middle", "image_index": 0, "iterations": 2, "seed": 0, **options}
    )


def steer(
    strength: float, directions: list | tuple = ("discover", 0), model: list | tuple = ("model", 0), **options: Any
) -> dict:
    """Steer along the first direction."""
    inputs = {"direction": 1, "sigma_start": 0.0, "sigma_end": 0.1, "normalise": "none", **options}
    return node("HSpaceSteer", model=list(model), directions=list(directions), strength=strength, **inputs)


def render(model: str, trajectory: str | list = "invert", **options: Any) -> dict:
    """Render the inverted picture through a MODEL."""
    inputs = {"asymmetric": False, "eta": 0.0, "seed": 0, "protect": 0.0, **options}
    return node("HSpaceRenderTrajectory", model=[model, 0], trajectory=link(trajectory), **inputs)


def ksampler(
    model: str | list | tuple,
    positive: str | list | tuple,
    negative: str | list | tuple,
    latent: str | list | tuple,
    **dials: Any,
) -> dict:
    """A stock KSampler; links as in :func:`invert`."""
    links = {"model": model, "positive": positive, "negative": negative, "latent_image": latent}
    inputs = {"seed": 3, "steps": 6, "cfg": 1.0, "sampler_name": "euler", "scheduler": "karras", "denoise": 1.0}
    return node("KSampler", **{name: link(source) for name, source in links.items()}, **{**inputs, **dials})


def sampler(model: str, latent: str | list, **dials: Any) -> dict:
    """A stock KSampler on a pixel model."""
    return ksampler(model, ["model", 2], ["model", 2], latent, **dials)


def custom_sampler(
    noise: str | list, guider: str | list, sampler: str | list, sigmas: str | list, latent: str | list
) -> dict:
    """A stock SamplerCustomAdvanced; links as in :func:`invert`."""
    return node(
        "SamplerCustomAdvanced",
        noise=link(noise),
        guider=link(guider),
        sampler=link(sampler),
        sigmas=link(sigmas),
        latent_image=link(latent),
    )


def half_mask(width: int, height: int, name: str = "half", value: float = 1.0) -> dict:
    """A mask of the left half of a picture, and one of nothing, ``<name> zeros``."""
    zeros, part = f"{name} zeros", f"{name} part"
    return {
        part: node("SolidMask", value=value, width=width // 2, height=height),
        zeros: node("SolidMask", value=0.0, width=width, height=height),
        name: node("MaskComposite", destination=[zeros, 0], source=[part, 0], x=0, y=0, operation="add"),
    }


def save(source: list, name: str = "test") -> dict:
    """Save pictures losslessly."""
    return node("SaveImage", images=source, filename_prefix=name)


def refused(server, prompt, *words):
    """The prompt fails, and the message holds all words."""
    with pytest.raises((ExecutionFailed, PromptRefused)) as error:
        server.queue(prompt, timeout=300)
    for word in words:
        assert word in str(error.value), f"{word!r} is not in: {error.value}"


def cancelled(server, prompt, name: str, after: int = 3):
    """Queue a prompt and cancel it as soon as node ``name`` tells of step ``after``."""

    def watch(kind: str, data: dict) -> None:
        if kind == "progress" and data.get("node") == name and data["value"] >= after:
            server.interrupt()

    with pytest.raises(Interrupted):
        server.queue(prompt, timeout=600, on_event=watch)


def pictures(server, result, name) -> list[np.ndarray]:
    """What a SaveImage node saved, `[h w 3]` uint8 each."""
    return [
        np.asarray(Image.open(io.BytesIO(server.view(image))).convert("RGB"))
        for image in result.outputs[name]["images"]
    ]
