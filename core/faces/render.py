"""The procedural renderer of the face world: named factors -> anti-aliased picture and exact part masks.

No data set needed.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .canvas import Canvas, from_hue, table
from .factors import Factors
from .features import draw_brows, draw_eyes, draw_glasses, draw_mouth, draw_nose
from .head import Head, draw_back, draw_face, draw_front_hair, draw_shirt

PARTS = ("background", "hair", "skin", "shirt", "nose", "mouth", "eyes", "brows", "glasses")

_HAIR = ((0.13, 0.12, 0.14), (0.42, 0.26, 0.15), (0.90, 0.74, 0.38), (0.76, 0.28, 0.12), (0.72, 0.73, 0.76))
_IRIS = ((0.36, 0.21, 0.10), (0.22, 0.46, 0.80), (0.24, 0.56, 0.30))
_SKIN = ((1.00, 0.86, 0.76), (0.93, 0.73, 0.58), (0.74, 0.52, 0.37), (0.46, 0.30, 0.21))


@torch.no_grad()
def render(
    factors: Factors,
    size: int = 64,
    supersample: int = 1,
    masks: bool = False,
    device: torch.device | str | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Draw faces.

    Args:
        factors: every factor of :data:`core.faces.factors.FACTORS`, `[b]` each. ``glasses`` between 0 and 1 is their
            opacity.
        size: pixels of a side.
        supersample: draw this many times larger and average; edges are smooth without it.
        masks: also return the parts.
        device: where to draw; default: where the factors are.

    Returns:
        Pictures `[b 3 size size]` in 0..1, and part -> visible coverage `[b size size]` for :data:`PARTS` (empty
        without ``masks``). The parts of a pixel add up to 1.
    """
    f = {name: v.to(device or v.device, torch.float32) for name, v in factors.items()}
    smile = f["smile"]
    canvas = Canvas(len(smile), size * supersample, masks, smile.device)
    head = _pose(f)
    draw_back(canvas, head)
    draw_shirt(canvas, head)
    draw_face(canvas, head)
    draw_nose(canvas, head)
    draw_mouth(canvas, head)
    draw_eyes(canvas, head)
    draw_brows(canvas, head)
    draw_front_hair(canvas, head)
    draw_glasses(canvas, head)
    image = canvas.image.clamp_(0, 1)
    parts = canvas.parts or {}
    if masks:
        parts = {p: parts.get(p, torch.zeros_like(image[:, 0])) for p in PARTS}
    if supersample > 1:
        image = F.avg_pool2d(image, supersample)
        parts = {p: F.avg_pool2d(m[:, None], supersample)[:, 0] for p, m in parts.items()}
    return image, parts


def _pose(f: Factors) -> Head:
    smile = f["smile"]
    hair = smile.new_tensor(_HAIR)[f["hair_color"].long()]
    hx = 0.05 * f["yaw"]
    return Head(
        f=f,
        half_width=0.475 + 0.055 * f["face_width"],
        x=hx,
        features_x=hx + 0.085 * f["yaw"],
        eyes_x=0.215 + 0.02 * f["face_width"],
        skin=table(smile.new_tensor(_SKIN), f["skin"]),
        hair=(hair * (1 + 0.22 * f["hair_shade"][:, None])).clamp(0, 1),
        iris=smile.new_tensor(_IRIS)[f["eye_color"].long()],
        background=from_hue(f["bg_hue"], 0.34, 0.90),
        shirt=from_hue(f["shirt_hue"], 0.55, 0.68),
    )
