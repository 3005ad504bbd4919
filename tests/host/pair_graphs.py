"""Graphs of prompt pairs, on the face text model and on small random U-Nets."""

import json

from .graphs import ksampler, node
from .text_graphs import text_model

TEXTS = {"source": "a smiling person with red hair", "targets": "a smiling person with blond hair"}  # as they come
SOURCE, TARGET = "a smiling person with red hair", "a smiling person with blond hair"


def faces(
    targets: str = TARGET, source: str = SOURCE, rows: int = 2, width: int = 64, height: int = 64, batch: int = 1
) -> dict:
    """The face text model with a pair."""
    prompt = text_model()
    prompt["empty"]["inputs"] |= {"width": width, "height": height, "batch_size": batch}
    return prompt | {
        "pair": node("HSpacePairConditioning", clip=["model", 1], source=source, targets=targets),
        "rows": node("HSpacePairLatent", latent=["latent", 0], rows=rows),
    }


def p2p(model=("model", 0), tokens=("pair", 1), **options) -> dict:
    inputs = {
        "mode": "auto",
        "cross_end": 0.8,
        "self_end": 0.5,
        "reweights": "",
        "windows": "",
        "self_resolution": "half",
        **options,
    }
    return node("HSpacePromptToPrompt", model=list(model), tokens=list(tokens), **inputs)


def local_blend(model: str, **options) -> dict:
    inputs = {"words": "", "threshold": 0.3, "start": 0.0, "without": "", **options}
    return node("HSpaceP2PLocalBlend", model=[model, 0], tokens=["pair", 1], **inputs)


def sample(model, positive=("pair", 0), latent=("rows", 0), negative=("negative", 0), **options) -> dict:
    return ksampler(model, positive, negative, latent, **{"seed": 5, "cfg": 3.0, **options})


def differences(server, prompt: dict, *pairs: tuple[str, str]) -> list[dict]:
    """How far samplers' results are apart."""
    prompt = dict(prompt)
    for a, b in pairs:
        prompt[f"{a} / {b}"] = node("HSpaceTestDifference", a=[a, 0], b=[b, 0])
    result = server.queue(prompt, timeout=300)
    figures = [json.loads(result.outputs[f"{a} / {b}"]["text"][0]) for a, b in pairs]
    assert all(one["finite"] for one in figures)
    return figures


def small(network: str = "sd15", targets: int = 1, width: int = 128, height: int = 128) -> dict:
    """A small random U-Net with a random pair."""
    return {
        "model": node("HSpaceTestUNet", network=network, dtype="fp32", seed=0),
        "pair": node("HSpaceTestPair", network=network, targets=targets),
        "latent": node("EmptyLatentImage", width=width, height=height, batch_size=1),
        "rows": node("HSpacePairLatent", latent=["latent", 0], rows=1 + targets),
    }
