"""Inversion with prompts in a real ComfyUI: exact inversions, null text, negative prompts, proximal guidance."""

import re

import numpy as np
import pytest

from .graphs import FACE, SCHEDULE, node, refused, render, save
from .text_inversion_graphs import error, sampled, shown, source


@pytest.mark.sweep("")
@pytest.mark.parametrize("method", ["edict", "bdia"])
def test_exact_inversions_bring_the_picture_back_with_guidance_and_edit_it(server, method):
    prompt = source(method=method, cfg=3.0, steps=20)
    prompt[FACE]["inputs"]["count"] = 2
    prompt["positive"]["inputs"]["text"] = "a person"
    prompt |= {
        "resume": node("HSpaceSampleExactInversion", trajectory=["invert", 0]),
        "psnr": node("PreviewAny", source=["invert", 3]),
    }
    prompt |= {
        **sampled("back", resume="resume"),
        **sampled("edit", positive="target", resume="resume"),
        **sampled("plain"),
    }
    prompt |= {
        "rescaled": node("RescaleCFG", model=["model", 0], multiplier=1.0),
        **sampled("patched", positive="target", model="rescaled", resume="resume"),
    }
    result = server.queue(prompt, timeout=600)
    (psnr,) = result.outputs["psnr"]["text"]
    assert float(psnr) > 90
    original, back, edit, plain, patched = (
        shown(server, result, name) for name in ("source", "keep back", "keep edit", "keep plain", "keep patched")
    )
    assert np.abs(original - back).max() <= 1 and len(back) == 2
    assert error(original, plain) < error(original, back) - 5
    assert np.abs(original - edit).mean() > 2 and np.abs(edit - patched).mean() > 1


def test_exact_trajectories_do_not_come_back_another_way(server):
    prompt = source(method="edict", steps=4)
    for name, wrong in {
        "resume": node("HSpaceResumeTrajectory", trajectory=["invert", 0], asymmetric=False, eta=0.0),
        "render": render("model", vae=["model", 2]),
    }.items():
        graph = {**prompt, name: wrong}
        graph |= sampled("x", resume=name) if name == "resume" else {"keep": save(["render", 0])}
        refused(server, graph, "edict", "Sample Exact Inversion")
    prompt = source(steps=4) | {
        "resume": node("HSpaceSampleExactInversion", trajectory=["invert", 0]),
        **sampled("x", resume="resume"),
    }
    refused(server, prompt, "fixed point", "no exact way back")


def test_a_gamma_that_grows_too_far(server):
    refused(
        server,
        {**source(method="bdia", gamma=0.95, steps=120), "end": save(["invert", 2])},
        "1/gamma a step",
        "set it to 1",
    )


def null_text(**options) -> dict[str, dict]:
    inputs = {"cfg": 3.0, "inner_steps": 10, "rate": 0.01, "tolerance": 0.0, **options}
    links = {"trajectory": ["invert", 0], "positive": ["positive", 0], "negative": ["empty", 0]}
    return {
        "null": node("HSpaceNullTextOptimise", model=["model", 0], **links, **inputs),
        "report": node("PreviewAny", source=["null", 1]),
    }


def test_null_text_in_stock_samplers(server):
    """The scheduled negative works in SamplerCustomAdvanced and in KSamplerAdvanced, and carries over to another
    prompt."""
    prompt = {**source(), **null_text(cfg=5.0)}
    prompt |= {
        **sampled("plain", cfg=5.0),
        **sampled("null", negative="null", cfg=5.0),
        **sampled("edit", positive="target", negative="null", cfg=5.0),
        "stock": node(
            "KSamplerAdvanced",
            model=["model", 0],
            positive=["positive", 0],
            negative=["null", 0],
            latent_image=["invert", 1],
            add_noise="disable",
            noise_seed=0,
            steps=20,
            cfg=5.0,
            sampler_name="euler",
            scheduler="karras",
            start_at_step=8,
            end_at_step=99,
            return_with_leftover_noise="disable",
        ),
        "decode stock": node("VAEDecode", samples=["stock", 0], vae=["model", 2]),
        "keep stock": save(["decode stock", 0]),
    }
    result = server.queue(prompt, timeout=900)
    original, plain, null, edit, stock = (
        shown(server, result, name) for name in ("source", "keep plain", "keep null", "keep edit", "keep stock")
    )
    fitted, before = ends(result)
    assert fitted < 0.4 * before
    assert error(original, null) > error(original, plain) + 8, (error(original, null), error(original, plain))
    assert error(null, stock) > 45, error(null, stock)
    assert np.abs(edit - null).mean() > 2


def ends(result) -> tuple[float, float]:
    """The two figures of the report: fitted, plain."""
    (report,) = result.outputs["report"]["text"]
    return tuple(float(v) for v in re.findall(r"(\d+\.\d+) (?:\(rms\)|with)", report))


