"""Holding everything outside a mask at the stored trajectory while editing (blending: Avrahami et al. 2022, arXiv 2111.14818, alg. 1)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def fit_mask(mask: Tensor, height: int, width: int) -> Tensor:
    """A mask `[h w]` at another resolution, `[height width]`: averaged when shrinking, bilinear when growing.

    Raises:
        ValueError: not `[h w]`, NaN, or values outside 0..1.
    """
    if mask.dim() != 2 or 0 in mask.shape:
        raise ValueError(f"mask must be one picture [h w], got {list(mask.shape)}; pick one of a batch")
    mask = mask.float()
    low, high = float(mask.min()), float(mask.max())
    if not (low >= 0 and high <= 1):
        raise ValueError(f"mask must have finite values in 0..1, got {low:g}..{high:g}; normalise it first")
    if mask.shape == (height, width):
        return mask
    if height <= mask.shape[0] and width <= mask.shape[1]:
        return F.interpolate(mask[None, None], (height, width), mode="area")[0, 0].clamp(0, 1)
    return F.interpolate(mask[None, None], (height, width), mode="bilinear", align_corners=False, antialias=True)[0, 0].clamp(0, 1)


def blend_weight(mask: Tensor, x: Tensor, protect: float, dilate: int = 0) -> Tensor:
    """How much of the stored state replaces the sampled one, `[1 1 h w]` in 0..protect: nothing inside the mask.

    Args:
        mask: `[h w]` in 0..1, the region that may change.
        x: a state `[b c h w]`, for its size, device and dtype.
        protect: 0..1.
        dilate: pixels of the state by which the region is widened.

    Raises:
        ValueError: a bad mask, or a negative ``dilate``.
    """
    if dilate < 0:
        raise ValueError(f"dilate must be 0 or more pixels, got {dilate}")
    region = fit_mask(mask.to(x.device), *x.shape[-2:])[None, None]
    if dilate:
        region = F.max_pool2d(region, 2 * dilate + 1, 1, dilate)
    return (protect * (1 - region)).to(x.dtype)
