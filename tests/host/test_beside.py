"""Our edits beside ControlNet, DifferentialDiffusion and in a batch of three."""

import pytest
import torch

from .feature_graphs import small as inverted
from .graphs import FACE, SCHEDULE, base, custom_sampler, discover, half_mask, invert, node, steer
from .pair_graphs import p2p, sample, small

FACES = 3


def batch(mask: bool, soft: bool = False) -> dict:
    """Three faces inverted together, by two ways, steered, with a mask of their own each."""
    prompt = base(steps=4, iterations=1) | {
        "discover": discover(),
        "steered": steer(12.0, sigma_end=0.3),
        "seed": node("DisableNoise"),
    }
    prompt["edict"] = invert(FACE, SCHEDULE, "edict")
    prompt[FACE]["inputs"] |= {"count": FACES}
    prompt |= {
        "clean": node("VAEEncode", pixels=[FACE, 0], vae=["model", 1]),
        **half_mask(64, 64, value=0.5 if soft else 1.0),
        "latent": node("SetLatentNoiseMask", samples=["clean", 0], mask=["half", 0]),
        "soft": node("DifferentialDiffusion", model=["steered", 0]),
        "guider": node("BasicGuider", model=["soft" if soft else "steered", 0], conditioning=["model", 2]),
        "resume": node("HSpaceResumeTrajectory", trajectory=["invert", 0], asymmetric=False),
        "exact": node("HSpaceSampleExactInversion", trajectory=["edict", 0]),
    }
    for name in ("resume", "exact"):
        prompt[f"{name} out"] = custom_sampler("seed", "guider", name, [name, 1], ["latent" if mask else "clean", 0])
    return prompt


@pytest.mark.parametrize("soft", [False, True])
def test_three_pictures_with_masks(executor, soft):
    """Outside they are as they were; with DifferentialDiffusion, too."""
    prompt = batch(True, soft)
    prompt["discover"]["inputs"]["mask"] = ["half", 0]
    (clean,), (resumed, *_), (exact, *_) = executor.run(prompt, "clean", "resume out", "exact out")
    for edited in (resumed["samples"], exact["samples"]):
        apart = (edited - clean["samples"]).abs()
        assert len(edited) == FACES and float(apart[..., 32:].max()) < 1e-5
        assert all(float(one[..., :32].max()) > 1e-2 for one in apart)


def test_rows_of_a_batch_are_the_pictures_alone(executor):
    prompt = batch(True)
    prompt["discover"]["inputs"]["mask"] = ["half", 0]
    names = ("resume out", "invert", "model", "steered", "clean", "half", "seed")
    (together, *_), (path, *_), (_, _, conditioning, *_), (steered,), (clean,), (half,), (noise,) = executor.run(
        prompt, *names
    )
    payload = executor.module("core.payload")
    whole = payload.trajectory_from_payload(path)
    (guider,) = executor.call("BasicGuider", model=steered, conditioning=conditioning)
    for i in range(FACES):
        alone = payload.trajectory_to_payload(whole.image(i))
        sampler, sigmas = executor.call("HSpaceResumeTrajectory", trajectory=alone, asymmetric=False)
        latent = {"samples": clean["samples"][i : i + 1], "noise_mask": half}
        out, _ = executor.call(
            "SamplerCustomAdvanced", noise=noise, guider=guider, sampler=sampler, sigmas=sigmas, latent_image=latent
        )
        assert float((out["samples"][0] - together["samples"][i]).abs().max()) < 1e-4


def test_controlnet_is_an_edit_for_a_mask(executor):
    """A prompt with a ControlNet that the inversion did not have is an edit: the outside is held."""
    prompt = inverted("sd15") | {"controlled": node("HSpaceTestControl", conditioning=["model", 1], strength=0.5)}
    prompt |= {
        **half_mask(128, 96),
        "clean": node("VAEEncode", pixels=["picture", 0], vae=["vae", 0]),
        "latent": node("SetLatentNoiseMask", samples=["clean", 0], mask=["half", 0]),
    }
    for name, positive in (("plain", ["model", 1]), ("with", ["controlled", 0])):
        prompt[f"guider {name}"] = node("BasicGuider", model=["model", 0], conditioning=positive)
        for latent in ("clean", "latent"):
            prompt[f"{name} {latent}"] = custom_sampler("noise", f"guider {name}", "resume", ["resume", 1], latent)
    names = ("clean", "plain clean", "plain latent", "with clean", "with latent")
    clean, plain, masked, free, masked_edit = (o[0]["samples"] for o in executor.run(prompt, *names))
    assert torch.equal(plain, masked)
    assert float((free - clean)[..., 8:].abs().max()) > 1e-2
    assert float((masked_edit - clean)[..., 8:].abs().max()) < 1e-4
    assert float((masked_edit - clean)[..., :8].abs().max()) > 1e-2


def test_prompt_to_prompt_on_three_pairs(executor):
    prompt = small() | {
        "edited": p2p(mode="replace"),
        "three": node("EmptyLatentImage", width=128, height=128, batch_size=3),
    }
    prompt["many"] = node("HSpacePairLatent", latent=["three", 0], rows=2)
    prompt |= {
        "out": sample(("edited", 0), latent=("many", 0), negative=("model", 2)),
        "plain": sample(("model", 0), latent=("many", 0), negative=("model", 2)),
    }
    prompt["alone"] = sample(("edited", 0), negative=("model", 2))
    out, plain, alone = (o[0]["samples"] for o in executor.run(prompt, "out", "plain", "alone"))
    assert float((out - plain)[::2].abs().max()) < 1e-5 * float(plain.abs().max())
    assert all(float(one.abs().max()) > 1e-3 for one in (out - plain)[1::2])
    assert float((out[:2] - alone).abs().max()) < 1e-4 * float(alone.abs().max())