@pytest.mark.sweep("")
@pytest.mark.parametrize(("network", "dtype"), [("sdxl", "fp16"), ("sd2 v", "bf16"), ("sd15", "fp32")])
def test_null_text_on_other_networks(server, network, dtype):
    """Narrow weights, pooled text that stays, and on SD1.5 a ControlNet, on a picture that is not square."""
    prompt = {**source(method="ddim B", steps=3), **null_text(inner_steps=3), **sampled("null", negative="null")}
    for name in ("positive", "empty", "target", "source", FACE):
        del prompt[name]
    prompt |= {
        "model": node("HSpaceTestUNet", network=network, dtype=dtype, seed=0),
        "vae": node("HSpaceTestVAE", network="tiny"),
        "picture": node("HSpaceTestPicture", case="noise", width=96, height=64),
        "control": node("HSpaceTestControl", conditioning=["model", 1], strength=0.3),
    }
    positive = ["control", 0] if network == "sd15" else ["model", 1]
    prompt["invert"]["inputs"] |= {"image": ["picture", 0], "vae": ["vae", 0], "positive": positive}
    prompt["null"]["inputs"] |= {"positive": positive, "negative": ["model", 2]}
    prompt["guider null"]["inputs"] |= {"positive": positive}
    prompt["decode null"]["inputs"]["vae"] = ["vae", 0]
    result = server.queue(prompt, timeout=600)
    assert shown(server, result, "keep null").shape == (1, 64, 96, 3)
    fitted, before = ends(result)
    assert fitted < before


def test_what_null_text_refuses(server):
    base = source(method="ddim B", steps=3)
    both = node("ConditioningCombine", conditioning_1=["empty", 0], conditioning_2=["target", 0])
    several = {**base, **null_text(), "both": both}
    several["null"]["inputs"]["negative"] = ["both", 0]
    refused(server, several, "one prompt for all steps")
    part = {
        **base,
        **null_text(),
        "part": node("ConditioningSetTimestepRange", conditioning=["empty", 0], start=0.0, end=0.5),
    }
    part["null"]["inputs"]["negative"] = ["part", 0]
    refused(server, part, "'negative' holds for a part of the steps", "ConditioningSetTimestepRange", "a plain prompt")
    part["part"]["inputs"]["end"] = 1.0  # it holds for all steps, but each step gets an embedding of its own
    refused(server, part, "one prompt for all steps", "timestep range")
    changed = {**base, **null_text(), "rescale": node("RescaleCFG", model=["model", 0], multiplier=0.7)}
    changed["null"]["inputs"]["model"] = ["rescale", 0]
    refused(server, changed, "plain guidance", "from before that node")
    refused(server, {**source(method="ddim B", steps=3, cfg=2.0), **null_text()}, "inverted at cfg 2", "cfg 1")
    pair = {**base, **null_text()}
    pair[FACE] = {**pair[FACE], "inputs": {**pair[FACE]["inputs"], "count": 2}}
    pair["positive"] = node("CLIPTextEncode", clip=["model", 1], text="a person")
    refused(server, pair, "2 pictures", "one picture at a time")


def test_negative_prompt_inversion_and_proximal_guidance_hold_the_picture(server):
    prompt = {**source(), **sampled("plain"), **sampled("npi", negative="positive")}
    for name, quantile, path in (("zero", 0.0, False), ("most", 0.97, False), ("guided", 0.97, True)):
        links = {"trajectory": ["invert", 0], "sigma_guide": 99.0} if path else {}
        prompt |= {
            f"proximal {name}": node("HSpaceProximalCFG", model=["model", 0], mode="hard", quantile=quantile, **links),
            **sampled(name, positive="target", negative="positive", model=f"proximal {name}"),
        }
    prompt |= sampled("edit", positive="target", negative="positive")
    prompt |= {"proximal one": node("HSpaceProximalCFG", model=["model", 0], mode="soft", quantile=1.0)}
    prompt |= sampled("one", positive="target", negative="positive", model="proximal one")
    result = server.queue(prompt, timeout=600)
    names = ("source", *(f"keep {n}" for n in ("plain", "npi", "zero", "most", "guided", "edit", "one")))
    original, plain, npi, zero, most, guided, edit, one = (shown(server, result, name) for name in names)
    assert error(original, npi) > error(original, plain) + 15, (error(original, npi), error(original, plain))
    assert np.array_equal(zero, edit)
    assert error(npi, most) > error(npi, edit) + 1, (error(npi, most), error(npi, edit))
    assert error(original, guided) > error(original, most) + 1
    assert np.abs(one - npi).max() <= 2  # nothing is left of the guidance


def test_proximal_guidance_changes_its_share_of_the_entries_and_no_other(server):
    """In a single step the network sees one state with and without it: each entry is the edit's, or as with equal
    prompts."""
    prompt = {**source(method="ddim B", steps=1), **sampled("npi", negative="positive")}
    prompt[SCHEDULE]["inputs"] |= {"scheduler": "simple", "denoise": 0.4}
    prompt |= {
        **sampled("edit", positive="target", negative="positive"),
        "proximal": node("HSpaceProximalCFG", model=["model", 0], mode="hard", quantile=0.7),
        **sampled("some", positive="target", negative="positive", model="proximal"),
    }
    result = server.queue(prompt, timeout=600)
    npi, edit, some = (shown(server, result, f"keep {name}") for name in ("npi", "edit", "some"))
    moved = np.abs(some - npi) > 1
    assert 0.1 < moved.mean() < 0.301 < (np.abs(edit - npi) > 1).mean() - 0.2
    assert np.abs(some - edit)[moved].max() <= 1
