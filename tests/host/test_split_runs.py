"""Windows given as shares of the steps are shares of the whole schedule, in one run or in several."""

from itertools import pairwise

import pytest
import torch

from .feature_graphs import inject
from .feature_graphs import small as inverted
from .graphs import custom_sampler, node
from .pair_graphs import local_blend, p2p, small

STEPS, CUT = 8, 3


def advanced(model, latent, begin: int, end: int, **options) -> dict:
    inputs = {
        "model": list(model),
        "positive": ["pair", 0],
        "negative": ["model", 2],
        "latent_image": list(latent),
        "noise_seed": 5,
        "steps": STEPS,
        "cfg": 3.0,
        "sampler_name": "euler",
        "scheduler": "karras",
        "start_at_step": begin,
        "end_at_step": end,
        "add_noise": "enable" if begin == 0 else "disable",
        "return_with_leftover_noise": "enable" if end < STEPS else "disable",
        **options,
    }
    return node("KSamplerAdvanced", **inputs)


EDITS = {
    "p2p": {"edited": p2p(mode="replace", cross_end=0.6, self_end=0.4, self_resolution="all", cross_start=0.2)},
    "blend": {
        "p2p": p2p(mode="replace"),
        "edited": local_blend("p2p", words="cat", threshold=0.85, start=0.5),
    },
}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("cuts", [(3,), (1, 5), (6,)])
def test_ksampler_advanced_in_parts(executor, edit, cuts):
    prompt = (
        small()
        | EDITS[edit]
        | {
            "whole": advanced(("edited", 0), ("rows", 0), 0, STEPS),
            "plain": advanced(("model", 0), ("rows", 0), 0, STEPS),
        }
    )
    last, edges = "rows", [0, *cuts, STEPS]
    for begin, end in pairwise(edges):
        prompt[f"{begin}-{end}"] = advanced(("edited", 0), (last, 0), begin, end)
        last = f"{begin}-{end}"
    whole, plain, parts = (o[0]["samples"] for o in executor.run(prompt, "whole", "plain", last))
    size = float(whole.abs().max())
    assert float((whole - plain)[1].abs().max()) > 1e-3 * size
    assert float((whole - parts).abs().max()) < 1e-5 * size


def custom(guider: str, latent: str, sigmas: list, noise: str) -> dict:
    return custom_sampler(noise, guider, "euler", sigmas, latent)


def split(edit: dict, source: dict) -> dict:
    """A guider with the edit, levels cut in two."""
    return (
        source
        | edit
        | {
            "guider": node("CFGGuider", model=["edited", 0], positive=["pair", 0], negative=["model", 2], cfg=3.0),
            "levels": node("BasicScheduler", model=["model", 0], scheduler="karras", steps=STEPS, denoise=1.0),
            "halves": node("SplitSigmas", sigmas=["levels", 0], step=CUT),
            "euler": node("KSamplerSelect", sampler_name="euler"),
            "seed": node("RandomNoise", noise_seed=5),
            "none": node("DisableNoise"),
            "whole": custom("guider", "rows", ["levels", 0], "seed"),
            "one": custom("guider", "rows", ["halves", 0], "seed"),
            "two": custom("guider", "one", ["halves", 1], "none"),
        }
    )


@pytest.mark.parametrize("edit", EDITS)
def test_split_sigmas(executor, edit):
    whole, two = (o[0]["samples"] for o in executor.run(split(EDITS[edit], small()), "whole", "two"))
    assert float((whole - two).abs().max()) < 1e-5 * float(whole.abs().max())


def concept(warm_up: float, cool_down: float) -> dict:
    return node(
        "HSpaceEditConcept",
        conditioning=["pair", 0],
        scale=6.0,
        threshold=0.5,
        warm_up=warm_up,
        cool_down=cool_down,
        reverse=False,
    )


def test_concepts(executor):
    prompt = split({"edited": node("HSpaceTestAlone", model=["model", 0])}, small())
    prompt |= {
        "concept": concept(0.3, 0.6),
        "guider": node("HSpaceConceptEditGuider", model=["model", 0], negative=["model", 2], concepts=["concept", 0]),
        "late": concept(0.0, 1.0),
        "other": node("HSpaceConceptEditGuider", model=["model", 0], negative=["model", 2], concepts=["late", 0]),
        "all": custom("other", "rows", ["levels", 0], "seed"),
    }
    whole, two, everywhere = (o[0]["samples"] for o in executor.run(prompt, "whole", "two", "all"))
    size = float(whole.abs().max())
    assert float((whole - two).abs().max()) < 1e-5 * size
    assert float((whole - everywhere).abs().max()) > 1e-3 * size


