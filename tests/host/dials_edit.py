"""Dials of the nodes that steer, mix weights and edit noise."""

from __future__ import annotations

from .dial_looks import flow_run, rendered, repeated, resumed, resumed_pair, small_rendered, tiny_run
from .dial_world import at
from .dials import SEEN, Dials, to

SVD = {
    "model": at("tiny"),
    "source": at("half"),
    "target": at("other half"),
    "source_sigmas": at("half split", 1),
    "target_sigmas": at("other half split", 1),
}

EDIT_DIALS: dict[str, Dials] = {
    "HSpaceSteer": Dials(
        {"model": at("small"), "directions": at("small directions"), "strength": 5.0},
        {
            "strength": to(-5.0, 0.0),
            "direction": to(2),
            "sigma_start": to(50.0),
            "sigma_end": to(0.005),
            "normalise": to("h", "sigma"),
        },
        small_rendered,
        (
            ({"sigma_end": 900.0}, "sigma_end"),
            ({"sigma_start": 1.0, "sigma_end": 2.0}, "sigma_start"),
            ({"direction": 64}, "direction"),
        ),
    ),
    "HSpaceDials": Dials(
        {
            "model": at("small"),
            "trajectory": at("small invert"),
            "directions": at("small directions"),
            "directions_2": at("small directions"),
            "directions_3": at("small directions"),
            "dial_1": 0.5,
            "frames": 0,
        },
        {
            **{f"dial_{i}": to(1.0, -1.0) for i in range(1, 9)},
            "protect": to(0.5, 1.0),
            "sigma_start": to(50.0),
            "sigma_end": to(0.005),
        },
        refused=(
            ({"directions_2": None, "directions_3": None, "dial_4": 0.5}, "dial_4"),
            ({"directions": at("small state")}, "Edit State"),
            ({"frames": 4}, "frames"),
            ({"mask": at("small mask")}, "mask"),
            ({"sigma_end": 900.0}, "sigma_end"),
        ),
        elsewhere={"frames": SEEN},
    ),
    "HSpaceResumeTrajectory": Dials(
        {"trajectory": at("small invert")},
        {
            "asymmetric": to(True),
            "eta": to(0.5),
            "direct": to(False, trajectory=at("tiny one"), look=resumed_pair),
        },
        resumed,
    ),
    "HSpaceRenderTrajectory": Dials(
        {"model": at("small steered"), "trajectory": at("small invert")},
        {
            "asymmetric": to(True),
            "eta": to(0.5),
            "seed": to(1, eta=0.5),
            "protect": to(0.5, 1.0, mask=at("small mask")),
            "boost": to(10.0),
            "lagged": to(True),
        },
        refused=(
            ({"protect": 0.5}, "mask"),
            ({"model": at("small"), "asymmetric": True}, "asymmetric"),
            ({"model": at("small"), "lagged": True}, "lagged"),
        ),
    ),
    "HSpaceSelectDirections": Dials(
        {"directions": at("mouth")},
        {"first": to(2), "count": to(2), "flip": to(True), "label": to("wide")},
        refused=(({"first": 200}, "between"),),
    ),
    "HSpaceCombineDirections": Dials(
        {"a": at("small directions"), "b": at("small directions")},
        {"how": to("add"), "weight_a": to(0.5, how="add", b=at("small directions")), "weight_b": to(-0.5, how="add")},
        refused=(({"weight_a": 2.0}, "weight_a"), ({"weight_b": 2.0}, "weight_b")),
    ),
    "HSpaceSaveDirections": Dials({"directions": at("mouth")}, {"name": to("other")}),
    "HSpaceEditState": Dials(
        {"model": at("small"), "trajectory": at("small invert"), "directions": at("small state")},
        {"strength": to(4.0, 0.0), "direction": to(2), "how": to("guidance"), "repeats": to(1, how="guidance")},
        refused=(({"repeats": 3}, "repeats"), ({"direction": 9}, "direction")),
    ),
    "HSpaceSteerTrained": Dials(
        {"model": at("model"), "trained": at("asyrp")},
        {"strength": to(0.5, 0.0), "sigma_end": to(0.005)},
        rendered,
        (({"sigma_end": 200.0}, "sigma_end"),),
    ),
    "HSpaceMeanTrained": Dials(
        {"model": at("model"), "trajectory": at("invert"), "trained": at("asyrp")}, {"one": to(True)}
    ),
    "HSpaceSteerFineTuned": Dials(
        {"model": at("model"), "lora": at("tuned")},
        {"degree": to(0.5, 0.0), "sigma_start": to(50.0), "sigma_end": to(1.0)},
        rendered,
        (({"sigma_start": 1.0, "sigma_end": 2.0}, "sigma_start"),),
    ),
    "HSpaceApplyRectifier": Dials(
        {"model": at("model"), "trajectory": at("invert"), "rectifier": at("rectifier")},
        {"strength": to(0.5, edit=at("rectifier edit")), "amount": to(0.5, 0.0)},
        rendered,
        (({"strength": 0.5}, "strength"),),
    ),
    "HSpaceIntoDomain": Dials(
        {"model": at("small"), "image": at("grain"), "steps": 2, "repeats": 1},
        {
            "sigma": to(1.0),
            "steps": to(3),
            "repeats": to(2),
            "seed": to(1),
            "fit": to("pad", model=at("model"), image=at("wide")),
        },
        refused=(
            ({"fit": "refuse"}, "fit"),
            ({"positive": at("words")}, "positive"),
            ({"model": at("small steered")}, "carries edits"),
        ),
    ),
    "HSpaceSaveTrained": Dials({"trained": at("asyrp")}, {"name": to("other")}),
    "HSpaceSDEditSigmas": Dials(
        {"model": at("model")},
        {"t0": to(0.3), "steps": to(10), "spacing": to("karras", "all steps")},
        refused=(({"spacing": "all steps", "steps": 3}, "steps"),),
    ),
    "HSpaceFlowEdit": Dials(
        {"sigmas": at("tiny sigmas"), "source": at("tiny", 1)},
        {
            "strength": to(0.0, 0.5),
            "sigma_start": to(3.0),
            "source_cfg": to(2.0, 0.0),
            "refine": to(1, 2),
            "average": to(2),
        },
        flow_run,
        (
            ({"refine": 4}, "refine"),
            ({"refine": 3, "average": 2}, "average"),
            ({"sigma_start": 0.001}, "sigma_start"),
        ),
    ),
    "HSpaceEditDial": Dials(
        {"model": at("tiny"), "source": at("tiny encoded")},
        {
            "strength": to(0.0, 1.0),
            "keep": to(0.0, 1.0),
            "decided_per": to("cell", "3x3", keep=1.0, strength=0.05),
            "sigma_end": to(1.0),
        },
        tiny_run,
        (({"keep": 0.0, "decided_per": "cell"}, "decided_per"),),
    ),
    "HSpaceSDEditRepeat": Dials(
        {"sampler": at("ancestral")},
        {"repeats": to(1, 2), "noise": to("same")},
        repeated,
        (({"repeats": 1, "noise": "same"}, "noise"),),
    ),
    "HSpaceLatentSVD": Dials(
        {"model": at("tiny"), "latent": at("half"), "sigmas": at("half split", 1)},
        {"first": to(2), "count": to(3), "factor": to(2.0, 1.0), "others": to(0.5)},
    ),
    "HSpaceMixLatentSVD": Dials(SVD, {"leading": to(3), "gain": to(1.0, 0.0)}),
    "HSpaceFitLatentSVD": Dials(
        {**SVD, "steps": 3},
        {
            "source_vectors": to(3),
            "target_vectors": to(3),
            "steps": to(6),
            "strength": to(0.5, 0.0),
            "target_weight": to(9.0),
            "source_weight": to(9.0),
            "hold_target": to(9.0),
            "hold_source": to(9.0),
            "lr": to(0.1),
            "seed": to(1),
        },
    ),
}
