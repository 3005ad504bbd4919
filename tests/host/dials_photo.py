"""Dials of the nodes that cut a photograph and put the edit back."""

from __future__ import annotations

from .dial_world import at
from .dials import Dials, to

FACE = {"framing": "face", "frame": at("dots")}
WHOLE = {"framing": "whole picture"}

PHOTO_DIALS: dict[str, Dials] = {
    "HSpaceFitPhoto": Dials(
        {"image": at("wide"), "mask": at("wide mask"), "size": 32},
        {
            "framing": to("whole picture"),
            "context": to(1.0, 4.0),
            "size": to(48, 0, model=at("model"), size=32),
        },
        refused=(
            ({**FACE, "context": 2.0}, "context"),
            ({**WHOLE, "context": 2.0}, "context"),
            ({**WHOLE, "frame": at("dots")}, "frame"),
            ({**WHOLE, "keypoints": [{}]}, "keypoints"),
            ({"keypoints": [{}]}, "keypoints"),
            ({"size": 0}, "model"),
            ({"size": 12, "model": at("model")}, "size"),
            ({"framing": "face"}, "frame"),
        ),
    ),
    "HSpaceDemoPhoto": Dials({}, {}),
    "HSpacePasteBack": Dials(
        {
            "original": at("wide"),
            "reconstruction": at("fitted"),
            "edited": at("fitted negative"),
            "placement": at("fitted", 2),
        },
        {"feather": to(0.0, 0.3)},
    ),
}