def test_features(executor):
    prompt = inverted("sd15") | {
        "edited": inject("PnP", tau_f=0.5, tau_A=0.7),
        "pair": node(
            "ConditioningAverage",
            conditioning_to=["model", 2],
            conditioning_from=["model", 1],
            conditioning_to_strength=1.0,
        ),
    }
    prompt["full"] = node("BasicScheduler", model=["model", 0], scheduler="karras", steps=STEPS, denoise=1.0)
    prompt["invert"]["inputs"] |= {"sigmas": ["full", 0], "iterations": 3}
    prompt |= split({}, prompt)
    prompt |= {"rows": node("HSpaceTestAlone", model=["model", 0])}
    for name, sigmas, latent in (("whole", "levels", "invert"), ("one", "halves", "invert")):
        prompt[name] = custom_sampler("none", "guider", "euler", sigmas, [latent, 1])
    whole, two = (o[0]["samples"] for o in executor.run(prompt, "whole", "two"))
    assert float((whole - two).abs().max()) < 1e-5 * float(whole.abs().max())


def test_what_cannot_be_known_is_refused(executor):
    prompt = split(EDITS["p2p"], small())
    ((guider,), (levels,), (euler,), (seed,), (none,), (rows,)) = executor.run(
        prompt, "guider", "levels", "euler", "seed", "none", "rows"
    )

    def run(sigmas, noise):
        return executor.call(
            "SamplerCustomAdvanced", noise=noise, guider=guider, sampler=euler, sigmas=sigmas, latent_image=rows
        )

    for part, noise in ((levels[: CUT + 1].clone(), seed), (levels[CUT:].clone(), none)):
        with pytest.raises(ValueError, match="part of a schedule"):
            run(part, noise)
    run(levels[CUT:].clone(), seed)  # as with denoise below 1: whole
    run(levels.clone(), none)  # noise that is already in the latent


def test_a_blend_that_goes_on_with_another_latent_is_refused(executor):
    prompt = split(EDITS["blend"], small()) | {"empty": node("EmptyLatentImage", width=128, height=128, batch_size=2)}
    prompt["two"] = custom("guider", "empty", ["halves", 1], "none")
    with pytest.raises(Exception, match="whose steps it has not seen"):
        executor.run(prompt, "one", "two")


def test_whole_schedules(executor):
    find = executor.module("nodes.host.samplers.whole_run").whole_schedule
    table = torch.linspace(0.03, 14.6, 1000)
    levels = torch.tensor([14.6, 7.0, 3.0, 1.0, 0.3, 0.0])
    noise, none = torch.ones(1), torch.zeros(1)
    assert torch.equal(find(levels, noise, table), levels) and torch.equal(find(levels, none, table), levels)
    assert torch.equal(find(levels[:3], noise, table), levels) and torch.equal(find(levels[2:], none, table), levels)
    assert torch.equal(find(levels[2:], noise, table), levels[2:])  # denoise below 1
    assert torch.equal(find(levels[2:4], noise, table), levels[2:])  # and its first part
    up = levels.flip(0)
    assert torch.equal(find(up, none, table), up)
    with pytest.raises(ValueError, match="cannot be known"):
        find(levels[2:].clone(), none, table)


@pytest.mark.parametrize(
    "name",
    ["euler", "uni_pc", "uni_pc_bh2", "dpmpp_2m", "dpm_fast", "dpm_adaptive", "heun", "ddpm", "lcm", "res_multistep"],
)
def test_repeats_leave_the_levels_as_they_are(executor, name):
    prompt = {
        "model": node("HSpaceLoadFaceModel"),
        "latent": node("EmptyImage", width=64, height=64, batch_size=1, color=0x808080),
        "clean": node("VAEEncode", pixels=["latent", 0], vae=["model", 1]),
        "seed": node("RandomNoise", noise_seed=3),
        "levels": node("HSpaceSDEditSigmas", model=["model", 0], t0=0.3, steps=4, spacing="uniform"),
        "guider": node("BasicGuider", model=["model", 0], conditioning=["model", 2]),
        "inner": node("KSamplerSelect", sampler_name=name),
        "repeat": node("HSpaceSDEditRepeat", sampler=["inner", 0], repeats=2, noise="new"),
        "out": custom_sampler("seed", "guider", "repeat", "levels", "clean"),
    }
    ((levels,),) = executor.run(prompt, "levels")
    before = levels.clone()
    ((out, *_),) = executor.run(prompt, "out")
    assert torch.equal(levels, before)
    assert torch.isfinite(out["samples"]).all()
