"""Draw anti-aliased shapes on a canvas.

Signed distances in pixels become coverage, and every feature paints its own window only.

Coordinates are face units: x to the right, y down, the head about one unit wide, the picture a little more than two.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# framing: face units -> -1..1
ZOOM = 1.14
DOWN = 0.055


class Window:
    """Part of the canvas: rows and columns, and the coordinates of their pixels, x `[1 1 w]` and y `[1 h 1]`."""

    def __init__(self, rows: slice, columns: slice, x: Tensor, y: Tensor):
        self.rows = rows
        self.columns = columns
        self.x = x
        self.y = y


class Canvas:
    """``n`` square pictures under construction, and the coverage of each visible part if ``masks``.

    Args:
        n: number of pictures.
        side: pixels of a side.
        masks: keep the parts.
        device: where to draw.
    """

    def __init__(self, n: int, side: int, masks: bool, device: torch.device):
        self.n = n
        self.side = side
        self.device = device
        self.pixel = 2.0 / side / ZOOM
        c = (torch.arange(side, device=device) + 0.5) * self.pixel - 1 / ZOOM
        self._x = c[None, None, :]
        self._y = c[None, :, None] - DOWN
        self.image = torch.empty(n, 3, side, side, device=device)
        self.parts: dict[str, Tensor] | None = {} if masks else None

    def window(self, top: float, bottom: float, left: float = -1.0, right: float = 1.0) -> Window:
        """Select the pixels that a feature within these bounds can reach."""

        def reach(low: float, high: float, shift: float) -> slice:
            low = low + shift + 1 / ZOOM
            high = high + shift + 1 / ZOOM
            return slice(max(0, int(low / self.pixel) - 1), min(self.side, math.ceil(high / self.pixel) + 1))

        rows = reach(top, bottom, DOWN)
        columns = reach(left, right, 0.0)
        return Window(rows, columns, self._x[:, :, columns], self._y[:, rows, :])

    def cover(self, distance: Tensor) -> Tensor:
        """Turn a signed distance in face units into coverage in 0..1."""
        return (0.5 - distance / self.pixel).clamp_(0, 1)

    def paint(self, window: Window, cover: Tensor, colour: Tensor, part: str | None = None) -> None:
        """Blend ``colour`` `[n 3]` or `[n 3 h w]` in by ``cover`` `[n h w]`.

        With a part name, what lay there is hidden from its mask.
        """
        place = self.image[:, :, window.rows, window.columns]
        place += ((colour[:, :, None, None] if colour.dim() == 2 else colour) - place) * cover[:, None]
        if self.parts is None or part is None:
            return
        for name, mask in self.parts.items():
            if name != part:
                mask[:, window.rows, window.columns] *= 1 - cover
        mask = self.parts.setdefault(part, torch.zeros(self.n, self.side, self.side, device=self.device))
        spot = mask[:, window.rows, window.columns]
        mask[:, window.rows, window.columns] = spot + (1 - spot) * cover


def ellipse(x: Tensor, y: Tensor, rx: Tensor | float, ry: Tensor | float) -> Tensor:
    """Approximate the signed distance to an axis-aligned ellipse with radii ``rx, ry``, negative inside."""
    ax = x / rx
    ay = y / ry
    k = (ax * ax + ay * ay).sqrt()
    slope = ((ax / rx) ** 2 + (ay / ry) ** 2).sqrt().clamp_min(1e-4)
    return k * (k - 1) / slope


def rounded_box(x: Tensor, y: Tensor, half_width: Tensor | float, half_height: Tensor | float, radius: float) -> Tensor:
    """Measure the signed distance to a box with rounded corners, negative inside."""
    qx = x.abs() - (half_width - radius)
    qy = y.abs() - (half_height - radius)
    return (qx.clamp_min(0) ** 2 + qy.clamp_min(0) ** 2).sqrt() + torch.maximum(qx, qy).clamp_max(0) - radius


def table(rows: Tensor, t: Tensor) -> Tensor:
    """Interpolate linearly in the rows of a colour table `[r 3]` at ``t`` `[n]` in 0..1 -> `[n 3]`."""
    place = t.clamp(0, 1) * (len(rows) - 1)
    low = place.floor().clamp(max=len(rows) - 2).long()
    return torch.lerp(rows[low], rows[low + 1], (place - low)[:, None])


def from_hue(hue: Tensor, saturation: float, value: float) -> Tensor:
    """Convert ``hue`` `[n]` in 0..1, with saturation and value, to RGB `[n 3]`."""
    k = (hue.new_tensor([5.0, 3.0, 1.0])[None] + hue[:, None] * 6) % 6
    return value * (1 - saturation * torch.minimum(k, 4 - k).clamp(0, 1))
