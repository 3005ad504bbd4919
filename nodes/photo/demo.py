"""Photo: a photograph that comes with the pack, and the masks of its regions, so that a checkpoint can be tried at once.

Eileen Collins, photographed by NASA: no known copyright restrictions, released into the public domain.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ...core.pictures import read_pixels
from ..host.api import Node, io
from ..host.ui import show_picture

_FILE = Path(__file__).with_name("eileen_collins.jpg")
_SIDE = 512
_FINE = 4  # masks are drawn at this many times their size, then averaged

# In pixels of the picture. Ellipses are left, top, right, bottom.
_MOUTH = ((198, 132, 250, 160),)
_EYES = ((184, 91, 221, 111), (229, 93, 267, 113))
_FACE = ((180, 72, 270, 180),)
# fmt: off
_HAIR = (
    (232, 13), (264, 20), (288, 36), (300, 60), (304, 86), (299, 110), (284, 128), (273, 132), (271, 106), (268, 90),
    (250, 82), (225, 79), (204, 80), (188, 80), (185, 96), (180, 118), (168, 118), (156, 108), (151, 86), (152, 64),
    (166, 46), (187, 37), (200, 23),
)
# fmt: on
_DOTS = ((203, 101), (247, 103), (225, 127), (205, 141), (245, 142))
_DOT = 3  # radius

MASKS = {
    "mouth": "The mouth and a little around it.",
    "eyes": "Both eyes.",
    "hair": "The hair.",
    "face": "The face without the hair.",
    "dots": "Five dots on eyes, nose and corners of the mouth, for 'frame' of Fit Photo with framing 'face'.",
}


class HSpaceDemoPhoto(Node):
    """Gives a photograph and the masks of its regions."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceDemoPhoto",
            display_name="Demo Photograph",
            category="HSpace/photo",
            description="Gives a photograph of a person (NASA, public domain) of 512x512 pixels with masks of its regions: something to try a checkpoint on before you load your own.",
            search_aliases=["example photo", "test photo", "portrait", "sample image"],
            inputs=[],
            outputs=[
                io.Image.Output(display_name="image"),
                *(io.Mask.Output(display_name=name, tooltip=tooltip) for name, tooltip in MASKS.items()),
            ],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        picture = read_pixels(_FILE).movedim(0, -1)[None].float() / 255
        return io.NodeOutput(picture, *(draw_mask(name)[None] for name in MASKS), ui=show_picture(picture, cls))


def draw_mask(name: str) -> Tensor:
    """Draw one of :data:`MASKS`, `[512 512]` in 0..1 with a smooth edge."""
    canvas = Image.new("L", (_SIDE * _FINE, _SIDE * _FINE))
    pen = ImageDraw.Draw(canvas)
    if name == "hair":
        pen.polygon([(x * _FINE, y * _FINE) for x, y in _HAIR], 255)
    for ellipse in _ellipses(name):
        pen.ellipse([edge * _FINE for edge in ellipse], 255)
    small = canvas.resize((_SIDE, _SIDE), Image.Resampling.BOX)
    return torch.from_numpy(np.asarray(small, np.float32) / 255)


def _ellipses(name: str) -> tuple[tuple[int, int, int, int], ...]:
    if name == "dots":
        return tuple((x - _DOT, y - _DOT, x + _DOT, y + _DOT) for x, y in _DOTS)
    return {"mouth": _MOUTH, "eyes": _EYES, "face": _FACE}.get(name, ())


NODES = [HSpaceDemoPhoto]
