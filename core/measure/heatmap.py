"""Where a picture changed, as a picture (sequential colours from dark to light, so that it also reads in grey)."""

from __future__ import annotations

import torch
from torch import Tensor

_FLOOR = 0.02  # on the -1..1 scale; rounding noise must not be stretched to full brightness
_COLORS = (
    (10, 8, 22), (44, 18, 84), (98, 24, 118), (152, 40, 112), (204, 66, 84), (238, 112, 52), (250, 172, 50), (252, 244, 182),
)  # fmt: skip


def colorize(value: Tensor) -> Tensor:
    """Numbers in 0..1 of any shape `[...]` -> colours `[3 ...]` in 0..1, dark to light; values beyond the ends are clamped."""
    table = torch.tensor(_COLORS, dtype=torch.float32, device=value.device) / 255
    place = value.float().clamp(0, 1) * (len(table) - 1)
    low = place.floor().long().clamp(max=len(table) - 2)
    colour = torch.lerp(table[low], table[low + 1], (place - low)[..., None])
    return colour.movedim(-1, 0)


def heatmap(before: Tensor, after: Tensor, limit: float | None = None) -> Tensor:
    """Mean absolute change over the channels as colours, `[b 3 h w]` in -1..1.

    Args:
        before: `[b c h w]` in -1..1.
        after: the same shape.
        limit: change shown brightest, on the -1..1 scale. Default: the 99.5th percentile of the batch, at least 0.02.

    Raises:
        ValueError: different shapes, or a limit that is not positive.
    """
    if before.dim() != 4 or before.shape != after.shape:
        raise ValueError(f"the pictures to compare must both be [b c h w] of one size, got {list(before.shape)} and {list(after.shape)}")
    if limit is not None and not limit > 0:
        raise ValueError(f"limit must be above 0, got {limit}; leave it out to scale by the picture itself")
    change = (after.float() - before.float()).abs().mean(1)
    if limit is None:
        flat = change.flatten()
        rank = min(flat.numel(), max(1, round(0.995 * flat.numel())))
        limit = max(_FLOOR, float(flat.kthvalue(rank).values))
    return colorize(change / limit).movedim(0, 1) * 2 - 1
