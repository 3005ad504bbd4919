"""Where a picture changed, as a picture (sequential colours from dark to light, so that it also reads in grey)."""

from __future__ import annotations

import torch
from torch import Tensor

from .drawing import INK, SOFT, blank, finish
from .sheet import strip

LIMITS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""Changes that may be shown brightest, on the -1..1 scale: a few round ones, so that maps can be compared and rounding
stays dark."""
_COLORS = (
    (10, 8, 22),
    (44, 18, 84),
    (98, 24, 118),
    (152, 40, 112),
    (204, 66, 84),
    (238, 112, 52),
    (250, 172, 50),
    (252, 244, 182),
)


def colorize(value: Tensor) -> Tensor:
    """Colour numbers in 0..1 of any shape `[...]` as `[3 ...]` in 0..1, dark to light.

    Values beyond the ends are clamped.
    """
    table = torch.tensor(_COLORS, dtype=torch.float32, device=value.device) / 255
    place = value.float().clamp(0, 1) * (len(table) - 1)
    low = place.floor().long().clamp(max=len(table) - 2)
    colour = torch.lerp(table[low], table[low + 1], (place - low)[..., None])
    return colour.movedim(-1, 0)


def heatmap(before: Tensor, after: Tensor, limit: float | None = None) -> Tensor:
    """Colour the mean absolute change over the channels, `[b 3 h w]` in -1..1.

    Args:
        before: `[b c h w]` in -1..1.
        after: the same shape.
        limit: change shown brightest, on the -1..1 scale; default :func:`heat_limit`.

    Raises:
        ValueError: different shapes, or a limit that is not positive.
    """
    if before.dim() != 4 or before.shape != after.shape:
        raise ValueError(
            f"the pictures to compare must both be [b c h w] of one size, got {list(before.shape)} and"
            f" {list(after.shape)}"
        )
    if limit is not None and not limit > 0:
        raise ValueError(f"limit must be above 0, got {limit}; leave it out to scale by the picture itself")
    limit = limit or heat_limit(before, after)
    return colorize(_change(before, after) / limit).movedim(0, 1) * 2 - 1


def heat_limit(before: Tensor, after: Tensor) -> float:
    """Choose the first of :data:`LIMITS` that 99.5 percent of the pixels of a batch `[b c h w]` do not exceed."""
    flat = _change(before, after).flatten()
    rank = min(flat.numel(), max(1, round(0.995 * flat.numel())))
    most = float(flat.kthvalue(rank).values)
    return next((limit for limit in LIMITS if most <= limit), LIMITS[-1])


def scale_bar(height: int, limit: float) -> Tensor:
    """Draw the colours from no change (below) to ``limit`` (above), with their numbers, `[1 height 96 3]` in 0..1."""
    width = 96
    top, bottom = 0.14 * height, 0.92 * height
    image, pen = blank(width, height)
    rows = round(bottom - top)
    for row in range(rows):
        share = 1 - row / max(rows - 1, 1)
        colour = colorize(torch.tensor(share)) * 255
        red, green, blue = colour.round().int().tolist()
        y = top + row
        pen.bar((10, y, 30, y + 1), (red, green, blue))
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = bottom - share * (bottom - top)
        pen.line([(30, y), (35, y)], SOFT, 1)
        pen.text((39, y), f"{share * limit:.3g}", INK, 12, "lm")
    pen.text((10, 0.5 * top), "change", SOFT, 12, "lm")
    return finish(image)


def change_sheet(before: Tensor, after: Tensor, limit: float) -> tuple[Tensor, Tensor]:
    """Show where a batch `[b 3 h w]` in -1..1 changed, ``limit`` the brightest.

    Returns:
        The maps `[b 3 h w]` in -1..1, and the first picture before and after with its map and the scale of its colours,
        `[1 H W 3]` in 0..1.
    """
    heat = heatmap(before, after, limit)
    sheet = strip([("", [before[0], after[0], heat[0]])], ["before", "after", "difference"])
    return heat, torch.cat([sheet, scale_bar(sheet.shape[1], limit)], 2)


def _change(before: Tensor, after: Tensor) -> Tensor:
    return (after.float() - before.float()).abs().mean(1)
