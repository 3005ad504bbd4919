"""Step caches on a MODEL: analyses never see their answers, samplers keep them without letting them mix up the calls of
a step."""

import pytest
import torch

from .feature_graphs import inject, small
from .graphs import FACE, SCHEDULE, base, custom_sampler, discover, edit_friendly, invert, node, steer
from .test_flowedit import world as flowedit_world

CACHES = {
    "EasyCache": ("EasyCache", {"reuse_threshold": 0.2, "start_percent": 0.15, "end_percent": 0.95, "verbose": False}),
    "EasyCache all": (
        "EasyCache",
        {"reuse_threshold": 0.2, "start_percent": 0.0, "end_percent": 1.0, "verbose": False},
    ),
    "EasyCache wide": (
        "EasyCache",
        {"reuse_threshold": 3.0, "start_percent": 0.0, "end_percent": 1.0, "verbose": False},
    ),
    "LazyCache": ("LazyCache", {"reuse_threshold": 0.2, "start_percent": 0.15, "end_percent": 0.95, "verbose": False}),
    "LazyCache wide": (
        "LazyCache",
        {"reuse_threshold": 3.0, "start_percent": 0.0, "end_percent": 1.0, "verbose": False},
    ),
}
METHODS = ("fixed point", "ddim A", "ddim B", "edict", "bdia", "midpoint", "fireflow")


def inversion(model: str, method: str) -> dict:
    return invert(method=method, iterations=2 if method == "fixed point" else 3, model=model)


@pytest.mark.sweep("")
@pytest.mark.parametrize("method", METHODS)
def test_inversions_do_not_see_a_cache(executor, method):
    prompt = base(steps=4) | {"plain": inversion("model", method)}
    for name, (kind, options) in CACHES.items():
        prompt |= {name: node(kind, model=["model", 0], **options), f"{name} out": inversion(name, method)}
    plain, *cached = executor.run(prompt, "plain", *(f"{name} out" for name in CACHES))
    for name, cached_run in zip(CACHES, cached, strict=True):
        assert torch.equal(cached_run[0]["states"], plain[0]["states"]) and cached_run[3] == plain[3], name


def test_discover_and_edit_friendly_do_not_see_a_cache(executor):
    prompt = base(steps=4, iterations=1) | {"plain": discover()}
    prompt["noises"] = edit_friendly(seed=1)
    for name, (kind, options) in CACHES.items():
        prompt |= {
            name: node(kind, model=["model", 0], **options),
            f"{name} out": discover(model=[name, 0]),
            f"{name} noises": edit_friendly(model=name, seed=1),
        }
    ((plain, *_),) = executor.run(prompt, "plain")
    ((noises, *_),) = executor.run(prompt, "noises")
    for name in CACHES:
        (directions, *_), (drawn, *_) = executor.run(prompt, f"{name} out", f"{name} noises")
        assert torch.equal(directions["vectors"], plain["vectors"]), name
        assert torch.equal(drawn["noises"], noises["noises"]), name


class _Lazy:
    """A cache that nobody knows: every second answer is the one before, moved along with the state."""

    def __init__(self):
        self.last, self.turn = None, 0

    def __call__(self, executor, x, *args, **kwargs):
        self.turn += 1
        if self.last is not None and self.turn % 2 == 0 and self.last.shape == x.shape:
            return x + self.last
        out = executor(x, *args, **kwargs)
        self.last = out - x
        return out


def _opened(executor, cache):
    """Forgets at the begin of a run, as caches do."""

    def opened(run, *args, **kwargs):
        cache.last, cache.turn = None, 0
        return run(*args, **kwargs)

    return opened


def test_an_unknown_cache_is_caught_and_an_unknown_wrapper_is_not(executor):
    ((model, *_), (face, *_), (sigmas,)) = executor.run(base(steps=4), "model", FACE, SCHEDULE)
    cached, harmless, cache = model.clone(), model.clone(), _Lazy()
    cached.add_wrapper_with_key("outer_sample", "mystery", _opened(executor, cache))
    cached.add_wrapper_with_key("predict_noise", "mystery", cache)
    harmless.add_wrapper_with_key("predict_noise", "mystery", lambda run, *args, **kwargs: run(*args, **kwargs))

    def invert(model):
        return executor.call(
            "HSpaceInvertImage", model=model, image=face, sigmas=sigmas, method="fixed point", iterations=2
        )

    with pytest.raises(ValueError, match=r"answers otherwise when it is asked again.*step cache"):
        invert(cached)
    assert torch.equal(invert(harmless)[0]["states"], invert(model)[0]["states"])


