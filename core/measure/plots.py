"""Pictures of results, drawn with Pillow alone: the spectrum of a discovery and labelled contact sheets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

PAPER, INK, SOFT, GRID = (255, 255, 255), (28, 32, 40), (112, 120, 132), (228, 231, 236)
GAIN, LEAK, CURVE = (37, 99, 235), (245, 130, 32), (15, 118, 110)
_FINE = 2  # everything is drawn at this many times the size, then averaged: smooth edges and text
_MAX_WIDTH = 2400
_CELL = 144  # pixels; smaller pictures are enlarged to about this


def strip(rows: Sequence[tuple[str, Sequence[Tensor]]], column_labels: Sequence[str] = (), scale: float | None = None) -> Tensor:
    """A labelled contact sheet.

    Args:
        rows: (label, pictures `[3 h w]` or `[1 h w]` in -1..1), all pictures of one size; rows may differ in length. A label may have
            several lines; those after the first are set smaller.
        column_labels: written above the columns; may be empty or shorter than the rows.
        scale: enlargement of the pictures; default: to about 144 pixels, and never a sheet wider than 2400.

    Returns:
        `[1 H W 3]` in 0..1 on the CPU.

    Raises:
        ValueError: no picture, pictures of different sizes, or a scale that is not positive.
    """
    pictures = [p for _, row in rows for p in row]
    if not pictures:
        raise ValueError("the sheet has no picture; give at least one row with one picture")
    if any(p.dim() != 3 or p.shape[0] not in (1, 3) or p.shape[1:] != pictures[0].shape[1:] for p in pictures):
        raise ValueError(f"all pictures of a sheet must be [3 h w] of one size, got {sorted({tuple(p.shape) for p in pictures})[:4]}")
    if scale is not None and not 0 < scale < math.inf:
        raise ValueError(f"scale must be above 0, got {scale}; leave it out to fit")
    height, width = pictures[0].shape[1:]
    columns = max(len(row) for _, row in rows)
    if scale is None:
        scale = max(1, math.ceil(_CELL / max(width, height)))
        scale = min(scale, (_MAX_WIDTH - 8 * columns) / (columns * width))
    w, h = max(1, round(width * scale)), max(1, round(height * scale))
    size = max(11, min(22, round(w / 9)))
    font, gap, pad = _font(size), max(4, w // 32), max(12, size)
    small = _font(max(10, round(0.7 * size)))
    labels = [[_fit(line, small if n else font, 14 * size) for n, line in enumerate(label.split("\n"))] for label, _ in rows]
    widths = [small.getlength(line) if n else font.getlength(line) for label in labels for n, line in enumerate(label)]
    heads = [_fit(label, font, w + gap) for label in list(column_labels)[:columns]]
    left = pad + (round(max(widths)) + pad if max(widths, default=0) else 0)
    top = pad + (round(1.25 * size) + gap if any(heads) else 0)
    right, bottom = left + columns * (w + gap) - gap + pad, top + len(rows) * (h + gap) - gap + pad
    canvas = np.empty((bottom, right, 3), np.float32)
    canvas[:] = np.array(PAPER, np.float32) / 255
    for r, (_, row) in enumerate(rows):
        for c, picture in enumerate(row):
            y, x = top + r * (h + gap), left + c * (w + gap)
            canvas[y : y + h, x : x + w] = _resized(picture, h, w)
    image = Image.fromarray((canvas * 255).round().astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for r, label in enumerate(labels):
        y = top + r * (h + gap) + (h - 1.1 * size * (len(label) - 1)) / 2
        for n, line in enumerate(label):
            draw.text((left - pad, y + 1.1 * size * n), line, SOFT if n else INK, small if n else font, anchor="rm")
    for c, head in enumerate(heads):
        draw.text((left + c * (w + gap) + w / 2, top - gap), head, SOFT, font, anchor="ms")
    return _tensor(image)


def spectrum_plot(spectrum: Tensor, gain: Tensor, leak: Tensor, title: str = "") -> Tensor:
    """Gain inside and leak outside the mask of every direction as bars, and the singular values as a curve.

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
    g, k, s = (v.detach().double().cpu().flatten().tolist() for v in (gain, leak, spectrum))
    if len(g) != len(k) or not g:
        raise ValueError(f"gain and leak must be two rows of one length, got {len(g)} and {len(k)} numbers")
    if not all(math.isfinite(v) and v >= 0 for v in (*g, *k, *s)):
        raise ValueError("gain, leak and spectrum must be finite numbers of 0 or more; discover the directions again")
    wide = 960 if s else 640
    image = Image.new("RGB", (wide * _FINE, 432 * _FINE), PAPER)
    pen = _Pen(ImageDraw.Draw(image))
    pen.text((32, 30), _fit(title, _font(17 * _FINE), (wide - 64) * _FINE), INK, 17, "lm")
    split = 0.6 if s else 1.0
    _bars(pen, (72, 100, round(wide * split) - 28, 368), g, k)
    if s:
        _curve(pen, (round(wide * split) + 56, 100, wide - 32, 368), s, len(g))
    return _tensor(image.resize((wide, 432), Image.Resampling.BOX))


