"""Dials of the nodes of codes."""

from __future__ import annotations

from .dial_world import at
from .dials import Dials, to

CODES_DIALS: dict[str, Dials] = {
    "HSpaceEncodeCode": Dials(
        {"model": at("diffae"), "image": at("face")},
        {"fit": to("pad", image=at("wide"))},
        refused=(({"image": at("wide"), "fit": "refuse"}, "fit"),),
    ),
    "HSpaceManipulateCode": Dials(
        {"code": at("levels"), "attributes": at("hdae", 2)},
        {
            "attribute": to("smile"),
            "strength": to(0.6, 0.0),
            "top_k": to(10.0),
            "orthogonal_to": to("smile", "all"),
            "levels": to("0", "1, 2"),
            "per_level": to(True, top_k=10.0),
            "limit": to(0.5, strength=3.0),
        },
        refused=(
            ({"per_level": True}, "per_level"),
            ({"code": at("code"), "attributes": at("diffae", 2), "per_level": True, "top_k": 10.0}, "per_level"),
        ),
    ),
    "HSpaceInterpolateCodes": Dials(
        {
            "first": at("levels"),
            "second": at("other levels"),
            "first_noise": at("latent"),
            "second_noise": at("other latent"),
            "frames": 3,
        },
        {"frames": to(4), "levels": to("1"), "alphas": to("0, 0.3, 1", frames=8)},
        refused=(({"alphas": "0, 1"}, "frames"),),
    ),
    "HSpaceMixCodeLevels": Dials({"code": at("levels"), "style": at("other levels")}, {"levels": to("1", "")}),
    "HSpaceSampleCodes": Dials({"model": at("diffae"), "steps": 4}, {"count": to(2), "seed": to(1), "steps": to(6)}),
    "HSpaceDiffAESteps": Dials({"model": at("diffae")}, {"steps": to(20)}),
    "HSpaceDeltaEdit": Dials(
        {"code": at("code"), "mapper": at("mapper"), "embedder": at("embedder")},
        {"target": to("smiling face"), "neutral": to("smiling face"), "strength": to(1.2, 0.0), "relevance": to(0.0)},
    ),
    "HSpacePadaAge": Dials(
        {"code": at("code"), "pada": at("pada"), "embedder": at("embedder"), "variants": 2},
        {
            "text": to("face with red hair"),
            "strength": to(0.5, 0.0),
            "tau": to(0.0, 2.0),
            "variants": to(3),
            "seed": to(1),
        },
        refused=(({"reference": at("face"), "text": "face with red hair"}, "text"),),
    ),
    "HSpaceVaryNoise": Dials(
        {"noise": at("latent"), "amount": 0.5, "variants": 2},
        {"amount": to(0.2, 0.0), "variants": to(3), "seed": to(1)},
    ),
}
