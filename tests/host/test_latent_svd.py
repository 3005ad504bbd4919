"""Latent SVD nodes between stock samplers that stop and go on."""

import numpy as np

from .graphs import custom_sampler, node, pictures, refused, save
from .text_graphs import text_model

STEPS, LEFT = 6, 4


def halves(network: str = "") -> dict:
    """Source and target latents in the middle of sampling from one noise, and what is needed to go on."""
    prompt = text_model() if not network else stand_in(network)
    prompt |= {
        "sigmas": node("BasicScheduler", model=["model", 0], scheduler="karras", steps=STEPS, denoise=1.0),
        "euler": node("KSamplerSelect", sampler_name="euler"),
        "noise": node("RandomNoise", noise_seed=8),
        "none": node("DisableNoise"),
    }
    for name, text, left in (("source", ["negative", 0], LEFT), ("target", ["positive", 0], LEFT - 1)):
        prompt |= {
            f"split {name}": node("SplitSigmas", sigmas=["sigmas", 0], step=STEPS - left),
            f"guide {name}": node("BasicGuider", model=["model", 0], conditioning=text),
            name: custom_sampler("noise", f"guide {name}", "euler", f"split {name}", "latent"),
        }
    return prompt


def stand_in(network: str) -> dict:
    return {
        "model": node("HSpaceTestUNet", network=network, dtype="fp32", seed=0),
        "positive": node("ConditioningSetTimestepRange", conditioning=["model", 1], start=0.0, end=1.0),
        "negative": node("ConditioningSetTimestepRange", conditioning=["model", 2], start=0.0, end=1.0),
        "latent": node("EmptyLatentImage", width=128, height=96, batch_size=2),
        "vae": node("HSpaceTestVAE", network="tiny"),
    }


def both() -> dict:
    return {
        "model": ["model", 0],
        "source": ["source", 0],
        "target": ["target", 0],
        "source_sigmas": ["split source", 1],
        "target_sigmas": ["split target", 1],
    }


def onward(name: str, latent: list, vae: list) -> dict:
    """Sample on with the source's prompt."""
    return {
        f"on {name}": custom_sampler("none", "guide source", "euler", ["split source", 1], latent),
        f"decode {name}": node("VAEDecode", samples=[f"on {name}", 0], vae=vae),
        f"keep {name}": save([f"decode {name}", 0]),
    }


def looked_at(**options) -> dict:
    inputs = {"first": 1, "count": 2, "factor": 1.0, "others": 1.0, **options}
    return node("HSpaceLatentSVD", model=["model", 0], latent=["source", 0], sigmas=["split source", 1], **inputs)


def fitted(**options) -> dict:
    inputs = {"source_vectors": 0, "target_vectors": 4, "steps": 60, "strength": 1.0, **options}
    return node("HSpaceFitLatentSVD", **both(), **inputs)


def check(server, prompt: dict, vae: list) -> None:
    prompt |= onward("plain", ["source", 0], vae)
    for name, entry in {
        "same": looked_at(),
        "scaled": looked_at(factor=1.3),
        "alone": looked_at(others=0.0),
        "mix 0": node("HSpaceMixLatentSVD", **both(), leading=4, gain=0.0),
        "mix": node("HSpaceMixLatentSVD", **both(), leading=4, gain=0.5),
        "fit 0": fitted(strength=0.0),
        "fit": fitted(),
    }.items():
        prompt |= {name: entry, **onward(name, [name, 0], vae)}
    prompt |= {
        "said": node("PreviewAny", source=["fit", 3]),
        "keep curve": save(["same", 1]),
        "keep spectrum": save(["fit", 2]),
    }
    result = server.queue(prompt, timeout=600)
    images = {
        n: np.stack(pictures(server, result, f"keep {n}")).astype(int)
        for n in ("plain", "same", "scaled", "alone", "mix 0", "mix", "fit 0", "fit")
    }
    for name in ("same", "mix 0", "fit 0"):
        assert np.array_equal(images[name], images["plain"]), f"{name} changes the picture"
    for name in ("scaled", "alone", "mix", "fit"):
        assert np.abs(images[name] - images["plain"]).mean() > 0.3, f"{name} changes nothing"
    before, after = result.outputs["said"]["text"][0].removeprefix("loss ").split(" in ")[0].split(" > ")
    assert float(after) < 0.95 * float(before)
    assert result.outputs["fit"]["images"] and result.outputs["same"]["images"]


def test_face_text_model(server):
    check(server, halves(), ["model", 2])


def test_scaled_latents_batches_and_sizes_that_are_not_square(server):
    """Stable Diffusion's latents have a factor, which must come off and on again."""
    check(server, halves("sd15"), ["vae", 0])


def test_what_does_not_fit_is_refused(server):
    prompt = halves()
    end = {"decode": node("VAEDecode", samples=["made", 0], vae=["model", 2]), "keep": save(["decode", 0])}
    refused(server, {**prompt, **end, "made": looked_at(first=60, count=8)}, "64 singular values", "60 to 67")
    refused(server, {**prompt, **end, "made": node("HSpaceMixLatentSVD", **both(), leading=65, gain=0.5)}, "1..64")
    small = {**prompt, **end, "small": node("LatentCrop", samples=["target", 0], width=256, height=512, x=0, y=0)}
    refused(
        server,
        {**small, "made": node("HSpaceMixLatentSVD", **{**both(), "target": ["small", 0]}, leading=4, gain=0.5)},
        "one shape",
    )


def test_flow_models_are_refused(server):
    """Their states are mixed otherwise; the noise level of a latent means something else."""
    prompt = {"model": node("HSpaceTestDiT"), "latent": node("EmptySD3LatentImage", width=64, height=64, batch_size=1)}
    svd = node("HSpaceLatentSVD", model=["model", 0], latent=["latent", 0], first=1, count=1, factor=2.0)
    mix = node(
        "HSpaceMixLatentSVD", model=["model", 0], source=["latent", 0], target=["latent", 0], leading=2, gain=0.5
    )
    for entry in (svd, mix):
        refused(
            server,
            prompt | {"made": entry, "end": node("SaveLatent", samples=["made", 0], filename_prefix="x")},
            "flow model",
        )
