"""Ways to see what a node of the sweep over every dial made."""

from __future__ import annotations

from typing import Any

from .dial_world import Bench, at


def first(_: Bench, outputs: tuple[Any, ...]) -> Any:
    """The first output."""
    return outputs[0]


def all_of(_: Bench, outputs: tuple[Any, ...]) -> Any:
    """All outputs."""
    return outputs


def rendered(bench: Bench, outputs: tuple[Any, ...]) -> Any:
    """The picture that a MODEL renders from the trajectory of a face."""
    return bench.call(
        "HSpaceRenderTrajectory", {"model": outputs[0], "trajectory": at("invert"), "asymmetric": False, "protect": 0.0}
    )[0]


def small_rendered(bench: Bench, outputs: tuple[Any, ...]) -> Any:
    """The same for the network of 16 pixels."""
    return bench.call(
        "HSpaceRenderTrajectory",
        {"model": outputs[0], "trajectory": at("small invert"), "asymmetric": False, "protect": 0.0},
    )[0]


def sampled(
    bench: Bench,
    sampler: Any,
    sigmas: Any,
    *,
    model: Any = None,
    latent: Any = None,
    guider: Any = None,
    noise: Any = None,
) -> Any:
    """What a SAMPLER makes on the small U-Net, under another prompt than that of the inversion."""
    model = bench.get(at("tiny")) if model is None else model
    prompts = {"positive": at("tiny", 2), "negative": at("tiny", 1), "cfg": 2.0}
    guider = bench.call("CFGGuider", {"model": model, **prompts})[0] if guider is None else guider
    latent = bench.get(at("tiny latent")) if latent is None else latent
    links = {
        "noise": noise or at("no noise"),
        "guider": guider,
        "sampler": sampler,
        "sigmas": sigmas,
        "latent_image": latent,
    }
    return bench.call("SamplerCustomAdvanced", links)[0]["samples"]


def tiny_run(bench: Bench, outputs: tuple[Any, ...]) -> Any:
    """What a MODEL of the small U-Net samples with guidance."""
    return sampled(bench, at("euler"), at("tiny sigmas"), model=outputs[0], noise=at("noise"))


def pair_run(bench: Bench, outputs: tuple[Any, ...]) -> Any:
    """The target row of a pair on a MODEL of the small U-Net."""
    guider = bench.call("BasicGuider", {"model": outputs[0], "conditioning": at("pair")})[0]
    return sampled(bench, at("euler"), at("tiny sigmas"), guider=guider, latent=at("rows"), noise=at("noise"))[1]


def flow_run(bench: Bench, outputs: tuple[Any, ...]) -> Any:
    """FlowEdit on the small U-Net."""
    (nothing,) = bench.call("ConditioningZeroOut", {"conditioning": at("tiny", 1)})
    prompts = {"positive": at("tiny", 2), "negative": nothing, "cfg": 3.0}
    guider = bench.call("CFGGuider", {"model": at("tiny"), **prompts})[0]
    return sampled(bench, *outputs, guider=guider, latent=at("tiny encoded"), noise=at("noise"))


def friendly_run(bench: Bench, outputs: tuple[Any, ...]) -> Any:
    """An edit-friendly SAMPLER."""
    return sampled(bench, outputs[0], outputs[1])


def concept_run(bench: Bench, outputs: tuple[Any, ...]) -> Any:
    """Concepts, in a guider on the checkpoint."""
    model = at("checkpoint")
    guider = bench.call("HSpaceConceptEditGuider", {"model": model, "negative": at("empty"), "concepts": outputs[0]})[0]
    return sampled(bench, at("euler"), at("tiny sigmas"), guider=guider, noise=at("noise"))


def resumed(bench: Bench, outputs: tuple[Any, ...]) -> Any:
    """The SAMPLER of Resume Trajectory on the steered network of 16 pixels."""
    guider = bench.call("BasicGuider", {"model": at("small steered"), "conditioning": at("small", 1)})[0]
    links = {
        "noise": at("no noise"),
        "guider": guider,
        "sampler": outputs[0],
        "sigmas": outputs[1],
        "latent_image": at("small invert", 1),
    }
    return bench.call("SamplerCustomAdvanced", links)[0]["samples"]


def resumed_pair(bench: Bench, outputs: tuple[Any, ...]) -> Any:
    """The same on a pair: the source row."""
    prompts = {
        "source_encoded": at("tiny", 1),
        "targets_encoded": at("tiny", 2),
        **bench.defaults("HSpacePairConditioning"),
    }
    pair = bench.call("HSpacePairConditioning", prompts)[0]
    guider = bench.call("BasicGuider", {"model": at("tiny"), "conditioning": pair})[0]
    return sampled(bench, outputs[0], outputs[1], guider=guider, latent=at("rows"))[0]


def repeated(bench: Bench, outputs: tuple[Any, ...]) -> Any:
    """A repeating SAMPLER on its sigmas."""
    return sampled(bench, outputs[0], at("tiny sigmas"), noise=at("noise"), latent=at("half"))
