"""Dials of loaders and of Demo Face."""

from __future__ import annotations

from .dial_world import at
from .dials import FILE, Dials, to

LOAD_DIALS: dict[str, Dials] = {
    # load
    **{
        name: Dials(look=lambda bench, outputs: len(outputs))
        for name in ("HSpaceLoadFaceModel", "HSpaceLoadFaceTextModel", "HSpaceLoadFaceEmbedder")
    },
    "HSpaceClipEmbedder": Dials(),
    "HSpaceLoadFaceDiffAE": Dials(
        moves={"variant": to("HDAE (a code a level)")}, look=lambda bench, outputs: outputs[2]
    ),
    "HSpaceLoadPixelModel": Dials(elsewhere={"checkpoint": FILE}),
    "HSpaceLoadDiffAE": Dials(elsewhere={"checkpoint": FILE, "statistics": FILE}),
    "HSpaceLoadAsyrp": Dials(
        elsewhere=dict.fromkeys(("checkpoint", "index", "sigma_edit", "steps", "sigma_boost"), FILE)
    ),
    "HSpaceLoadDiffusionCLIP": Dials(elsewhere=dict.fromkeys(("checkpoint", "rank"), FILE)),
    "HSpaceLoadHeads": Dials({"model": at("diffae")}, elsewhere={"file": FILE}),
    "HSpaceLoadTrained": Dials(moves={"file": to("hspace/smile.safetensors")}),
    "HSpaceLoadFineTuned": Dials(moves={"file": to("hspace/smile.safetensors")}),
    "HSpaceLoadRectifier": Dials(
        {"file": "hspace/smile.safetensors"}, {"file": to("hspace/reconstruction.safetensors")}
    ),
    "HSpaceLoadDeltaMapper": Dials(moves={"file": to("hspace/hdae.safetensors")}),
    "HSpaceLoadPada": Dials(moves={"file": to("hspace/hdae.safetensors")}),
    "HSpaceLoadDirections": Dials(elsewhere={"file": FILE}),
    # faces
    "HSpaceDemoFace": Dials(
        moves={
            "source": to("dials"),
            "seed": to(36),
            "count": to(2),
            "smile": to(0.5),
            "mouth_open": to(0.9),
            "eye_open": to(0.2),
            "gaze": to(0.7),
            "brow_height": to(-0.8),
            "brow_tilt": to(0.9),
            "nose_size": to(0.9),
            "face_width": to(0.9),
            "yaw": to(0.8),
            "light": to(0.9),
            "skin": to(0.9),
            "hair_length": to(0.9),
            "hair_shade": to(0.9),
            "bg_hue": to(0.1),
            "shirt_hue": to(0.35),
            "glasses": to(True),
            "hair_color": to("grey", "blond", "red", "black"),
            "eye_color": to("green", "blue"),
        },
        refused=(({"source": "dials", "seed": 3}, "seed"), ({"source": "dials", "count": 2}, "count")),
    ),
}
