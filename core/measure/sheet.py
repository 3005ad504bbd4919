"""Labelled contact sheets of pictures, drawn with Pillow alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F

from .drawing import INK, PAPER, SOFT, Font, fit, font, to_image

_MAX_WIDTH = 2400
_CELL = 144  # pixels; smaller pictures are enlarged to about this


def strip(
    rows: Sequence[tuple[str, Sequence[Tensor]]], column_labels: Sequence[str] = (), scale: float | None = None
) -> Tensor:
    """Draw a labelled contact sheet.

    Args:
        rows: (label, pictures `[3 h w]` or `[1 h w]` in -1..1), all pictures of one size; rows may differ in length. A
            label may have several lines; those after the first are set smaller.
        column_labels: written above the columns; may be empty or shorter than the rows.
        scale: enlargement of the pictures; default: to about 144 pixels, and never a sheet wider than 2400.

    Returns:
        `[1 H W 3]` in 0..1 on the CPU.

    Raises:
        ValueError: no picture, pictures of different sizes, or a scale that is not positive.
    """
    pictures = [picture for _, row in rows for picture in row]
    _check_sheet(pictures, scale)
    layout = _sheet_layout(rows, column_labels, scale)
    canvas = np.empty((layout.bottom, layout.right, 3), np.float32)
    canvas[:] = np.array(PAPER, np.float32) / 255
    for r, (_, row) in enumerate(rows):
        for c, picture in enumerate(row):
            x, y = layout.corner(r, c)
            cell = _resized(picture, layout.height, layout.width)
            canvas[y : y + layout.height, x : x + layout.width] = cell
    image = Image.fromarray((canvas * 255).round().astype(np.uint8))
    _write_labels(ImageDraw.Draw(image), layout)
    return to_image(image)


@dataclass(frozen=True)
class _Sheet:
    """Where everything of a contact sheet lies, in pixels.

    Attributes:
        width, height: of one picture.
        gap, pad: between pictures, and around everything.
        left, top: of the first picture.
        right, bottom: of the sheet.
        size: of the letters.
        labels: lines of each row's label.
        heads: what stands above the columns.
    """

    width: int
    height: int
    gap: int
    pad: int
    left: int
    top: int
    right: int
    bottom: int
    size: int
    labels: list[list[str]]
    heads: list[str]

    def corner(self, row: int, column: int) -> tuple[int, int]:
        """Locate left and top of one picture."""
        x = self.left + column * (self.width + self.gap)
        y = self.top + row * (self.height + self.gap)
        return x, y


def _check_sheet(pictures: Sequence[Tensor], scale: float | None) -> None:
    if not pictures:
        raise ValueError("the sheet has no picture; give at least one row with one picture")
    size = pictures[0].shape[1:]
    if any(p.dim() != 3 or p.shape[0] not in (1, 3) or p.shape[1:] != size for p in pictures):
        raise ValueError(
            f"all pictures of a sheet must be [3 h w] of one size, got {sorted({tuple(p.shape) for p in pictures})[:4]}"
        )
    if scale is not None and not 0 < scale < math.inf:
        raise ValueError(f"scale must be above 0, got {scale}; leave it out to fit")


def _sheet_layout(
    rows: Sequence[tuple[str, Sequence[Tensor]]], column_labels: Sequence[str], scale: float | None
) -> _Sheet:
    columns = max(len(row) for _, row in rows)
    first = next(picture for _, row in rows for picture in row)
    height, width = first.shape[1:]
    if scale is None:
        scale = max(1, math.ceil(_CELL / max(width, height)))
        scale = min(scale, (_MAX_WIDTH - 8 * columns) / (columns * width))
    w = max(1, round(width * scale))
    h = max(1, round(height * scale))
    size = max(11, min(22, round(w / 9)))
    gap = max(4, w // 32)
    pad = max(12, size)
    fonts = _label_fonts(size)
    labels = []
    widest = 0.0
    for label, _ in rows:
        lines = [fit(line, fonts[n > 0], 14 * size) for n, line in enumerate(label.split("\n"))]
        widest = max(widest, *(fonts[n > 0].getlength(line) for n, line in enumerate(lines)))
        labels.append(lines)
    heads = [fit(label, fonts[0], w + gap) for label in list(column_labels)[:columns]]
    left = pad + (round(widest) + pad if widest else 0)
    top = pad + (round(1.25 * size) + gap if any(heads) else 0)
    return _Sheet(
        width=w,
        height=h,
        gap=gap,
        pad=pad,
        left=left,
        top=top,
        right=left + columns * (w + gap) - gap + pad,
        bottom=top + len(rows) * (h + gap) - gap + pad,
        size=size,
        labels=labels,
        heads=heads,
    )


def _label_fonts(size: int) -> tuple[Font, Font]:
    """Choose the font of a label's first line, and that of the others."""
    return font(size), font(max(10, round(0.7 * size)))


def _write_labels(draw: ImageDraw.ImageDraw, layout: _Sheet) -> None:
    fonts = _label_fonts(layout.size)
    pitch = 1.1 * layout.size
    for r, lines in enumerate(layout.labels):
        _, top = layout.corner(r, 0)
        y = top + (layout.height - pitch * (len(lines) - 1)) / 2
        for n, line in enumerate(lines):
            colour = SOFT if n else INK
            draw.text((layout.left - layout.pad, y + pitch * n), line, colour, fonts[n > 0], anchor="rm")
    for c, head in enumerate(layout.heads):
        x, _ = layout.corner(0, c)
        middle = x + layout.width / 2
        draw.text((middle, layout.top - layout.gap), head, SOFT, fonts[0], anchor="ms")


def _resized(picture: Tensor, h: int, w: int) -> np.ndarray:
    """Resize a picture `[c h w]` in -1..1 to `[h w 3]` in 0..1."""
    x = picture.detach().float().cpu().nan_to_num(0.0).clamp(-1, 1)[None]
    if x.shape[-2:] != (h, w):
        x = F.interpolate(x, (h, w), mode="bicubic", align_corners=False, antialias=True)
    unit = (x[0].clamp(-1, 1) + 1) / 2
    return unit.expand(3, -1, -1).permute(1, 2, 0).numpy()
