"""Nodes whose rows are compared between a batch and a picture alone."""

from collections.abc import Callable
from typing import NamedTuple

import torch

from .batch_graphs import (
    aged,
    asyrp,
    concepts,
    delta_edited,
    edited_state,
    exact,
    guide_batch,
    manipulated,
    proximal,
    rectified,
    rendered,
    repeated,
    resumed,
    sampled_back,
    steered,
    svd,
    tuned,
    world,
)
from .graphs import edit_friendly, face, invert, node


class Case(NamedTuple):
    """How to see the rows of a node: what it needs besides :func:`world`, the output, and rows a picture."""

    kind: str
    nodes: Callable[[], dict]
    output: int = 0
    rows: Callable[[object], torch.Tensor] = lambda value: value["samples"] if isinstance(value, dict) else value
    each: int = 1


def states(payload) -> torch.Tensor:
    """Rows first: all states and noises of a trajectory."""
    values = [payload["states"]] + ([] if payload["noises"] is None else [payload["noises"]])
    return torch.cat(values).transpose(0, 1)


def code(conditioning) -> torch.Tensor:
    """The codes that travel as CONDITIONING."""
    return conditioning[0][0]


NOISE = {
    "render eta": Case(
        "HSpaceRenderTrajectory", lambda: asyrp() | {"run": rendered(model=["smiling", 0], eta=0.8)}, output=2
    ),
    "render boost": Case(
        "HSpaceRenderTrajectory", lambda: asyrp() | {"run": rendered(model=["smiling", 0], boost=30.0)}, output=2
    ),
    "resume eta": Case("HSpaceResumeTrajectory", resumed),
    "edit-friendly": Case(
        "HSpaceEditFriendlyInversion", lambda: {"run": edit_friendly("image", "sigmas", seed=5)}, rows=states
    ),
    "into the domain": Case(
        "HSpaceIntoDomain",
        lambda: {
            "run": node(
                "HSpaceIntoDomain", model=["model", 0], image=["image", 0], sigma=1.0, steps=2, repeats=2, seed=5
            )
        },
    ),
    "repeat": Case("HSpaceSDEditRepeat", repeated),
    "pada": Case("HSpacePadaAge", aged, rows=code, each=2),
    "vary noise": Case(
        "HSpaceVaryNoise",
        lambda: {"run": node("HSpaceVaryNoise", noise=["invert", 1], amount=0.6, variants=2, seed=3)},
        each=2,
    ),
}


def inverted(method: str) -> Case:
    return Case("HSpaceInvertImage", lambda: {"run": invert("image", "sigmas", method)}, rows=states)


OTHERS = {
    **{
        method: inverted(method)
        for method in ("fixed point", "ddim A", "ddim B", "edict", "bdia", "midpoint", "fireflow")
    },
    "sample edit-friendly": Case("HSpaceSampleEditFriendly", sampled_back),
    "sample exact": Case("HSpaceSampleExactInversion", exact),
    "concepts": Case("HSpaceConceptEditGuider", lambda: guide_batch(concepts)),
    "proximal": Case("HSpaceProximalCFG", lambda: guide_batch(proximal)),
    "edit state": Case("HSpaceEditState", edited_state, rows=states),
    "manipulate": Case("HSpaceManipulateCode", manipulated, rows=code),
    "delta edit": Case("HSpaceDeltaEdit", delta_edited, rows=code),
    "rectifier": Case("HSpaceApplyRectifier", rectified, output=2),
    "fine-tuned": Case("HSpaceSteerFineTuned", tuned, output=2),
    "steer": Case("HSpaceSteer", steered, output=2),
    "latent svd": Case("HSpaceLatentSVD", svd("HSpaceLatentSVD")),
    "mix svd": Case("HSpaceMixLatentSVD", svd("HSpaceMixLatentSVD")),
}
DRAWN = {
    "HSpaceDemoFace": (
        lambda count: {"run": {**face(), "inputs": {**face()["inputs"], "count": count}}},
        lambda value: value,
    ),
    "HSpaceSampleCodes": (
        lambda count: {
            "coder": node("HSpaceLoadFaceDiffAE", variant="DiffAE (one code)"),
            "run": node("HSpaceSampleCodes", model=["coder", 0], count=count, seed=4, steps=5),
        },
        code,
    ),
    "HSpacePadaAge": (
        lambda count: {
            **world(True),
            **aged(),
            "run": {**aged()["run"], "inputs": {**aged()["run"]["inputs"], "variants": count}},
        },
        code,
    ),
    "HSpaceVaryNoise": (
        lambda count: {
            **world(True),
            "run": node("HSpaceVaryNoise", noise=["invert", 1], amount=0.6, variants=count, seed=3),
        },
        lambda value: value["samples"],
    ),
}
"""Nodes that draw several things of their own: prompt by their number, and the rows."""