@pytest.mark.parametrize(
    ("mark", "name"), [("rel_l1_thresh", "TeaCache"), ("enable_magcache", "MagCache"), (None, "First Block Cache")]
)
def test_known_caches_of_other_packs_are_refused_by_name(executor, mark, name):
    ((model, *_), (face, *_), (sigmas,)) = executor.run(base(steps=4), "model", FACE, SCHEDULE)
    clone = model.clone()

    def wrapper(apply, args):
        return apply(args["input"], args["timestep"], **args["c"])

    wrapper.__module__ = "custom_nodes.wavespeed.fbcache_nodes" if mark is None else "custom_nodes.some"
    clone.set_model_unet_function_wrapper(wrapper)
    if mark is not None:
        clone.model_options["transformer_options"][mark] = 0.3
    with pytest.raises(ValueError, match=name):
        executor.call("HSpaceInvertImage", model=clone, image=face, sigmas=sigmas, method="ddim B")


def features(cache: str | None, inject_too: bool = True) -> dict:
    """Plug-and-Play on a small random network, with a cache after it."""
    prompt = small("sd15") | {"injected": inject("PnP")}
    model = "injected" if inject_too else "model"
    if cache is not None:
        kind, options = CACHES[cache]
        prompt["cached"] = node(kind, model=[model, 0], **options)
        model = "cached"
    prompt["guider"] = node("CFGGuider", model=[model, 0], positive=["target", 0], negative=["negative", 0], cfg=3.0)
    prompt["out"] = custom_sampler("noise", "guider", "resume", ["resume", 1], ["invert", 1])
    return prompt


def test_the_pass_over_the_source_is_never_answered_from_a_cache(executor, monkeypatch):
    module = executor.module("nodes.host.patches.features")
    replace, sizes = module._replace_features, []

    def replace_and_count(now, bank, rows):
        sizes.append(len(bank.attention) + len(bank.residuals))
        return replace(now, bank, rows)

    monkeypatch.setattr(module, "_replace_features", replace_and_count)
    results = {}
    for name in (None, "EasyCache wide", "LazyCache wide"):
        sizes.clear()
        ((out, *_),) = executor.run(features(name), "out")
        results[name] = out["samples"]
        assert sizes and min(sizes) > 0, (name, sizes)
    plain, alone = (executor.run(features(c, False), "out")[0][0]["samples"] for c in (None, "EasyCache wide"))
    moved, effect = float((alone - plain).abs().mean()), float((results[None] - plain).abs().mean())
    assert moved > 0 and effect > 0
    assert not torch.equal(results["EasyCache wide"], results[None])  # the cache is not switched off
    assert float((results["EasyCache wide"] - alone).abs().mean()) > 0.2 * effect  # nor is the injection


def test_missing_features_are_an_error(executor):
    module = executor.module("nodes.host.patches.features")
    blocks = executor.module("core.edit.attention.feature_blocks")
    places = executor.module("nodes.host.model.unet_blocks")
    block = ("output", 2)
    now = blocks.Recipe(hidden=frozenset([block]), queries=frozenset([block]), tau_f=1.0, tau_a=1.0)
    place = places.Place(block, 0, 0)
    patches, n = module._replace_features(now, module.Bank(None), module._Rows(1, [0])), torch.zeros(1, 4, 8)
    with pytest.raises(ValueError, match=r"gave nothing at output 2.*step caches"):
        patches.swap(n, n, n, place)
    elsewhere = places.Place(("output", 1), 0, 0)
    assert patches.swap(n, n, n, elsewhere)[0] is n


def asymmetric(cache: str | None, strength: float, asym: bool) -> dict:
    prompt = base(steps=8, iterations=1) | {
        "discover": discover(),
        "steered": steer(strength, sigma_end=0.3),
        "seed": node("DisableNoise"),
    }
    model = "steered"
    if cache is not None:
        kind, options = CACHES[cache]
        prompt["cached"] = node(kind, model=["steered", 0], **options)
        model = "cached"
    prompt |= {
        "resume": node("HSpaceResumeTrajectory", trajectory=["invert", 0], asymmetric=asym),
        "guider": node("BasicGuider", model=[model, 0], conditioning=["model", 2]),
        "out": custom_sampler("seed", "guider", "resume", ["resume", 1], ["invert", 1]),
    }
    return prompt


