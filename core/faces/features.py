"""The small shapes of a face: nose, mouth, eyes, brows, glasses."""

from __future__ import annotations

import torch

from .canvas import Canvas, ellipse, rounded_box
from .head import Head, flat, wide


def draw_nose(canvas: Canvas, head: Head) -> None:
    """Draw ridge, tip, highlight and nostrils."""
    size = wide(0.055 + 0.055 * head.f["nose_size"])
    w = canvas.window(-0.12, 0.30, -0.40, 0.40)
    x = w.x - wide(head.features_x + 0.02 * head.f["yaw"])
    tip = ellipse(x, w.y - 0.15, size * 1.05, size * 0.80)
    ridge = rounded_box(x, w.y - 0.04, size * 0.38, 0.13, 0.02)
    lit_side = torch.where(wide(head.f["light"]) >= 0, 1.0, -1.0)
    side = (0.5 - 0.5 * (x / size) * lit_side).clamp(0, 1)
    shade = 0.93 - 0.07 * (1 - side)
    canvas.paint(w, canvas.cover(ridge) * 0.55, flat(head.skin) * shade[:, None])
    canvas.paint(
        w, canvas.cover(tip), flat(head.skin) * flat(head.colour(0.90, 0.82, 0.80)) * (shade + 0.06)[:, None], "nose"
    )
    highlight = ellipse(x + 0.25 * size, w.y - 0.15 + 0.30 * size, size * 0.36, size * 0.26)
    canvas.paint(w, canvas.cover(highlight) * 0.55, (head.skin * 1.12).clamp(0, 1))
    nostrils = ellipse(x.abs() - size * 0.42, w.y - 0.15 - size * 0.42, size * 0.22, size * 0.16)
    canvas.paint(w, canvas.cover(nostrils) * 0.75, head.skin * 0.50)


def draw_mouth(canvas: Canvas, head: Head) -> None:
    """Draw lips bent by the smile; when open, the inside with teeth and tongue."""
    smile = wide(head.f["smile"])
    opening = wide(head.f["mouth_open"])
    w = canvas.window(0.16, 0.66, -0.52, 0.52)
    half = 0.205 + 0.025 * smile - 0.020 * opening
    x = w.x - wide(head.features_x)
    t = x / half
    arch = 1 - t * t
    bend = 0.135
    y = w.y - (0.370 + bend * smile * (0.45 - t * t))
    slope = (1 + (2 * bend * smile * t / half) ** 2).sqrt()
    above = opening * 0.050 * arch
    below = opening * 0.140 * arch
    thick = 0.030 * arch.clamp_min(0) ** 0.5 + 0.012
    ends = (x.abs() - half) * 0.9
    lip = head.skin * head.colour(0.86, 0.50, 0.50)
    lips = torch.maximum(torch.maximum(-y - above - thick * 0.85, y - below - thick * 1.15) / slope, ends)
    canvas.paint(w, canvas.cover(lips), lip, "mouth")
    ajar = (opening * 4).clamp(0, 1)
    closed_line = torch.maximum((y.abs() - 0.012) / slope, ends + 0.01)
    canvas.paint(w, canvas.cover(closed_line) * (1 - ajar), lip * 0.50)
    inside = torch.maximum(torch.maximum(-y - above, y - below) / slope, ends + 0.015)
    canvas.paint(w, canvas.cover(inside) * ajar, head.colour(0.30, 0.06, 0.08))
    teeth = torch.maximum(inside + 0.006, y + above - 0.055 * (0.35 + 0.65 * opening))
    canvas.paint(w, canvas.cover(teeth) * ajar, head.colour(0.97, 0.97, 0.98))
    tongue = torch.maximum(inside + 0.006, ellipse(x, y - below - 0.005, half * 0.55, 0.05))
    canvas.paint(w, canvas.cover(tongue) * (opening * 3 - 1).clamp(0, 1), head.colour(0.85, 0.38, 0.40))


