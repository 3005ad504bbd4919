"""Dials of the nodes that look for directions."""

from __future__ import annotations

from .dial_looks import all_of
from .dial_world import at
from .dials import Dials, to

MODES = ("constrained", "post", "single", "none")
LOOK = {"model": at("small"), "trajectory": at("small two"), "mask": at("small mask")}
FEW = {"k": 2, "iterations": 1, "sigma": 1.0}
HOW = {"layer": to("up.1"), "image_index": to(1), "iterations": to(2), "seed": to(1)}
MODE = {"k": to(3), "mode": to(*MODES, tau=0.01), "tau": to(1.0), "rank": to(2, 4, mode="post")}
UNUSED_MODE = (
    ({"mode": "none", "tau": 0.1}, "tau"),
    ({"mode": "post", "tau": 0.1}, "tau"),
    ({"rank": 5}, "rank"),
    ({"mode": "single", "rank": 5}, "rank"),
)
NO_MASK = tuple(
    ({"mask": None, **more}, name)
    for more, name in (({"tau": 0.1}, "tau"), ({"mode": "none", "rank": 3}, "rank"), ({"mode": "post"}, "mode"))
)

DISCOVER_DIALS: dict[str, Dials] = {
    "HSpaceDiscoverRegion": Dials({**LOOK, **FEW}, {**MODE, **HOW, "sigma": to(21.0)}, refused=UNUSED_MODE + NO_MASK),
    "HSpaceRegionBasis": Dials(
        {**LOOK, "max_k": 2, "max_rank": 2, "iterations": 1, "sigma": 1.0},
        {**HOW, "iterations": to(3, max_rank=0), "max_k": to(3), "max_rank": to(0, 4), "sigma": to(21.0)},
    ),
    "HSpaceBasisDirections": Dials(
        {"basis": at("small basis"), "k": 2},
        {**MODE, "mode": to("constrained", mode="post", rank=2), "rank": to(4, 6, mode="post", rank=2)},
        refused=UNUSED_MODE,
    ),
    "HSpaceDirectionAtlas": Dials(
        {"model": at("model"), "trajectory": at("invert two"), "directions": at("mouth"), "count": 1, "columns": 3},
        {
            "strength": to(8.0),
            "columns": to(5),
            "first": to(2),
            "count": to(2),
            "sigma_start": to(200.0),
            "sigma_end": to(0.005),
            "image_index": to(1),
            "title": to("mouth"),
            "names": to("face world"),
            "words": to("face with glasses, smiling face", embedder=at("embedder")),
        },
        refused=(
            ({"words": "smile"}, "words"),
            ({"embedder": at("embedder"), "names": "face world"}, "names"),
            ({"columns": 4}, "columns"),
            ({"count": 64}, "count"),
            ({"first": 60}, "first"),
            ({"sigma_end": 900.0}, "sigma_end"),
        ),
    ),
    "HSpaceTrackDirections": Dials(
        {**LOOK, "k": 2, "iterations": 1, "levels": 2, "sigma_start": 100.0, "sigma_end": 0.02},
        {**MODE, **HOW, "sigma_start": to(21.0), "sigma_end": to(1.2), "levels": to(3)},
        refused=(
            *UNUSED_MODE,
            *NO_MASK,
            ({"levels": 1, "sigma_end": 0.3}, "sigma_end"),
            ({"sigma_start": 1.0, "sigma_end": 2.0}, "sigma_end"),
        ),
    ),
    "HSpaceGlobalDirections": Dials(
        {**LOOK, **FEW},
        {**MODE, **{k: v for k, v in HOW.items() if k != "image_index"}, "sigma": to(21.0), "how": to("subspace")},
        refused=(*UNUSED_MODE, ({"trajectory": at("small invert"), "how": "subspace"}, "how")),
    ),
    "HSpaceTransportDirections": Dials({"directions": at("small directions"), "basis": at("small basis")}),
    "HSpaceBaselineDirections": Dials(
        {"model": at("small"), "trajectory": at("small two"), **FEW},
        {
            "method": to("pullback (x)", "PCA of h", k=1, iterations=8),
            "k": to(3),
            "rank": to(1, mask=at("small mask")),
            "sigma": to(21.0),
            "layer": to("up.1", method="PCA of h", k=1, iterations=8),
            "image_index": to(1),
            "iterations": to(2),
            "seed": to(1),
            "preset": to("CelebA-HQ", look=all_of, k=5, rank=5, sigma=0.0, iterations=8),
        },
        refused=(
            ({"method": "pullback (x)", "rank": 3}, "rank"),
            ({"method": "pullback (x)", "mask": at("small mask")}, "mask"),
            ({"method": "pullback (x)", "preset": "FFHQ"}, "preset"),
            ({"method": "pullback (x)", "vae": at("tiny vae")}, "vae"),
            ({"method": "PCA of h", "rank": 3}, "rank"),
            ({"method": "PCA of h", "seed": 3, "iterations": 8}, "seed"),
            ({"method": "PCA of h"}, "iterations"),
            ({"method": "PCA of h", "image_index": 1, "iterations": 8}, "image_index"),
            ({"layer": "up.1"}, "layer"),
            ({"preset": "FFHQ"}, "k"),
            ({"preset": "FFHQ", "k": 5, "rank": 7}, "rank"),
            ({"preset": "FFHQ", "k": 5}, "sigma"),
        ),
    ),
    "HSpaceMeanDifference": Dials(
        {"model": at("small"), "positive": at("small invert"), "negative": at("small other")},
        {"sigma": to(21.0), "layer": to("up.1")},
    ),
}
