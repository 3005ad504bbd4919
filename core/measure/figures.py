"""A few figures beneath a picture, as letters of the picture: for editors that show pictures and no tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from .drawing import FINE, INK, PAPER, SOFT, Pen, to_image

Figures = Sequence[tuple[str, str]]
_SIZE, _LINE, _EDGE = 20, 30, 16  # pixels: letters, from line to line, margin


def add_figures(picture: Tensor, columns: Sequence[Figures]) -> Tensor:
    """Write columns of names and values beneath a picture.

    Args:
        picture: `[1 h w 3]` in 0..1.
        columns: each of (name, value) pairs, one a line; columns may differ in length, empty ones take no room.

    Returns:
        `[1 h' w 3]` in 0..1 on the CPU; the picture itself if there is nothing to write.
    """
    columns = [column for column in columns if column]
    if not columns:
        return picture
    width, height = picture.shape[2], _LINE * max(len(column) for column in columns) + _EDGE
    drawing = Image.new("RGB", (width * FINE, height * FINE), PAPER)
    pen, share = Pen(ImageDraw.Draw(drawing)), width / len(columns)
    for place, column in enumerate(columns):
        for row, (name, value) in enumerate(column):
            y = _LINE * (row + 0.5)
            pen.text((place * share + _EDGE, y), name, SOFT, _SIZE, "lm")
            pen.text(((place + 1) * share - _EDGE, y), value, INK, _SIZE, "rm")
    small = drawing.resize((width, height), Image.Resampling.BOX)
    return torch.cat([picture.cpu(), to_image(Image.fromarray(np.asarray(small)))], 1)
