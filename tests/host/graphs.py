"""Small prompts for the tests, written as chains of nodes."""

from typing import Any

import pytest

from devtools.client import ExecutionFailed, PromptRefused

FACE, SCHEDULE = "face", "sigmas"


def node(kind: str, **inputs: Any) -> dict:
    """One node of a prompt."""
    return {"class_type": kind, "inputs": inputs}


def base(steps: int = 8, seed: int = 35, iterations: int = 2) -> dict[str, dict]:
    """Model, face, sigmas and inversion."""
    return {
        "model": node("HSpaceLoadFaceModel"),
        FACE: face(seed),
        SCHEDULE: node("BasicScheduler", model=["model", 0], scheduler="karras", steps=steps, denoise=1.0),
        "invert": node(
            "HSpaceInvertImage", model=["model", 0], image=[FACE, 0], sigmas=[SCHEDULE, 0], method="fixed point", iterations=iterations
        ),
    }


def face(seed: int = 35, origin: str = "random", **values: Any) -> dict:
    """A Demo Face with the schema's defaults."""
    dials = {
        "smile": 0.0, "mouth_open": 0.0, "eye_open": 0.75, "gaze": 0.0, "brow_height": 0.0, "brow_tilt": 0.0, "nose_size": 0.4,
        "face_width": 0.0, "yaw": 0.0, "light": 0.0, "skin": 0.3, "hair_length": 0.4, "hair_shade": 0.0, "bg_hue": 0.6, "shirt_hue": 0.0,
        "glasses": False, "hair_color": "brown", "eye_color": "brown",
    }  # fmt: skip
    return node("HSpaceDemoFace", source=origin, seed=seed, count=1, **{**dials, **values})


def discover(mask: list | None = (FACE, 1), **options: Any) -> dict:
    """Discover two directions of the mouth, cheaply."""
    inputs = {"model": ["model", 0], "trajectory": ["invert", 0], "k": 2, "mode": "generalized", "tau": 0.01, "rank": 4, "sigma": 0.0}
    if mask is not None:
        inputs["mask"] = list(mask)
    return node("HSpaceDiscoverRegion", **{**inputs, "layer": "middle", "image_index": 0, "iterations": 2, "seed": 0, **options})


def steer(strength: float, directions: list | tuple = ("discover", 0), model: list | tuple = ("model", 0), **options: Any) -> dict:
    """Steer along the first direction."""
    inputs = {"direction": 1, "sigma_start": 0.0, "sigma_end": 0.1, "normalise": "none", **options}
    return node("HSpaceSteer", model=list(model), directions=list(directions), strength=strength, **inputs)


def render(model: str, **options: Any) -> dict:
    """Render the inverted picture through a MODEL."""
    inputs = {"asymmetric": False, "eta": 0.0, "seed": 0, "protect": 0.0, **options}
    return node("HSpaceRenderTrajectory", model=[model, 0], trajectory=["invert", 0], **inputs)


def sampler(model: str, latent: list, **options: Any) -> dict:
    """A stock KSampler on a pixel model."""
    inputs = {"seed": 3, "steps": 6, "cfg": 1.0, "sampler_name": "euler", "scheduler": "karras", "denoise": 1.0, **options}
    return node("KSampler", model=[model, 0], positive=["model", 2], negative=["model", 2], latent_image=latent, **inputs)


def save(source: list, name: str = "test") -> dict:
    """Save pictures losslessly."""
    return node("SaveImage", images=source, filename_prefix=name)


def refused(server, prompt, *words):
    """The prompt fails, and the message holds all words."""
    with pytest.raises((ExecutionFailed, PromptRefused)) as error:
        server.queue(prompt, timeout=300)
    for word in words:
        assert word in str(error.value), f"{word!r} is not in: {error.value}"
