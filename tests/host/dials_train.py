"""Dials of the nodes that train, and of those that measure."""

from __future__ import annotations

from .dial_looks import all_of
from .dial_world import at
from .dials import FILE, Dials, to

TRAIN = {"model": at("model"), "trajectory": at("invert short"), "embedder": at("embedder")}
GUIDED = {"source": to("face with glasses"), "target": to("face with grey hair")}
CODES = {"code": at("codes"), "image": at("with"), "embedder": at("embedder"), "steps": 2, "batch": 4, "width": 8}

TRAIN_DIALS: dict[str, Dials] = {
    # train
    "HSpaceTrainAsyrp": Dials(
        {**TRAIN, "epochs": 1},
        {
            **GUIDED,
            "sigma_edit": to(30.0),
            "epochs": to(2),
            "batch": to(1),
            "lr": to(0.01),
            "optimiser": to("sgd", "adamw", lr=0.01),
            "sigma_boost": to(0.2),
            "clip_weight": to(3.0),
            "l1_weight": to(3.0, epochs=2),
            "blur": to(0.05),
            "seed": to(1),
        },
    ),
    "HSpaceAsyrpLevels": Dials({**TRAIN, "trajectory": at("invert")}, {**GUIDED}, all_of),
    "HSpaceTrainDiffusionCLIP": Dials(
        {**TRAIN, "steps": 2, "epochs": 1, "rank": 1},
        {
            **GUIDED,
            "steps": to(1),
            "epochs": to(2),
            "batch": to(1),
            "lr": to(0.001),
            "efficient": to(False),
            "rank": to(2),
            "clip_weight": to(1.0),
            "l1_weight": to(3.0),
            "growth": to(3.0, epochs=2),
            "blur": to(0.05),
            "seed": to(1, epochs=2, batch=1),
        },
        refused=(({"growth": 2.0}, "growth"),),
    ),
    "HSpaceTrainRectifier": Dials(
        {"model": at("small"), "trajectory": at("small two"), "steps": 2, "code": 8},
        {"steps": to(3), "batch": to(1), "lr": to(0.01), "code": to(12), "seed": to(1)},
    ),
    "HSpaceTrainRectifierEdit": Dials(
        {**TRAIN, "rectifier": at("rectifier"), "steps": 2},
        {
            **GUIDED,
            "sigma_start": to(30.0),
            "steps": to(3),
            "batch": to(1),
            "lr": to(0.01),
            "clip_weight": to(1.0),
            "l1_weight": to(9.0),
            "blur": to(0.05),
            "seed": to(2, steps=4, batch=1),  # 1 happens to draw the same pictures
        },
    ),
    "HSpaceFitImageLora": Dials(
        {
            "model": at("tiny"),
            "image": at("picture"),
            "positive": at("tiny", 1),
            "vae": at("tiny vae"),
            "steps": 2,
            "rank": 2,
        },
        {
            "steps": to(3),
            "rank": to(3),
            "lr": to(0.01),
            "seed": to(1),
            "fit": to("pad", model=at("text"), image=at("wide"), positive=at("text words"), vae=None),
        },
        refused=(({"fit": "refuse"}, "fit"),),
    ),
    "HSpaceTrainHeads": Dials(
        {"codes": at("codes"), "without": at("other codes")},
        {
            "name": to("glasses"),
            "method": to("mean", "logistic"),
            "ridge": to(1.0),
            "values": to(" ".join(map(str, range(20))), without=None, values=" ".join(map(str, range(20, 0, -1)))),
        },
        refused=(
            ({"method": "mean", "ridge": 0.5}, "ridge"),
            ({"values": "1 2"}, "values"),
            ({"without": None, "values": " ".join(map(str, range(20))), "method": "mean"}, "method"),
        ),
    ),
    "HSpaceTrainDeltaMapper": Dials(
        CODES, {"steps": to(3), "batch": to(3), "lr": to(0.01), "width": to(12), "seed": to(1)}
    ),
    "HSpaceTrainPada": Dials(
        CODES,
        {
            "young": to("face with red hair"),
            "old": to("smiling face"),
            "steps": to(3),
            "batch": to(3),
            "lr": to(0.01),
            "identity": to(9.0, steps=6),
            "diversity": to(0.0, steps=6),
            "image_weight": to(0.0, 3.0, model=at("diffae")),
            "width": to(12),
            "seed": to(1),
        },
        refused=(({"image_weight": 2.0}, "image_weight"),),
    ),
    # measure
    "HSpaceMeasureEdit": Dials({"before": at("face"), "after": at("other face")}, {"factors": to("off")}),
    "HSpaceEditMetrics": Dials(
        {"source": at("face"), "edited": at("other face")},
        {
            "source_prompt": to("face", "smiling face", embedder=at("embedder"), target_prompt="face", look=all_of),
            "target_prompt": to("smiling face", embedder=at("embedder"), target_prompt="face"),
            "structure": to("off"),
        },
        refused=(
            ({"source_prompt": "face"}, "source_prompt"),
            ({"target_prompt": "face"}, "target_prompt"),
            ({"embedder": at("embedder")}, "embedder"),
        ),
        elsewhere={"lpips": FILE},
    ),
}