def draw_eyes(canvas: Canvas, head: Head) -> None:
    """Draw whites, iris and pupil turned by the gaze, lids."""
    yaw = wide(head.f["yaw"])
    openness = wide(head.f["eye_open"])
    w = canvas.window(-0.24, 0.12, -0.62, 0.62)
    which = torch.where(w.x < wide(head.features_x), -1.0, 1.0)
    x = w.x - wide(head.features_x) - which * wide(head.eyes_x)
    half = 0.135 * (1 - 0.10 * which * yaw)  # the far eye is narrower
    tall = 0.118 * openness
    t = x / half
    arch = 1 - t * t
    y = w.y + 0.055 - 0.03 * (1 - openness)
    slope = (1 + (2 * tall * t / half) ** 2).sqrt()
    ends = (x.abs() - half) * 0.9
    shape = torch.maximum((y.abs() - tall * arch) / slope, ends)
    cover = canvas.cover(shape)
    canvas.paint(w, cover, head.colour(0.97, 0.97, 0.98), "eyes")
    across = x - 0.050 * wide(head.f["gaze"])
    radius = (across * across + y * y).sqrt()
    canvas.paint(w, torch.minimum(canvas.cover(radius - 0.086), canvas.cover(shape + 0.004)), head.iris)
    canvas.paint(w, torch.minimum(canvas.cover(radius - 0.043), cover), head.colour(0.10, 0.07, 0.08))
    spark = ((across + 0.03) ** 2 + (y + 0.035) ** 2).sqrt() - 0.024
    canvas.paint(w, torch.minimum(canvas.cover(spark), cover), head.colour(0.97, 0.97, 0.98))
    upper = torch.maximum(((y + tall * arch).abs() - 0.019) / slope, ends)
    canvas.paint(w, canvas.cover(upper), head.skin * 0.20, "eyes")
    lower = torch.maximum(((y - tall * arch).abs() - 0.008) / slope, ends)
    canvas.paint(w, canvas.cover(lower) * 0.6, head.skin * 0.55, "eyes")


def draw_brows(canvas: Canvas, head: Head) -> None:
    """Draw brows: height and tilt (positive: inner ends up, sad; negative: angry)."""
    w = canvas.window(-0.50, -0.12, -0.62, 0.62)
    which = torch.where(w.x < wide(head.features_x), -1.0, 1.0)
    x = (w.x - wide(head.features_x)) * which - wide(head.eyes_x)  # positive outwards
    y = w.y + 0.285 + 0.062 * wide(head.f["brow_height"])
    bent = y - (0.42 * wide(head.f["brow_tilt"]) - 0.10) * x + 1.6 * x * x
    shape = torch.maximum(bent.abs() - (0.034 - 0.06 * x.clamp(-0.15, 0.15)), x.abs() - 0.145)
    canvas.paint(w, canvas.cover(shape), head.hair * 0.62, "brows")


def draw_glasses(canvas: Canvas, head: Head) -> None:
    """Draw tinted lenses, rims, bridge and temples, with the opacity of the factor."""
    opacity = wide(head.f["glasses"])
    if not bool((opacity > 1e-3).any()):
        return
    w = canvas.window(-0.28, 0.17, -0.75, 0.75)
    centre = wide(head.features_x)
    eyes = wide(head.eyes_x)
    which = torch.where(w.x < centre, -1.0, 1.0)
    x = w.x - centre - which * (eyes + 0.004)
    y = w.y + 0.045
    rim = rounded_box(x, y, 0.180 * (1 - 0.06 * which * wide(head.f["yaw"])), 0.158, 0.09)
    canvas.paint(w, canvas.cover(rim) * 0.16 * opacity, head.colour(0.75, 0.88, 1.0))
    bridge = torch.maximum((y + 0.045).abs() - 0.020, (w.x - centre).abs() - (eyes - 0.17))
    outside = torch.maximum(
        (w.x - wide(head.x)).abs() - wide(head.half_width + 0.02), eyes + 0.18 - (w.x - centre).abs()
    )
    temple = torch.maximum((y + 0.05).abs() - 0.020, outside)
    frame = torch.minimum(torch.minimum(rim.abs() - 0.021, bridge), temple)
    canvas.paint(w, canvas.cover(frame) * opacity, head.colour(0.13, 0.12, 0.17), "glasses")
