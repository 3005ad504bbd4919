"""A few figures beneath a picture, as letters of the picture: for editors that show pictures and no tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from .drawing import FINE, INK, PAPER, SOFT, Pen, to_image

Figures = Sequence[tuple[str, str]]
_SMALLEST = 12  # pixels of a letter
_SHARE = 40  # letters of that height in the width of the picture


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
    width = picture.shape[2]
    letter = max(_SMALLEST, width // _SHARE)
    line, edge = letter * 3 // 2, letter * 4 // 5
    height = line * max(len(column) for column in columns) + edge
    drawing = Image.new("RGB", (width * FINE, height * FINE), PAPER)
    pen, share = Pen(ImageDraw.Draw(drawing)), width / len(columns)
    for place, column in enumerate(columns):
        for row, (name, value) in enumerate(column):
            y = line * (row + 0.5)
            pen.text((place * share + edge, y), name, SOFT, letter, "lm")
            pen.text(((place + 1) * share - edge, y), value, INK, letter, "rm")
    small = drawing.resize((width, height), Image.Resampling.BOX)
    return torch.cat([picture.cpu(), to_image(Image.fromarray(np.asarray(small)))], 1)
