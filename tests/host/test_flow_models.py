"""Flow models: inverted up to sigma 1 and resumed; what they have not is said."""

import numpy as np
import pytest

from .graphs import SCHEDULE, discover, invert, node, refused, render, save
from .text_inversion_graphs import shown
from .unet_graphs import resampled


def flux(**options) -> dict[str, dict]:
    iterations = 10 if options.get("method", "fixed point") == "fixed point" else 3
    inputs = {"method": "fixed point", "iterations": iterations, "cfg": 1.0, **options}
    return {
        "model": node("HSpaceTestDiT"),
        "vae": node("HSpaceTestVAE", network="wide"),
        "picture": node("HSpaceTestPicture", case="noise", width=96, height=64),
        SCHEDULE: node("BasicScheduler", model=["model", 0], scheduler="simple", steps=16, denoise=1.0),
        "invert": invert("picture", SCHEDULE, vae=["vae", 0], positive=["model", 1], **inputs),
        "psnr": node("PreviewAny", source=["invert", 3]),
        "keep": save(["invert", 2]),
    }


@pytest.mark.parametrize("method", ["fixed point", "ddim B", "ddim A", "edict", "bdia", "midpoint", "fireflow"])
def test_flow_models_are_inverted_up_to_sigma_one_and_resumed(server, method):
    """The schedule begins at 1, where the host divides by 1 - sigma and multiplies latents by 0."""
    prompt, exact = flux(method=method), method in ("edict", "bdia")
    prompt[SCHEDULE]["inputs"]["steps"] = 60 if method == "fixed point" else 16  # the random network is stiff
    prompt |= {**resampled("model"), "resumed": save(["decode", 0])}
    if exact:
        prompt["resume"] = node("HSpaceSampleExactInversion", trajectory=["invert", 0])
    else:
        prompt["render"] = render("model", vae=["vae", 0])
        prompt["rendered"] = save(["render", 0])
    result = server.queue(prompt, timeout=300)
    rebuilt, resumed = shown(server, result, "keep"), shown(server, result, "resumed")
    (psnr,) = result.outputs["psnr"]["text"]
    assert rebuilt.std() > 5 and float(psnr) > {"fixed point": 60, "edict": 80, "bdia": 80}.get(method, 10), psnr
    assert np.abs(rebuilt - resumed).max() <= 1
    if not exact:
        assert np.abs(rebuilt - shown(server, result, "rendered")).max() <= 1


def test_what_a_flow_model_has_not(server):
    prompt = {**flux(), "discover": discover(None, layer="up.0"), "end": save(["discover", 1])}
    refused(server, prompt, "no layer 'up.0'", "block.0")
    prompt = {
        **flux(),
        "resume": node("HSpaceResumeTrajectory", trajectory=["invert", 0], asymmetric=False, eta=0.5),
        "model2": node("PreviewAny", source=["resume", 1]),
    }
    refused(server, prompt, "flow model does not know", "set it to 0")
    links = {"positive": ["model", 1], "negative": ["model", 1]}
    prompt = {
        **flux(method="ddim B"),
        "null": node(
            "HSpaceNullTextOptimise", model=["model", 0], trajectory=["invert", 0], cfg=3.0, inner_steps=1, **links
        ),
    }
    refused(server, {**prompt, "end": node("PreviewAny", source=["null", 1])}, "bottleneck of a U-Net")
