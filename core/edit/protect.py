"""Holding everything outside a mask at the stored trajectory while editing.

Blending: Avrahami et al. 2022, arXiv 2111.14818, alg. 1.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from ..masks import fit_mask


def blend_weight(mask: Tensor, x: Tensor, protect: float, dilate: int = 0) -> Tensor:
    """Say how much of the stored state replaces the sampled one, `[1 1 h w]` in 0..protect: 0 inside the mask.

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
