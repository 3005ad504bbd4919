"""Draw with Pillow in the units of the finished picture: pen, letters, colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
PAPER = (255, 255, 255)
INK = (28, 32, 40)
SOFT = (112, 120, 132)
GRID = (228, 231, 236)
GAIN = (37, 99, 235)
LEAK = (245, 130, 32)
CURVE = (15, 118, 110)
FINE = 2  # everything is drawn at this many times the size, then averaged: smooth edges and text


class Pen:
    """Draws in the units of the finished picture."""

    def __init__(self, draw: ImageDraw.ImageDraw):
        self.draw = draw

    def text(self, at: tuple[float, float], text: str, colour: tuple[int, int, int], size: int, anchor: str) -> None:
        """Write one line."""
        self.draw.text((at[0] * FINE, at[1] * FINE), text, colour, font(size * FINE), anchor=anchor)

    def line(self, points: Sequence[tuple[float, float]], colour: tuple[int, int, int], width: float) -> None:
        """Draw a line through points."""
        self.draw.line([(x * FINE, y * FINE) for x, y in points], colour, round(width * FINE), joint="curve")

    def title(self, at: tuple[float, float], text: str, size: int, width: float) -> None:
        """Write one line, cut to a width."""
        self.text(at, fit(text, font(size * FINE), width * FINE), INK, size, "lm")

    def bar(self, box: tuple[float, float, float, float], colour: tuple[int, int, int]) -> None:
        """Fill a rectangle."""
        self.draw.rectangle([round(v * FINE) for v in box], colour)

    def dot(self, at: tuple[float, float], radius: float, colour: tuple[int, int, int], hollow: bool = False) -> None:
        """Draw a disc, or a ring."""
        x = at[0] * FINE
        y = at[1] * FINE
        r = radius * FINE
        self.draw.ellipse((x - r, y - r, x + r, y + r), PAPER if hollow else colour, colour, round(1.2 * FINE))

    def legend(self, at: tuple[float, float], entries: Sequence[tuple[str, tuple[int, int, int]]]) -> None:
        """Write names behind squares of their colours, in one row."""
        x, y = at
        for name, colour in entries:
            self.bar((x, y - 6, x + 12, y + 6), colour)
            self.text((x + 19, y), name, INK, 13, "lm")
            x += 19 + font(13 * FINE).getlength(name) / FINE + 24

    def axes(self, box: tuple[float, float, float, float], largest: float) -> Axes:
        """Draw grid lines and their numbers, from 0 to a round number above ``largest``.

        Args:
            box: left, top, right and bottom of the grid.
            largest: of the values.

        Returns:
            the places of values on it.
        """
        step = round_up(largest / 4) if largest > 0 else 0.25
        ticks = max(1, math.ceil(largest / step - 1e-9)) if largest > 0 else 4
        axes = Axes(*box, high=ticks * step)
        for i in range(ticks + 1):
            y = axes.bottom - i / ticks * axes.height
            number = f"{i * step:.6g}" if step >= 1e-4 else f"{i * step:.0e}"
            self.line([(axes.left, y), (axes.right, y)], GRID if i else SOFT, 1)
            self.text((axes.left - 8, y), number, SOFT, 12, "rm")
        return axes


@dataclass(frozen=True)
class Axes:
    """A rectangle that values are drawn in.

    Attributes:
        left, top, right, bottom: its edges.
        high: the value at its top; 0 is at its bottom.
    """

    left: float
    top: float
    right: float
    bottom: float
    high: float

    @property
    def width(self) -> float:
        """From left to right."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """From top to bottom."""
        return self.bottom - self.top

    @property
    def middle(self) -> float:
        """Halfway from left to right."""
        return (self.left + self.right) / 2

    def x(self, share: float) -> float:
        """Find the place at a share of the width."""
        return self.left + share * self.width

    def column(self, i: int, count: int) -> float:
        """Find the middle of column ``i`` of ``count``."""
        return self.x((i + 0.5) / count)

    def y(self, value: float) -> float:
        """Find the height of a value."""
        return self.bottom - value / self.high * self.height


def round_up(value: float) -> float:
    """Round up to the next of 1, 2, 2.5, 5 times a power of ten at or above ``value``."""
    power = 10.0 ** math.floor(math.log10(max(value, 1e-12)))
    nice = next(f * power for f in (1, 2, 2.5, 5, 10) if f * power >= value * (1 - 1e-9))
    return max(1, round(nice)) if value >= 1 and nice == int(nice) else nice


def short(value: float) -> str:
    """Write a number in three digits."""
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def font(size: int) -> Font:
    """Load the font that Pillow brings, in pixels."""
    return ImageFont.load_default(size)


def fit(text: str, face: Font, width: float) -> str:
    """Make one line of ``text``, cut with an ellipsis if it is wider than ``width`` pixels."""
    text = " ".join(text.split())
    if face.getlength(text) <= width:
        return text
    while text and face.getlength(text + "...") > width:
        text = text[:-1]
    return text.rstrip() + "..."


def to_image(image: Image.Image) -> Tensor:
    """Turn a drawing into an IMAGE `[1 h w 3]` in 0..1."""
    return torch.from_numpy(np.asarray(image, np.float32) / 255)[None]


def blank(width: int, height: int) -> tuple[Image.Image, Pen]:
    """Make an empty drawing of a finished size in pixels, and its pen."""
    image = Image.new("RGB", (width * FINE, height * FINE), PAPER)
    return image, Pen(ImageDraw.Draw(image))


def finish(image: Image.Image) -> Tensor:
    """Average a drawing of :func:`blank` down to its finished size, as IMAGE `[1 h w 3]` in 0..1."""
    size = image.width // FINE, image.height // FINE
    return to_image(image.resize(size, Image.Resampling.BOX))


def with_notes(sheet: Tensor, notes: Sequence[str], size: int = 13) -> Tensor:
    """Write lines of text below a drawing `[1 H W 3]` in 0..1, broken where it ends; the drawing itself without any."""
    face = font(size)
    wide = sheet.shape[2]
    lines: list[str] = []
    for note in notes:
        lines += wrapped(note, face, wide - 2 * size)
    if not lines:
        return sheet
    pitch = round(1.35 * size)
    high = pitch * len(lines) + size
    band = Image.new("RGB", (wide, high), PAPER)
    draw = ImageDraw.Draw(band)
    for i, line in enumerate(lines):
        draw.text((size, i * pitch), line, INK, face)
    return torch.cat([sheet.cpu(), to_image(band)], 1)


def wrapped(text: str, face: Font, width: float) -> list[str]:
    """Break a text into lines no wider than ``width`` pixels; a longer word is cut with an ellipsis."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and face.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(fit(word, face, width))
    return lines
