"""SDEdit in a real ComfyUI: its levels, repeats and masks, in the stock SamplerCustomAdvanced."""

import numpy as np
import pytest

from .edit_friendly_graphs import queue_pictures, run
from .graphs import FACE, face, node, save


def painted(steps: int = 8, t0: float = 0.3, spacing: str = "uniform") -> dict:
    """SDEdit of a face with a stroke painted by stock nodes."""
    prompt = {
        "model": node("HSpaceLoadFaceModel"),
        FACE: face(35),
        "noise": node("RandomNoise", noise_seed=3),
        "stroke": node("EmptyImage", width=24, height=6, batch_size=1, color=0xC03020),
        "painted": node(
            "ImageCompositeMasked", destination=[FACE, 0], source=["stroke", 0], x=20, y=12, resize_source=False
        ),
        "latent": node("VAEEncode", pixels=["painted", 0], vae=["model", 1]),
        "levels": node("HSpaceSDEditSigmas", model=["model", 0], t0=t0, steps=steps, spacing=spacing),
        "guider": node("BasicGuider", model=["model", 0], conditioning=["model", 2]),
        "guide": save(["painted", 0]),
    }
    for name in ("ddpm", "euler", "dpmpp_2m_sde"):
        prompt[name] = node("KSamplerSelect", sampler_name=name)
    return prompt


@pytest.mark.parametrize("name", ["ddpm", "euler", "dpmpp_2m_sde"])
def test_one_repeat_is_the_sampler_itself_and_more_go_on(server, name):
    prompt = painted()
    for k, noise in ((1, "new"), (3, "new"), (3, "same")):
        prompt[f"{k} {noise}"] = node("HSpaceSDEditRepeat", sampler=[name, 0], repeats=k, noise=noise)
        prompt |= run(prompt, f"out {k} {noise}", ["guider", 0], ["latent", 0], [f"{k} {noise}", 0], ["levels", 0])
    prompt |= run(prompt, "plain", ["guider", 0], ["latent", 0], [name, 0], ["levels", 0])
    (plain, one, new, same), _ = queue_pictures(server, prompt, "plain", "out 1 new", "out 3 new", "out 3 same")
    assert np.array_equal(plain, one)
    assert np.abs(new - one).mean() > 0.5 and np.abs(same - new).mean() > 0.5


def test_masks_hold_through_all_repeats(server):
    prompt = painted() | {"soft model": node("DifferentialDiffusion", model=["model", 0])}
    prompt |= {
        "soft guider": node("BasicGuider", model=["soft model", 0], conditioning=["model", 2]),
        "thrice": node("HSpaceSDEditRepeat", sampler=["ddpm", 0], repeats=3, noise="new"),
        "edge": node("SolidMask", value=1.0, width=32, height=64),
        "half": node("SolidMask", value=0.5, width=16, height=64),
        "none": node("SolidMask", value=0.0, width=64, height=64),
        "hard mask": node("MaskComposite", destination=["none", 0], source=["edge", 0], x=0, y=0, operation="add"),
        "soft mask": node(
            "MaskComposite", destination=["hard mask", 0], source=["half", 0], x=32, y=0, operation="add"
        ),
    }
    for kind, guider in (("hard", "guider"), ("soft", "soft guider")):
        prompt[f"{kind} latent"] = node("SetLatentNoiseMask", samples=["latent", 0], mask=[f"{kind} mask", 0])
        prompt |= run(prompt, f"{kind} out", [guider, 0], [f"{kind} latent", 0], ["thrice", 0], ["levels", 0])
    prompt |= run(prompt, "free out", ["guider", 0], ["latent", 0], ["thrice", 0], ["levels", 0])
    (guide, hard, soft, free), _ = queue_pictures(server, prompt, "guide", "hard out", "soft out", "free out")
    assert np.abs(hard - guide)[:, :, 32:].max() <= 1 and np.abs(hard - guide)[:, :, :32].mean() > 2
    # Stock DifferentialDiffusion lets go of everything in a last step at the smallest sigma.
    assert np.abs(soft - guide)[:, :, 48:].max() <= 8 and np.abs(soft - guide)[:, :, :32].mean() > 2
    assert 0 < np.abs(soft - guide)[:, :, 32:48].mean() < np.abs(free - guide)[:, :, 32:48].mean()


def test_all_integer_steps(server):
    prompt = painted(t0=0.03, spacing="all steps", steps=20)
    prompt |= run(prompt, "out", ["guider", 0], ["latent", 0], ["ddpm", 0], ["levels", 0])
    (sampled, guide), result = queue_pictures(server, prompt, "out", "guide")
    steps = [data["max"] for kind, data in result.events if kind == "progress" and data.get("node") == "run out"]
    assert np.abs(sampled - guide).mean() > 0.1 and max(steps) == 30
