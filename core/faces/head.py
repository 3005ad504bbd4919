"""The large shapes of a face: background, back hair, shirt and neck, ears and face, front hair."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .canvas import Canvas, ellipse, rounded_box
from .factors import Factors

TOP = -0.10  # centre of the hair's outline


@dataclass(frozen=True)
class Head:
    """What all features share. Lengths `[b]` in face units, colours `[b 3]`."""

    f: Factors
    half_width: Tensor
    x: Tensor
    features_x: Tensor
    eyes_x: Tensor
    skin: Tensor
    hair: Tensor
    iris: Tensor
    background: Tensor
    shirt: Tensor

    def colour(self, *rgb: float) -> Tensor:
        """Repeat one colour for all, `[b 3]`."""
        return self.x.new_tensor([rgb]).expand(len(self.x), 3)

    @property
    def hair_bottom(self) -> Tensor:
        """Say where the hair ends, `[b]`."""
        return 0.02 + 0.86 * self.f["hair_length"]


def wide(v: Tensor) -> Tensor:
    """Reshape `[b]` to `[b 1 1]`, for arithmetic with pixel coordinates."""
    return v[:, None, None]


def flat(colour: Tensor) -> Tensor:
    """Reshape `[b 3]` to `[b 3 1 1]`, for shading over pixels."""
    return colour[:, :, None, None]


def draw_back(canvas: Canvas, head: Head) -> None:
    """Draw the gradient of the background and the hair behind the head."""
    w = canvas.window(-1.2, 1.2, -1.2, 1.2)
    canvas.image[:] = flat(head.background) * (1.03 - 0.13 * w.y[:, None])
    if canvas.parts is not None:
        canvas.parts["background"] = torch.ones(canvas.n, canvas.side, canvas.side, device=canvas.device)
    x = w.x - wide(head.x)
    half = wide(head.half_width + 0.115)
    bottom = wide(head.hair_bottom)
    length = wide(head.f["hair_length"])
    crown = ellipse(x, w.y - TOP, half, 0.64)
    fall = rounded_box(x, w.y - (bottom + TOP) / 2, half - 0.005 + 0.03 * length, (bottom - TOP) / 2 + 0.06, 0.10)
    lit = 1 - 0.20 * wide(head.f["light"]) * (x / 0.6).clamp(-1, 1)
    colour = flat(head.hair) * (lit * (1 - 0.10 * (w.y + 0.2).clamp(0, 1)))[:, None]
    canvas.paint(w, canvas.cover(torch.minimum(crown, fall)), colour * 0.86, "hair")


def draw_shirt(canvas: Canvas, head: Head) -> None:
    """Draw shoulders and neck."""
    w = canvas.window(0.45, 1.2, -1.2, 1.2)
    x = w.x - 0.6 * wide(head.x)
    lit = 1 - 0.12 * wide(head.f["light"]) * w.x / 0.7
    canvas.paint(w, canvas.cover(ellipse(x, w.y - 1.02, 0.78, 0.36)), flat(head.shirt) * lit[:, None], "shirt")
    shade = 0.80 + 0.12 * (w.y - 0.60).clamp(0, 0.4) / 0.4 + 0 * w.x
    canvas.paint(
        w, canvas.cover(rounded_box(x, w.y - 0.55, 0.17, 0.30, 0.12)), flat(head.skin) * shade[:, None], "skin"
    )


def draw_face(canvas: Canvas, head: Head) -> None:
    """Draw ears, and the egg of the face with its shading and blush."""
    w = canvas.window(-0.20, 0.26)
    ear = ellipse((w.x - wide(head.x)).abs() - wide(head.half_width + 0.005), w.y - 0.05, 0.075, 0.12)
    canvas.paint(w, canvas.cover(ear), head.skin * 0.88, "skin")

    w = canvas.window(-0.66, 0.68)
    x = w.x - wide(head.x)
    y = w.y - 0.02
    height = 0.60
    chin = 1 - 0.13 * (y / height).clamp(0, 1.2) ** 2
    egg = ellipse(x / chin, y, wide(head.half_width), height)
    lit = 1 - 0.20 * wide(head.f["light"]) * (x / 0.5).clamp(-1, 1)
    rim = (egg / 0.16 + 1).clamp(0, 1) ** 2
    colour = flat(head.skin) * (lit * (1.02 - 0.11 * rim))[:, None]
    cheek = ((w.x - wide(head.features_x)).abs() - 0.27) ** 2 + (w.y - 0.20) ** 2
    blush = (-cheek / 0.012).exp() * 0.20
    rosy = flat(head.colour(0.95, 0.42, 0.42)) * (0.55 + 0.45 * flat(head.skin))
    canvas.paint(w, canvas.cover(egg), colour + blush[:, None] * (rosy - colour), "skin")


def draw_front_hair(canvas: Canvas, head: Head) -> None:
    """Draw hair above the hairline and the strands beside the face."""
    w = canvas.window(-0.80, 1.0)
    x = w.x - wide(head.x)
    light = wide(head.f["light"])
    crown = ellipse(x, w.y - TOP, wide(head.half_width + 0.115), 0.64)
    u = (w.x - wide(head.features_x) + 0.10) / 0.5
    line = (w.y + 0.43 - 0.30 * u * u * (1 - 0.25 * u)) * 0.8
    bottom = wide(head.hair_bottom)
    strand = rounded_box(
        x.abs() - wide(head.half_width + 0.055), w.y - (bottom - 0.25) / 2, 0.075, (bottom + 0.25) / 2, 0.06
    )
    shape = torch.minimum(torch.maximum(crown, line), torch.maximum(strand, -(w.y + 0.25)))
    streak = 1 + 0.055 * torch.cos(15 * (w.x - wide(head.features_x) * 0.6) + 3 * w.y)
    gloss = (-(ellipse(x + 0.12 * light, w.y + 0.50, 0.26, 0.09) / 0.07).clamp(-1, 1)).clamp(0, 1)
    shade = streak * (1.04 - 0.20 * light * (x / 0.6).clamp(-1, 1)) + 0.10 * gloss
    canvas.paint(w, canvas.cover(shape), flat(head.hair) * shade[:, None], "hair")
