"""Pictures of results, drawn with Pillow alone: the spectrum of a discovery and labelled contact sheets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F

from .drawing import CURVE, FINE, GAIN, INK, LEAK, PAPER, SOFT, Font, Pen, fit, font, round_up, short, to_image

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


def spectrum_plot(spectrum: Tensor, gain: Tensor, leak: Tensor, title: str = "") -> Tensor:
    """Draw gain inside and leak outside the mask of every direction as bars, the singular values as a curve.

    Args:
        spectrum: `[n]` singular values, largest first; may be empty.
        gain: `[k]`, response inside the mask per unit step in h.
        leak: `[k]`, response outside.
        title: one line.

    Returns:
        `[1 432 w 3]` in 0..1 on the CPU.

    Raises:
        ValueError: gain and leak are not two rows of one length, or any value is not a finite number >= 0.
    """
    g, k, s = (v.detach().cpu().double().flatten().tolist() for v in (gain, leak, spectrum))
    if len(g) != len(k) or not g:
        raise ValueError(f"gain and leak must be two rows of one length, got {len(g)} and {len(k)} numbers")
    if not all(math.isfinite(v) and v >= 0 for v in (*g, *k, *s)):
        raise ValueError("gain, leak and spectrum must be finite numbers of 0 or more; discover the directions again")
    wide = 960 if s else 640
    image = Image.new("RGB", (wide * FINE, 432 * FINE), PAPER)
    pen = Pen(ImageDraw.Draw(image))
    pen.text((32, 30), fit(title, font(17 * FINE), (wide - 64) * FINE), INK, 17, "lm")
    split = 0.6 if s else 1.0
    _bars(pen, (72, 100, round(wide * split) - 28, 368), g, k)
    if s:
        _curve(pen, (round(wide * split) + 56, 100, wide - 32, 368), s, len(g))
    return to_image(image.resize((wide, 432), Image.Resampling.BOX))


def loss_plot(losses: Sequence[float], total: int, title: str = "", smooth: float = 0.95) -> Tensor:
    """Draw the losses of a training run, thin, and their running mean.

    Args:
        losses: of every step so far, finite.
        total: steps of the whole run, the width of the axis.
        title: one line.
        smooth: share of the running mean that stays at every step.

    Returns:
        `[1 288 640 3]` in 0..1 on the CPU.
    """
    image = Image.new("RGB", (640 * FINE, 288 * FINE), PAPER)
    pen = Pen(ImageDraw.Draw(image))
    box = (72, 64, 608, 236)
    pen.text((32, 30), fit(title, font(15 * FINE), 576 * FINE), INK, 15, "lm")
    left, top, right, bottom = box
    every = max(1, len(losses) // 1000)  # more points than that cannot be told apart
    high = pen.axis(box, max(losses, default=1.0))
    mean = math.nan
    raw = []
    slow = []
    for i, loss in enumerate(losses):
        mean = loss if i == 0 else smooth * mean + (1 - smooth) * loss
        if i % every == 0 or i == len(losses) - 1:
            x = left + (i + 1) / max(total, 1) * (right - left)
            raw.append((x, bottom - max(loss, 0) / high * (bottom - top)))
            slow.append((x, bottom - max(mean, 0) / high * (bottom - top)))
    if len(raw) > 1:
        pen.line(raw, (190, 205, 235), 1)
        pen.line(slow, GAIN, 2)
    pen.text(((left + right) / 2, bottom + 16), f"step {len(losses)} of {total}", SOFT, 13, "mt")
    return to_image(image.resize((640, 288), Image.Resampling.BOX))


def levels_plot(sigmas: Tensor, predicted: Tensor, noisy: Tensor, edit: float, boost: float, title: str = "") -> Tensor:
    """Draw distances over the noise levels, and the two levels that follow from them.

    Args:
        sigmas: `[n]`, descending.
        predicted: `[n]`, distance of the prediction from the picture.
        noisy: `[n]`, distance of the noisy picture from it.
        edit: lowest level that is edited.
        boost: level from which noise is drawn; 0 for none.
        title: what the distance is.

    Returns:
        `[1 288 640 3]` in 0..1 on the CPU.
    """
    image = Image.new("RGB", (640 * FINE, 288 * FINE), PAPER)
    pen = Pen(ImageDraw.Draw(image))
    box = (72, 92, 608, 232)
    pen.text((32, 30), fit(f"distance from the picture: {title}", font(15 * FINE), 576 * FINE), INK, 15, "lm")
    pen.legend((left := box[0], 62), [("prediction", GAIN), ("noisy picture", LEAK)])
    top, right, bottom = box[1:]
    high = pen.axis(box, max(float(predicted.max()), float(noisy.max())))
    levels = sigmas.cpu().double().tolist()

    def across(sigma: float) -> float:
        low = math.log(levels[-1])
        far = math.log(levels[0])
        return left + (math.log(sigma) - low) / max(far - low, 1e-9) * (right - left)

    for level, name, colour in ((edit, "edit above", GAIN), (boost, "noise below", LEAK)):
        if level:
            pen.line([(across(level), top), (across(level), bottom)], colour, 1)
            pen.text((across(level), bottom + 22), f"{name} {level:.2g}", colour, 12, "mt")
    for values, colour in ((predicted, GAIN), (noisy, LEAK)):
        pen.line(
            [(across(s), bottom - v / high * (bottom - top)) for s, v in zip(levels, values.tolist(), strict=True)],
            colour,
            2,
        )
    for level in (levels[-1], levels[0]):
        pen.text((across(level), bottom + 6), f"{level:.2g}", SOFT, 12, "mt")
    pen.text(((left + right) / 2, bottom + 40), "sigma, logarithmic", SOFT, 12, "mt")
    return to_image(image.resize((640, 288), Image.Resampling.BOX))


def lines_plot(columns: Sequence[str], panels: Mapping[str, Mapping[str, Sequence[float]]], across: str = "") -> Tensor:
    """Draw panels side by side, each with up to three lines over the same columns.

    Args:
        columns: what stands below the points.
        panels: title -> (name of a line -> values of 0 or more, one a column).
        across: what the columns are.

    Returns:
        `[1 288 w 3]` in 0..1 on the CPU, 400 a panel.
    """
    wide = 400 * len(panels)
    image = Image.new("RGB", (wide * FINE, 288 * FINE), PAPER)
    pen = Pen(ImageDraw.Draw(image))
    for n, (title, lines) in enumerate(panels.items()):
        box = (left, top, right, bottom) = (400 * n + 72, 92, 400 * n + 376, 228)
        pen.text((400 * n + 28, 30), fit(title, font(15 * FINE), 350 * FINE), INK, 15, "lm")
        pen.legend((left, 64), list(zip(lines, (GAIN, LEAK, CURVE), strict=False)))
        high = pen.axis(box, max(v for values in lines.values() for v in values))
        places = [left + (i + 0.5) * (right - left) / len(columns) for i in range(len(columns))]
        for values, colour in zip(lines.values(), (GAIN, LEAK, CURVE), strict=False):
            points = [(x, bottom - v / high * (bottom - top)) for x, v in zip(places, values, strict=True)]
            pen.line(points, colour, 2)
            for point in points:
                pen.dot(point, 3.5, colour)
        for x, label in zip(places, columns, strict=True):
            pen.text((x, bottom + 8), label, INK, 13, "mt")
        pen.text(((left + right) / 2, bottom + 30), across, SOFT, 13, "mt")
    return to_image(image.resize((wide, 288), Image.Resampling.BOX))


def _bars(pen: Pen, box: tuple[int, int, int, int], gain: list[float], leak: list[float]) -> None:
    left, top, right, bottom = box
    pen.legend((left, 66), [("gain inside the mask", GAIN), ("leak outside", LEAK)])
    high = pen.axis(box, max(*gain, *leak))
    pitch = (right - left) / len(gain)
    bar = min(30.0, 0.36 * pitch)
    every = max(1, math.ceil(22 / pitch))
    for i, pair in enumerate(zip(gain, leak, strict=True)):
        middle = left + (i + 0.5) * pitch
        for value, colour, x in ((pair[0], GAIN, middle - bar), (pair[1], LEAK, middle)):
            y = bottom - value / high * (bottom - top)
            if value:
                pen.bar((x + 0.5, y, x + bar - 0.5, bottom), colour)
            if bar >= 24:
                pen.text((x + bar / 2, y - 4), short(value), INK, 11, "mb")
        if i % every == 0:
            pen.text((middle, bottom + 8), str(i + 1), INK, 13, "mt")
    pen.text(((left + right) / 2, bottom + 30), "direction", SOFT, 13, "mt")


def _curve(pen: Pen, box: tuple[int, int, int, int], values: list[float], k: int) -> None:
    left, top, right, bottom = box
    pen.legend((left, 66), [("singular values", CURVE)])
    high = pen.axis(box, max(values))
    pitch = (right - left) / max(len(values), 2)
    points = [(left + (i + 0.5) * pitch, bottom - v / high * (bottom - top)) for i, v in enumerate(values)]
    pen.line(points, CURVE, 2)
    radius = max(1.2, min(4.0, pitch / 4))
    for i, point in enumerate(points):
        pen.dot(point, radius if i >= k else radius + 1, CURVE, hollow=i >= k)
    every = round_up(math.ceil(len(values) * 26 / (right - left)))
    for i in range(len(values)):
        if (i + 1) % every == 0 or i == 0:
            pen.text((points[i][0], bottom + 8), str(i + 1), INK, 13, "mt")
    pen.text(((left + right) / 2, bottom + 30), "number (filled: kept)", SOFT, 13, "mt")


def _resized(picture: Tensor, h: int, w: int) -> np.ndarray:
    """Resize a picture `[c h w]` in -1..1 to `[h w 3]` in 0..1."""
    x = picture.detach().float().cpu().nan_to_num(0.0).clamp(-1, 1)[None]
    if x.shape[-2:] != (h, w):
        x = F.interpolate(x, (h, w), mode="bicubic", align_corners=False, antialias=True)
    unit = (x[0].clamp(-1, 1) + 1) / 2
    return unit.expand(3, -1, -1).permute(1, 2, 0).numpy()