@pytest.mark.sweep("")
@pytest.mark.parametrize("cache", ["EasyCache wide", "LazyCache wide"])
def test_an_asymmetric_run_with_a_cache(executor, cache):
    def out(name, strength, asym):
        return executor.run(asymmetric(name, strength, asym), "out")[0][0]["samples"]

    # No edit: what the cache alone gives.
    assert torch.equal(out(cache, 0.0, True), out(cache, 0.0, False))
    alone = float((out(cache, 0.0, False) - out(None, 0.0, False)).abs().mean())
    both = float((out(cache, 12.0, True) - out(None, 12.0, True)).abs().mean())
    symmetric = float((out(cache, 12.0, False) - out(None, 12.0, False)).abs().mean())
    assert alone > 0
    assert both < 3 * max(alone, symmetric), (alone, symmetric, both)


def test_nothing_is_asked_again_where_the_network_changes_meanwhile(executor):
    """Edits that run other weights, and frames whose rows have LoRAs of their own, with a wrapper that nobody knows."""
    ((model, *_), *_) = executor.run(base(steps=4), "model", FACE)
    clone = model.clone()
    clone.add_wrapper_with_key("predict_noise", "mystery", lambda run, *args, **kwargs: run(*args, **kwargs))
    run_module, steering = executor.module("nodes.host.model.run"), executor.module("nodes.host.patches.steering")
    asked = []

    def work(denoiser):
        for _ in range(4):
            asked.append(denoiser._witness)
            denoiser(torch.zeros(1, 3, 64, 64), torch.ones(1))

    def run(one, **options):
        with torch.inference_mode():
            run_module.with_denoiser(one, (1, 3, 64, 64), run_module.Prompts(), work, **options)
        return asked[-1]

    assert run(clone).active and not run(model).active and run(clone, again=False) is None
    edited = clone.clone()
    edited.model_options["transformer_options"][steering.MODELS] = [lambda denoiser, net, plain: denoiser]
    assert run(edited) is None


@pytest.mark.sweep("")
@pytest.mark.parametrize("cache", ["EasyCache wide", "LazyCache wide"])
def test_flowedit_and_dials_do_not_see_a_cache(executor, cache):
    """FlowEdit asks under two prompts at one level, where an answer from the cache would be the other prompt's."""
    kind, options = CACHES[cache]
    flow = flowedit_world()
    flow["run"]["inputs"]["sigmas"] = ["flow", 1]
    (plain,) = executor.run(flow, "run")
    flow["cached"] = node(kind, model=["model", 0], **options)
    flow["guider"]["inputs"]["model"] = ["cached", 0]
    (beside,) = executor.run(flow, "run")
    assert torch.equal(beside[0]["samples"], plain[0]["samples"])

    prompt = base(steps=6) | {"cached": node(kind, model=["model", 0], **options)}
    prompt["mouth"] = node("HSpaceLoadDirections", file="hspace/mouth.safetensors")
    for name in ("model", "cached"):
        links = {"model": [name, 0], "trajectory": ["invert", 0], "directions": ["mouth", 0]}
        prompt[f"dials {name}"] = node("HSpaceDials", **links, dial_2=1.0, frames=0)
    plain, beside = executor.run(prompt, "dials model", "dials cached")
    assert torch.equal(beside[0], plain[0]) and not torch.equal(plain[0], plain[1])


@pytest.mark.sweep("")
@pytest.mark.parametrize("cache", ["EasyCache wide", "LazyCache wide"])
def test_a_second_order_way_back_beside_a_cache(executor, cache):
    """The cache answers whole steps; what is asked between them is the network's, or the two would be mixed up."""
    kind, options = CACHES[cache]
    missed = {}
    for method in ("ddim B", "midpoint", "fireflow"):
        prompt = base(steps=8) | {"invert": inversion("model", method), "noise": node("DisableNoise")}
        prompt["cached"] = node(kind, model=["model", 0], **options)
        prompt["back"] = node("HSpaceResumeTrajectory", trajectory=["invert", 0], asymmetric=False)
        for name in ("model", "cached"):
            prompt[f"guider {name}"] = node("BasicGuider", model=[name, 0], conditioning=["model", 2])
            run = custom_sampler("noise", f"guider {name}", "back", ["back", 1], ["invert", 1])
            prompt[f"run {name}"] = run
        plain, beside = executor.run(prompt, "run model", "run cached")
        missed[method] = float((plain[0]["samples"] - beside[0]["samples"]).abs().mean())
    assert missed["ddim B"] > 0
    assert missed["midpoint"] < missed["ddim B"] and missed["fireflow"] < 2 * missed["ddim B"], missed
