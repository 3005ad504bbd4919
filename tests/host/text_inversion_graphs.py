"""Graphs that invert a picture with a prompt."""

import numpy as np

from .graphs import FACE, SCHEDULE, custom_sampler, face, invert, node, pictures, save

CAPTION = 5  # output of Demo Face
TARGET = "a smiling person with long red hair and glasses and blue eyes"


def source(steps: int = 12, seed: int = 35, **options) -> dict[str, dict]:
    """The text model, a face with its caption and another prompt, and its inversion."""
    inputs = {
        "method": "fixed point",
        "iterations": 6 if options.get("method", "fixed point") == "fixed point" else 3,
        "cfg": 1.0,
        **options,
    }
    if inputs["cfg"] != 1:
        inputs["negative"] = ["empty", 0]
    return {
        "model": node("HSpaceLoadFaceTextModel"),
        FACE: face(seed),
        SCHEDULE: node("BasicScheduler", model=["model", 0], scheduler="karras", steps=steps, denoise=0.6),
        "positive": node("CLIPTextEncode", clip=["model", 1], text=[FACE, CAPTION]),
        "empty": node("CLIPTextEncode", clip=["model", 1], text=""),
        "target": node("CLIPTextEncode", clip=["model", 1], text=TARGET),
        "invert": invert(FACE, SCHEDULE, vae=["model", 2], positive=["positive", 0], **inputs),
        "source": save([FACE, 0]),
    }


def sampled(
    name: str, positive="positive", negative="empty", cfg: float = 3.0, model="model", resume: str | None = None
) -> dict[str, dict]:
    """SamplerCustomAdvanced from the noisiest state: the stock Euler sampler, or one of the pack's."""
    sampler, sigmas = ([resume, 0], [resume, 1]) if resume else (["euler", 0], [SCHEDULE, 0])
    return {
        "euler": node("KSamplerSelect", sampler_name="euler"),
        "no noise": node("DisableNoise"),
        f"guider {name}": node("CFGGuider", model=[model, 0], positive=[positive, 0], negative=[negative, 0], cfg=cfg),
        f"sample {name}": custom_sampler("no noise", f"guider {name}", sampler, sigmas, ["invert", 1]),
        f"decode {name}": node("VAEDecode", samples=[f"sample {name}", 0], vae=["model", 2]),
        f"keep {name}": save([f"decode {name}", 0], name.replace(" ", "_")),
    }


def shown(server, result, name: str) -> np.ndarray:
    return np.stack(pictures(server, result, name)).astype(float)


def error(a: np.ndarray, b: np.ndarray) -> float:
    """PSNR in dB."""
    return 10 * np.log10(255**2 / max(float(np.square(a - b).mean()), 1e-9))
