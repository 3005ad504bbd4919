"""Dials of the nodes that look at a model."""

from __future__ import annotations

from .dial_world import at
from .dials import Dials, to

MEASURE_DIALS: dict[str, Dials] = {
    "HSpaceCheckModel": Dials(
        {"model": at("small"), "image": at("grain")},
        {"depth": to("full")},
        refused=(
            ({"clip": at("checkpoint", 1)}, "clip"),
            ({"positive": at("words")}, "positive"),
            ({"model": at("tiny"), "positive": at("tiny", 1), "clip": at("checkpoint", 1)}, "clip"),
            ({"model": at("tiny"), "positive": at("tiny", 1)}, "vae"),
        ),
    ),
}
