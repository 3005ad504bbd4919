"""Graphs that edit codes of an autoencoder."""

import numpy as np

from .graphs import FACE, face, invert, ksampler, link, node, pictures, save

FILE = "tiny_diffae.safetensors"


def codes(count: int = 12) -> dict[str, dict]:
    """Faces, their codes and the embedder."""
    prompt = {
        "model": node("HSpaceLoadDiffAE", checkpoint=FILE),
        FACE: face(),
        "embedder": node("HSpaceLoadFaceEmbedder"),
    }
    prompt[FACE]["inputs"]["count"] = count
    return {**prompt, "code": node("HSpaceEncodeCode", model=["model", 0], image=[FACE, 0])}


def inverted_codes(count: int) -> dict[str, dict]:
    """Faces with their codes, inverted with these."""
    sigmas = node("BasicScheduler", model=["model", 0], scheduler="karras", steps=4, denoise=1.0)
    return {
        **codes(count),
        "sigmas": sigmas,
        "invert": invert(FACE, "sigmas", "ddim B", positive=["code", 0]),
    }


def sampled(code: str | list, latent: list, noise_seed: int | None = None, sigmas: str = "sigmas") -> dict:
    """A stock sampler without guidance, from a latent with its noise or with that of a seed."""
    return node(
        "SamplerCustom",
        model=["model", 0],
        add_noise=noise_seed is not None,
        noise_seed=noise_seed or 0,
        cfg=1.0,
        positive=link(code),
        negative=link(code),
        sampler=["euler", 0],
        sigmas=[sigmas, 0],
        latent_image=latent,
    )


def mapper(**options) -> dict:
    inputs = {"steps": 30, "batch": 8, "lr": 0.001, **options}
    return node("HSpaceTrainDeltaMapper", code=["code", 0], image=[FACE, 0], embedder=["embedder", 0], **inputs)


def pada(**options) -> dict:
    inputs = {
        "steps": 30,
        "batch": 8,
        "lr": 0.001,
        "young": "face with brown hair\nface with red hair",
        "old": "face with grey hair",
        **options,
    }
    return node("HSpaceTrainPada", code=["code", 0], image=[FACE, 0], embedder=["embedder", 0], **inputs)


def delta_edit(strength: float = 1.0, trained: str = "train", image: bool = True, **options) -> dict:
    inputs = {"target": "face with glasses", "neutral": "face", "strength": strength, "relevance": 0.0, **options}
    links = {
        "code": ["code", 0],
        "mapper": [trained, 0],
        "embedder": ["embedder", 0],
        **({"image": [FACE, 0]} if image else {}),
    }
    return node("HSpaceDeltaEdit", **links, **inputs)


def age(trained: str = "train", **options) -> dict:
    inputs = {"text": "face with grey hair", "strength": 1.0, "tau": 1.0, "variants": 2, "seed": 0, **options}
    return node("HSpacePadaAge", code=["code", 0], pada=[trained, 0], embedder=["embedder", 0], **inputs)


def drawn(name: str, latent: list, code: list | None = None) -> dict:
    """A stock sampler on a code; saved as ``keep <name>``."""
    code = code or [name, 0]
    return {
        f"s {name}": ksampler("model", code, code, latent, steps=4),
        f"d {name}": node("VAEDecode", samples=[f"s {name}", 0], vae=["model", 1]),
        f"keep {name}": save([f"d {name}", 0]),
    }


def empty(count: int) -> dict:
    return {
        "empty": node("EmptyImage", width=64, height=64, batch_size=count, color=0),
        "latent": node("VAEEncode", pixels=["empty", 0], vae=["model", 1]),
    }


def shown(server, result, name: str) -> np.ndarray:
    return np.stack(pictures(server, result, f"keep {name}")).astype(int)
