"""Dials of the nodes that invert a picture and bring it back."""

from __future__ import annotations

from .dial_looks import friendly_run, tiny_run
from .dial_world import at
from .dials import FAST, Dials, to

FACE = {"model": at("model"), "sigmas": at("sigmas"), "positive": None, "vae": None}
WIDE = {**FACE, "image": at("wide")}
"""A picture that the face model does not work at."""
SHOWN_ONLY = "what is shown beside the trajectory, which stays the same: tests/host/test_evaluations.py"

INVERT_DIALS: dict[str, Dials] = {
    "HSpaceInvertImage": Dials(
        {
            "model": at("tiny"),
            "image": at("picture"),
            "sigmas": at("tiny sigmas"),
            "positive": at("tiny", 1),
            "vae": at("tiny vae"),
        },
        {
            "method": to("ddim B", "ddim A", "edict", "bdia", "midpoint", "fireflow"),
            "iterations": to(0, 3),
            "damping": to(0.5),
            "tol": to(0.1),
            "cfg": to(3.0, cfg=2.0, negative=at("tiny", 2)),
            "mixing": to(0.9, method="edict"),
            "gamma": to(0.97, method="bdia"),
            "fit": to("pad", **WIDE),
        },
        refused=(
            *(
                ({"method": m, "iterations": 5}, "iterations")
                for m in ("ddim B", "ddim A", "edict", "bdia", "midpoint")
            ),
            *(({"method": m, "damping": 0.3}, "damping") for m in ("ddim B", "edict", "bdia", "fireflow")),
            *(({"method": m, "tol": 0.01}, "tol") for m in ("ddim A", "edict")),
            ({"iterations": 0, "damping": 0.3}, "damping"),
            ({"iterations": 0, "tol": 0.01}, "tol"),
            *(({"method": m, "mixing": 0.9}, "mixing") for m in ("fixed point", "ddim A", "bdia")),
            *(({"method": m, "gamma": 0.99}, "gamma") for m in ("fixed point", "ddim B", "edict")),
            ({"negative": at("tiny", 2)}, "negative"),
            ({"cfg": 2.0}, "cfg"),
            ({"model": at("model"), "image": at("face"), "vae": None}, "positive"),
            ({**WIDE, "fit": "refuse"}, "fit"),
            ({"fit": "refuse"}, "fit"),
            ({"fit": "pad"}, "fit"),
        ),
        elsewhere={"preview": SHOWN_ONLY},
    ),
    "HSpaceEditFriendlyInversion": Dials(
        {
            "model": at("tiny"),
            "image": at("picture"),
            "sigmas": at("tiny sigmas"),
            "positive": at("tiny", 1),
            "vae": at("tiny vae"),
        },
        {
            "cfg": to(3.0, cfg=2.0, negative=at("tiny", 2)),
            "seed": to(1),
            "solver": to("sde-dpm++2"),
            "noise_shift": to(1.0),
            "fit": to("pad", **WIDE),
        },
        refused=(({"negative": at("tiny", 2)}, "negative"), ({"cfg": 2.0}, "cfg"), ({**WIDE, "fit": "refuse"}, "fit")),
        elsewhere={"levels_at_once": FAST, "preview": SHOWN_ONLY},
    ),
    "HSpaceSampleEditFriendly": Dials(
        {"trajectory": at("friendly"), "skip": 1},
        {
            "skip": to(0, 2),
            "strength": to(0.5),
            "shift_x": to(3),
            "shift_y": to(3),
            "clip_last": to(0.001),
            "source_row": to(True),
        },
        friendly_run,
    ),
    "HSpaceRecolourEditFriendly": Dials(
        {
            "model": at("tiny"),
            "trajectory": at("friendly"),
            "colour": at("red"),
            "vae": at("tiny vae"),
            "start": 0.0,
            "end": 1.0,
        },
        {"strength": to(0.5), "start": to(0.6), "end": to(0.3)},
        refused=(({"start": 0.9, "end": 0.5}, "start"),),
    ),
    "HSpaceSampleExactInversion": Dials({"trajectory": at("small exact")}, look=lambda bench, outputs: outputs[1]),
    "HSpaceNullTextOptimise": Dials(
        {
            "model": at("tiny"),
            "trajectory": at("tiny one"),
            "positive": at("tiny", 1),
            "negative": at("tiny", 2),
            "inner_steps": 2,
            "tolerance": 0.0,
        },
        {"cfg": to(3.0), "inner_steps": to(1), "rate": to(0.1)},
        refused=(
            ({"inner_steps": 0, "rate": 0.1, "tolerance": 1e-5}, "rate"),
            ({"inner_steps": 0, "tolerance": 0.5}, "tolerance"),
        ),
        elsewhere={"tolerance": "when fitting stops; a network of random weights never comes so near"},
    ),
    "HSpaceProximalCFG": Dials(
        {"model": at("tiny")},
        {
            "mode": to("l1"),
            "quantile": to(0.0, 0.3),
            "sigma_guide": to(14.0, trajectory=at("tiny one")),
            "rate": to(0.0, 0.5, trajectory=at("tiny one")),
            "dilate": to(0, 3, trajectory=at("tiny one")),
        },
        tiny_run,
        (
            ({"sigma_guide": 0.5}, "sigma_guide"),
            ({"rate": 0.5}, "rate"),
            ({"dilate": 3}, "dilate"),
            ({"quantile": 0.0, "mode": "l1"}, "mode"),
            ({"trajectory": at("tiny one"), "rate": 0.0, "dilate": 2}, "dilate"),
        ),
    ),
}
