"""The face text model in stock nodes."""

from .graphs import ksampler, node, save

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
    sample = ksampler(model or "model", "positive", "negative", "latent", **{"seed": 5, "cfg": 3.0, **options})
    return {
        f"sample {name}": sample,
        f"decode {name}": node("VAEDecode", samples=[f"sample {name}", 0], vae=["model", 2]),
        f"keep {name}": save([f"decode {name}", 0]),
    }
