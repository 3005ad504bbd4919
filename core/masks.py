"""Masks at other sizes: the one way in which every method of the pack resizes a painted region."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def fit_mask(mask: Tensor, height: int, width: int) -> Tensor:
    """Bring a mask `[h w]` to `[height width]`: averaged when shrinking, bilinear when growing.

    Raises:
        ValueError: not `[h w]`, NaN, or values outside 0..1.
    """
    if mask.dim() != 2 or 0 in mask.shape:
        raise ValueError(f"mask must be one picture [h w], got {list(mask.shape)}; pick one of a batch")
    mask = mask.float()
    low = float(mask.min())
    high = float(mask.max())
    if not (low >= 0 and high <= 1):
        raise ValueError(f"mask must have finite values in 0..1, got {low:g}..{high:g}; normalise it first")
    if mask.shape == (height, width):
        return mask
    if height <= mask.shape[0] and width <= mask.shape[1]:
        return F.interpolate(mask[None, None], (height, width), mode="area")[0, 0].clamp(0, 1)
    return F.interpolate(mask[None, None], (height, width), mode="bilinear", align_corners=False, antialias=True)[
        0, 0
    ].clamp(0, 1)
