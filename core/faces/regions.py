"""Exact masks of regions: every pixel that a region's own factors can reach on a given face."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

from .factors import Factors
from .render import render

_REACH: dict[str, tuple[str | None, dict[str, tuple[float, ...]]]] = {
    "mouth": ("mouth", {"smile": (-1, -0.75, -0.5, -0.25, 0, 0.25, 0.5, 0.75, 1), "mouth_open": (0, 0.5, 1)}),
    "eyes": ("eyes", {"eye_open": (0.15, 0.4, 0.7, 1), "glasses": (0,)}),
    "hair": ("hair", {"hair_length": (0, 0.25, 0.5, 0.75, 1)}),
    "glasses": (None, {"glasses": (0, 1)}),
}
"""Region -> the part it is made of, and the settings whose union is its reach; without a part, what differs between the
settings (the lenses tint the eyes behind them, which stay visible)."""

_VISIBLE = 1 / 255

REGIONS = tuple(_REACH)


def region_mask(factors: Factors, region: str, size: int = 64) -> Tensor:
    """Draw the mask of a region on each face, whatever its factors are set to now.

    Args:
        factors: `b` faces.
        region: one of :data:`REGIONS`.
        size: pixels of a side.

    Returns:
        `[b size size]` coverage in 0..1, on the CPU.

    Raises:
        ValueError: an unknown region.
    """
    if region not in _REACH:
        raise ValueError(f"region must be one of {', '.join(REGIONS)}, got {region!r}")
    part, settings = _REACH[region]
    reach = []
    for values in product(*settings.values()):
        posed = {
            **factors,
            **{n: torch.full_like(factors[n], v, dtype=torch.float32) for n, v in zip(settings, values, strict=True)},
        }
        image, parts = render(posed, size, masks=part is not None)
        reach.append(parts[part] if part else image)
    drawn = torch.stack(reach)
    if part is None:
        return ((drawn.amax(0) - drawn.amin(0)).amax(1) > _VISIBLE).float()
    return drawn.amax(0).clamp(0, 1)
