"""Plots of results, drawn with Pillow alone: spectra, losses, distances over the noise levels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import Tensor

from .drawing import CURVE, GAIN, INK, LEAK, SOFT, Pen, blank, finish, round_up, short

_PLOT = (640, 288)
"""Width and height of a plot of one panel, in pixels."""
_PANEL = 400
"""Width of one of several panels, in pixels."""
_PALE = (190, 205, 235)


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
    image, pen = blank(wide, 432)
    pen.title((32, 30), title, 17, wide - 64)
    split = 0.6 if s else 1.0
    _bars(pen, (72, 100, round(wide * split) - 28, 368), g, k)
    if s:
        _curve(pen, (round(wide * split) + 56, 100, wide - 32, 368), s, len(g))
    return finish(image)


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
    image, pen = blank(*_PLOT)
    pen.title((32, 30), title, 15, 576)
    axes = pen.axes((72, 64, 608, 236), max(losses, default=1.0))
    every = max(1, len(losses) // 1000)  # more points than that cannot be told apart
    mean = math.nan
    raw = []
    slow = []
    for i, loss in enumerate(losses):
        mean = loss if i == 0 else smooth * mean + (1 - smooth) * loss
        if i % every == 0 or i == len(losses) - 1:
            x = axes.x((i + 1) / max(total, 1))
            raw.append((x, axes.y(max(loss, 0))))
            slow.append((x, axes.y(max(mean, 0))))
    if len(raw) > 1:
        pen.line(raw, _PALE, 1)
        pen.line(slow, GAIN, 2)
    pen.text((axes.middle, axes.bottom + 16), f"step {len(losses)} of {total}", SOFT, 13, "mt")
    return finish(image)


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
    image, pen = blank(*_PLOT)
    pen.title((32, 30), f"distance from the picture: {title}", 15, 576)
    pen.legend((72, 62), [("prediction", GAIN), ("noisy picture", LEAK)])
    axes = pen.axes((72, 92, 608, 232), max(float(predicted.max()), float(noisy.max())))
    levels = sigmas.cpu().double().tolist()
    low = math.log(levels[-1])
    span = max(math.log(levels[0]) - low, 1e-9)

    def across(sigma: float) -> float:
        return axes.x((math.log(sigma) - low) / span)

    for level, name, colour in ((edit, "edit above", GAIN), (boost, "noise below", LEAK)):
        if level:
            x = across(level)
            pen.line([(x, axes.top), (x, axes.bottom)], colour, 1)
            pen.text((x, axes.bottom + 22), f"{name} {level:.2g}", colour, 12, "mt")
    for values, colour in ((predicted, GAIN), (noisy, LEAK)):
        points = zip(levels, values.tolist(), strict=True)
        pen.line([(across(sigma), axes.y(value)) for sigma, value in points], colour, 2)
    for level in (levels[-1], levels[0]):
        pen.text((across(level), axes.bottom + 6), f"{level:.2g}", SOFT, 12, "mt")
    pen.text((axes.middle, axes.bottom + 40), "sigma, logarithmic", SOFT, 12, "mt")
    return finish(image)


def lines_plot(columns: Sequence[str], panels: Mapping[str, Mapping[str, Sequence[float]]], across: str = "") -> Tensor:
    """Draw panels side by side, each with up to three lines over the same columns.

    Args:
        columns: what stands below the points.
        panels: title -> (name of a line -> values of 0 or more, one a column).
        across: what the columns are.

    Returns:
        `[1 288 w 3]` in 0..1 on the CPU, 400 a panel.
    """
    image, pen = blank(_PANEL * len(panels), _PLOT[1])
    for n, (title, lines) in enumerate(panels.items()):
        _panel(pen, _PANEL * n, title, columns, lines, across)
    return finish(image)


def _panel(
    pen: Pen, start: int, title: str, columns: Sequence[str], lines: Mapping[str, Sequence[float]], across: str
) -> None:
    colours = list(zip(lines, (GAIN, LEAK, CURVE), strict=False))
    pen.title((start + 28, 30), title, 15, 350)
    pen.legend((start + 72, 64), colours)
    largest = max(value for values in lines.values() for value in values)
    axes = pen.axes((start + 72, 92, start + 376, 228), largest)
    places = [axes.column(i, len(columns)) for i in range(len(columns))]
    for name, colour in colours:
        points = [(x, axes.y(value)) for x, value in zip(places, lines[name], strict=True)]
        pen.line(points, colour, 2)
        for point in points:
            pen.dot(point, 3.5, colour)
    for x, label in zip(places, columns, strict=True):
        pen.text((x, axes.bottom + 8), label, INK, 13, "mt")
    pen.text((axes.middle, axes.bottom + 30), across, SOFT, 13, "mt")


def _bars(pen: Pen, box: tuple[int, int, int, int], gain: list[float], leak: list[float]) -> None:
    pen.legend((box[0], 66), [("gain inside the mask", GAIN), ("leak outside", LEAK)])
    axes = pen.axes(box, max(*gain, *leak))
    pitch = axes.width / len(gain)
    bar = min(30.0, 0.36 * pitch)
    every = max(1, math.ceil(22 / pitch))
    for i, (inside, outside) in enumerate(zip(gain, leak, strict=True)):
        middle = axes.column(i, len(gain))
        for value, colour, x in ((inside, GAIN, middle - bar), (outside, LEAK, middle)):
            y = axes.y(value)
            if value:
                pen.bar((x + 0.5, y, x + bar - 0.5, axes.bottom), colour)
            if bar >= 24:
                pen.text((x + bar / 2, y - 4), short(value), INK, 11, "mb")
        if i % every == 0:
            pen.text((middle, axes.bottom + 8), str(i + 1), INK, 13, "mt")
    pen.text((axes.middle, axes.bottom + 30), "direction", SOFT, 13, "mt")


def _curve(pen: Pen, box: tuple[int, int, int, int], values: list[float], k: int) -> None:
    pen.legend((box[0], 66), [("singular values", CURVE)])
    axes = pen.axes(box, max(values))
    columns = max(len(values), 2)
    points = [(axes.column(i, columns), axes.y(value)) for i, value in enumerate(values)]
    pen.line(points, CURVE, 2)
    radius = max(1.2, min(4.0, axes.width / columns / 4))
    for i, point in enumerate(points):
        dropped = i >= k
        pen.dot(point, radius if dropped else radius + 1, CURVE, hollow=dropped)
    every = round_up(math.ceil(len(values) * 26 / axes.width))
    for i, (x, _) in enumerate(points):
        if (i + 1) % every == 0 or i == 0:
            pen.text((x, axes.bottom + 8), str(i + 1), INK, 13, "mt")
    pen.text((axes.middle, axes.bottom + 30), "number (filled: kept)", SOFT, 13, "mt")
