"""The text-conditional face model in stock nodes."""

import numpy as np

from .graphs import node, save
from .test_pipeline import pictures

PROMPT = "a smiling person with long red hair and glasses and blue eyes"


def text_model() -> dict[str, dict]:
    """Model, an empty picture of its size and two prompts."""
    return {
        "model": node("HSpaceLoadFaceTextModel"),
        "empty": node("EmptyImage", width=64, height=64, batch_size=1, color=0x808080),
        "latent": node("VAEEncode", pixels=["empty", 0], vae=["model", 2]),
        "positive": node("CLIPTextEncode", clip=["model", 1], text=PROMPT),
        "negative": node("CLIPTextEncode", clip=["model", 1], text=""),
    }


def sampled(name: str, model: list | None = None, **options) -> dict[str, dict]:
    """A stock sampler on it, decoded and saved."""
    inputs = {"seed": 5, "steps": 6, "cfg": 3.0, "sampler_name": "euler", "scheduler": "karras", "denoise": 1.0, **options}
    links = {"positive": ["positive", 0], "negative": ["negative", 0], "latent_image": ["latent", 0], "model": model or ["model", 0]}
    return {
        f"sample {name}": node("KSampler", **{**inputs, **links}),
        f"decode {name}": node("VAEDecode", samples=[f"sample {name}", 0], vae=["model", 2]),
        f"keep {name}": save([f"decode {name}", 0]),
    }


def test_stock_samplers_and_prompts(server):
    prompt = {**text_model(), **sampled("a"), **sampled("again", seed=6)}
    result = server.queue(prompt, timeout=300)
    a, again = (pictures(server, result, f"keep {n}")[0].astype(int) for n in ("a", "again"))
    assert a.shape == (64, 64, 3) and a.std() > 20 and np.abs(a - again).mean() > 3
