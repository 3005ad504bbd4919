"""Noise masks of the latent in every sampler of the pack: no edit and a mask is the reconstruction, an edit stays
inside of the mask."""

import copy

import pytest
import torch

from .graphs import FACE, SCHEDULE, base, custom_sampler, discover, edit_friendly, half_mask, invert, node, steer

SAMPLERS = {
    "resume": ("fixed point", "HSpaceResumeTrajectory", {"asymmetric": False, "eta": 0.0}),
    "resume asymmetric": ("fixed point", "HSpaceResumeTrajectory", {"asymmetric": True, "eta": 0.0}),
    "edict": ("edict", "HSpaceSampleExactInversion", {}),
    "bdia": ("bdia", "HSpaceSampleExactInversion", {}),
    "edit-friendly": (None, "HSpaceSampleEditFriendly", {"skip": 1}),
}
MASKS = ("SetLatentNoiseMask", "VAEEncodeForInpaint", "InpaintModelConditioning", "ones")


def masked(kind: str, mask: str | None, steps: int = 6) -> dict:
    """One sampler of the pack on the face model, plain and steered, from a latent with a mask of its left half."""
    method, sampler, options = SAMPLERS[kind]
    prompt = base(steps=steps, iterations=2) | {"discover": discover(), "steered": steer(12.0, sigma_end=0.5)}
    path = "invert" if method else "noises"
    if method:
        prompt["invert"]["inputs"]["method"] = "fixed point"
    if method in ("edict", "bdia"):
        prompt["exact"] = invert(FACE, SCHEDULE, method)
        path = "exact"
    prompt["noises"] = edit_friendly(seed=1, batch=1)
    prompt |= {
        "sampler": node(sampler, trajectory=[path, 0], **options),
        "clean": node("VAEEncode", pixels=[FACE, 0], vae=["model", 1]),
        **half_mask(64, 64),
        "ones": node("SolidMask", value=1.0, width=64, height=64),
        "seed": node("DisableNoise"),
        "SetLatentNoiseMask": node("SetLatentNoiseMask", samples=["clean", 0], mask=["half", 0]),
        "VAEEncodeForInpaint": node(
            "VAEEncodeForInpaint", pixels=[FACE, 0], vae=["model", 1], mask=["half", 0], grow_mask_by=0
        ),
        "InpaintModelConditioning": node(
            "InpaintModelConditioning",
            positive=["model", 2],
            negative=["model", 2],
            vae=["model", 1],
            pixels=[FACE, 0],
            mask=["half", 0],
            noise_mask=True,
        ),
    }
    prompt["ones latent"] = node("SetLatentNoiseMask", samples=["clean", 0], mask=["ones", 0])
    latent = {
        None: ["clean", 0],
        "ones": ["ones latent", 0],
        "InpaintModelConditioning": ["InpaintModelConditioning", 2],
    }
    # An asymmetric run wants an edit of h, if only one of strength 0.
    prompt["idle"] = steer(0.0, sigma_end=0.5)
    for name, model in (("plain", "idle" if options.get("asymmetric") else "model"), ("edited", "steered")):
        prompt[f"guider {name}"] = node("BasicGuider", model=[model, 0], conditioning=["model", 2])
        prompt[name] = custom_sampler("seed", f"guider {name}", "sampler", ["sampler", 1], latent.get(mask, [mask, 0]))
    return prompt


def run(executor, kind: str, mask: str | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Plain and steered."""
    return tuple(out[0]["samples"] for out in executor.run(masked(kind, mask), "plain", "edited"))


@pytest.mark.sweep("")
@pytest.mark.parametrize("kind", SAMPLERS)
def test_a_mask_without_an_edit_is_the_reconstruction(executor, kind):
    free, _ = run(executor, kind, None)
    for mask in MASKS:
        plain, _ = run(executor, kind, mask)
        limit = 1e-5 if kind == "edit-friendly" else 0.0  # which holds the outside at the stored states, an edit or not
        assert float((plain - free).abs().max()) <= limit, mask


@pytest.mark.parametrize("kind", SAMPLERS)
def test_an_edit_stays_inside_of_the_mask(executor, kind):
    ((clean,),) = executor.run(masked(kind, None), "clean")
    _, free = run(executor, kind, None)
    source = clean["samples"]
    assert float((free - source)[..., 32:].abs().max()) > 0.02  # unmasked, it acts there
    for mask in MASKS[:3]:
        _, edited = run(executor, kind, mask)
        assert float((edited - source)[..., 32:].abs().max()) < 1e-5, mask
        assert float((edited - source)[..., :32].abs().mean()) > 0.3 * float((free - source)[..., :32].abs().mean()), (
            mask
        )
    _, ones = run(executor, kind, "ones")
    assert torch.equal(ones, free)


@pytest.mark.parametrize("kind", ["resume", "edict", "edit-friendly"])
def test_bookkeeping_of_other_sampler_nodes_is_taken_and_another_loop_is_refused(executor, kind):
    """RES4LYF hands every loop its own figures."""
    prompt = masked(kind, None)
    (sampler, sigmas), (guider,), (noise,), (latent,) = executor.run(prompt, "sampler", "guider plain", "seed", "clean")
    inputs = {"noise": noise, "guider": guider, "sigmas": sigmas, "latent_image": latent}
    plain, _ = executor.call("SamplerCustomAdvanced", sampler=sampler, **inputs)
    for extra, refused in (
        ({"outer_sigmas_len": 7, "state_info": {}, "s_noise": 1.0, "eta": 0.0}, None),
        ({"eta": 0.5}, "eta"),
        ({"s_noise": 1.1}, "s_noise"),
    ):
        other = copy.copy(sampler)
        other.extra_options = extra
        if refused:
            with pytest.raises(ValueError, match=f"has no {refused}"):
                executor.call("SamplerCustomAdvanced", sampler=other, **inputs)
        else:
            sampled, _ = executor.call("SamplerCustomAdvanced", sampler=other, **inputs)
            assert torch.equal(sampled["samples"], plain["samples"])


def test_foreign_guidance_makes_an_edit_of_a_run(executor):
    """FreeU with the prompts of the inversion is none of its own: the outside is held."""
    for kind in ("resume", "edict"):
        prompt = masked(kind, "SetLatentNoiseMask")
        prompt["patched"] = node("FreeU_V2", model=["model", 0], b1=1.3, b2=1.4, s1=0.9, s2=0.2)
        prompt["guider plain"] = node("BasicGuider", model=["patched", 0], conditioning=["model", 2])
        (out, *_), (clean,) = executor.run(prompt, "plain", "clean")
        assert float((out["samples"] - clean["samples"])[..., 32:].abs().max()) < 1e-5