def loss_plot(losses: Sequence[float], total: int, title: str = "", smooth: float = 0.95) -> Tensor:
    """The losses of a training run, thin, and their running mean.

    Args:
        losses: of every step so far, finite.
        total: steps of the whole run, the width of the axis.
        title: one line.
        smooth: share of the running mean that stays at every step.

    Returns:
        `[1 288 640 3]` in 0..1 on the CPU.
    """
    image = Image.new("RGB", (640 * _FINE, 288 * _FINE), PAPER)
    pen, box = _Pen(ImageDraw.Draw(image)), (72, 64, 608, 236)
    pen.text((32, 30), _fit(title, _font(15 * _FINE), 576 * _FINE), INK, 15, "lm")
    left, top, right, bottom = box
    every = max(1, len(losses) // 1000)  # more points than that cannot be told apart
    high = pen.axis(box, max(losses, default=1.0))
    mean, raw, slow = math.nan, [], []
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
    return _tensor(image.resize((640, 288), Image.Resampling.BOX))


def levels_plot(sigmas: Tensor, predicted: Tensor, noisy: Tensor, edit: float, boost: float, title: str = "") -> Tensor:
    """Distances over the noise levels, and the two levels that follow from them.

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
    image = Image.new("RGB", (640 * _FINE, 288 * _FINE), PAPER)
    pen, box = _Pen(ImageDraw.Draw(image)), (72, 92, 608, 232)
    pen.text((32, 30), _fit(f"distance from the picture: {title}", _font(15 * _FINE), 576 * _FINE), INK, 15, "lm")
    pen.legend((left := box[0], 62), [("prediction", GAIN), ("noisy picture", LEAK)])
    top, right, bottom = box[1:]
    high = pen.axis(box, max(float(predicted.max()), float(noisy.max())))
    levels = sigmas.double().cpu().tolist()

    def across(sigma: float) -> float:
        low, far = math.log(levels[-1]), math.log(levels[0])
        return left + (math.log(sigma) - low) / max(far - low, 1e-9) * (right - left)

    for level, name, colour in ((edit, "edit above", GAIN), (boost, "noise below", LEAK)):
        if level:
            pen.line([(across(level), top), (across(level), bottom)], colour, 1)
            pen.text((across(level), bottom + 22), f"{name} {level:.2g}", colour, 12, "mt")
    for values, colour in ((predicted, GAIN), (noisy, LEAK)):
        pen.line([(across(s), bottom - v / high * (bottom - top)) for s, v in zip(levels, values.tolist(), strict=True)], colour, 2)
    for level in (levels[-1], levels[0]):
        pen.text((across(level), bottom + 6), f"{level:.2g}", SOFT, 12, "mt")
    pen.text(((left + right) / 2, bottom + 40), "sigma, logarithmic", SOFT, 12, "mt")
    return _tensor(image.resize((640, 288), Image.Resampling.BOX))


def lines_plot(columns: Sequence[str], panels: Mapping[str, Mapping[str, Sequence[float]]], across: str = "") -> Tensor:
    """Panels side by side, each with up to three lines over the same columns.

    Args:
        columns: what stands below the points.
        panels: title -> (name of a line -> values of 0 or more, one a column).
        across: what the columns are.

    Returns:
        `[1 288 w 3]` in 0..1 on the CPU, 400 a panel.
    """
    wide = 400 * len(panels)
    image = Image.new("RGB", (wide * _FINE, 288 * _FINE), PAPER)
    pen = _Pen(ImageDraw.Draw(image))
    for n, (title, lines) in enumerate(panels.items()):
        box = (left, top, right, bottom) = (400 * n + 72, 92, 400 * n + 376, 228)
        pen.text((400 * n + 28, 30), _fit(title, _font(15 * _FINE), 350 * _FINE), INK, 15, "lm")
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
    return _tensor(image.resize((wide, 288), Image.Resampling.BOX))


def _bars(pen: _Pen, box: tuple[int, int, int, int], gain: list[float], leak: list[float]) -> None:
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
                pen.text((x + bar / 2, y - 4), _short(value), INK, 11, "mb")
        if i % every == 0:
            pen.text((middle, bottom + 8), str(i + 1), INK, 13, "mt")
    pen.text(((left + right) / 2, bottom + 30), "direction", SOFT, 13, "mt")


def _curve(pen: _Pen, box: tuple[int, int, int, int], values: list[float], k: int) -> None:
    left, top, right, bottom = box
    pen.legend((left, 66), [("singular values", CURVE)])
    high = pen.axis(box, max(values))
    pitch = (right - left) / max(len(values), 2)
    points = [(left + (i + 0.5) * pitch, bottom - v / high * (bottom - top)) for i, v in enumerate(values)]
    pen.line(points, CURVE, 2)
    radius = max(1.2, min(4.0, pitch / 4))
    for i, point in enumerate(points):
        pen.dot(point, radius if i >= k else radius + 1, CURVE, hollow=i >= k)
    every = _nice(math.ceil(len(values) * 26 / (right - left)))
    for i in range(len(values)):
        if (i + 1) % every == 0 or i == 0:
            pen.text((points[i][0], bottom + 8), str(i + 1), INK, 13, "mt")
    pen.text(((left + right) / 2, bottom + 30), "number (filled: kept)", SOFT, 13, "mt")


class _Pen:
    """Draws in the units of the finished picture."""

    def __init__(self, draw: ImageDraw.ImageDraw):
        self.draw = draw

    def text(self, at: tuple[float, float], text: str, colour: tuple[int, int, int], size: int, anchor: str) -> None:
        self.draw.text((at[0] * _FINE, at[1] * _FINE), text, colour, _font(size * _FINE), anchor=anchor)

    def line(self, points: Sequence[tuple[float, float]], colour: tuple[int, int, int], width: float) -> None:
        self.draw.line([(x * _FINE, y * _FINE) for x, y in points], colour, round(width * _FINE), joint="curve")

    def bar(self, box: tuple[float, float, float, float], colour: tuple[int, int, int]) -> None:
        self.draw.rectangle([round(v * _FINE) for v in box], colour)

    def dot(self, at: tuple[float, float], radius: float, colour: tuple[int, int, int], hollow: bool = False) -> None:
        x, y, r = at[0] * _FINE, at[1] * _FINE, radius * _FINE
        self.draw.ellipse((x - r, y - r, x + r, y + r), PAPER if hollow else colour, colour, round(1.2 * _FINE))

    def legend(self, at: tuple[float, float], entries: Sequence[tuple[str, tuple[int, int, int]]]) -> None:
        x, y = at
        for name, colour in entries:
            self.bar((x, y - 6, x + 12, y + 6), colour)
            self.text((x + 19, y), name, INK, 13, "lm")
            x += 19 + _font(13 * _FINE).getlength(name) / _FINE + 24

    def axis(self, box: tuple[int, int, int, int], largest: float) -> float:
        """Grid lines and their numbers, from 0 to a round number above ``largest``, which is returned."""
        left, top, right, bottom = box
        step = _nice(largest / 4) if largest > 0 else 0.25
        ticks = max(1, math.ceil(largest / step - 1e-9)) if largest > 0 else 4
        for i in range(ticks + 1):
            y = bottom - i / ticks * (bottom - top)
            self.line([(left, y), (right, y)], GRID if i else SOFT, 1)
            self.text((left - 8, y), f"{i * step:.6g}" if step >= 1e-4 else f"{i * step:.0e}", SOFT, 12, "rm")
        return ticks * step


def _nice(value: float) -> float:
    """The next of 1, 2, 2.5, 5 times a power of ten at or above ``value``."""
    power = 10.0 ** math.floor(math.log10(max(value, 1e-12)))
    nice = next(f * power for f in (1, 2, 2.5, 5, 10) if f * power >= value * (1 - 1e-9))
    return max(1, round(nice)) if value >= 1 and nice == int(nice) else nice


def _short(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _fit(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    """One line of ``text``, cut with an ellipsis if it is wider than ``width``."""
    text = " ".join(text.split())
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text.rstrip() + "..."


def _resized(picture: Tensor, h: int, w: int) -> np.ndarray:
    """A picture `[c h w]` in -1..1 as `[h w 3]` in 0..1."""
    x = picture.detach().float().cpu().nan_to_num(0.0).clamp(-1, 1)[None]
    if x.shape[-2:] != (h, w):
        x = F.interpolate(x, (h, w), mode="bicubic", align_corners=False, antialias=True)
    return ((x[0].clamp(-1, 1) + 1) / 2).expand(3, -1, -1).permute(1, 2, 0).numpy()


def _tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(image, np.float32) / 255)[None]
