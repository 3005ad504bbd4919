"""A painted mask as weights of the Jacobian's output (the M of RBE, arXiv 2412.12912, section 3)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..masks import fit_mask

_EMPTY = 1e-3
_ASPECT = 0.02  # relative; rounding to whole pixels is allowed
_RANGE = 1e-6


def output_weights(mask: Tensor | None, shape: tuple[int, int, int]) -> Tensor:
    """Turn a mask into weights of the flattened image, `[c*h*w]` float32.

    It is resized as all masks are, one value for all channels.

    Args:
        mask: `[h w]` in 0..1, soft or hard, at any resolution of the image's aspect, or None for everything.
        shape: `(c, h, w)` of the image.

    Raises:
        ValueError: the mask is empty, not finite, outside 0..1 or of another aspect.
    """
    c, h, w = shape
    if mask is None:
        return torch.ones(c * h * w)
    if mask.dim() != 2 or 0 in mask.shape:
        raise ValueError(f"mask must be one picture [h w], got {list(mask.shape)}; pick one mask of the batch")
    painted = mask.float()
    if not torch.isfinite(painted).all() or float(painted.min()) < -_RANGE or float(painted.max()) > 1 + _RANGE:
        raise ValueError("mask must hold numbers in 0..1, without NaN; check the node that made it")
    high, wide = painted.shape
    if abs(high * w - wide * h) > _ASPECT * max(high * w, wide * h):
        raise ValueError(
            f"mask must have the aspect of the image ({w}x{h}), got {wide}x{high}; make it from the same picture"
        )
    grid = fit_mask(painted.clamp(0, 1), h, w)
    if float(grid.max()) < _EMPTY:
        raise ValueError(
            "mask is empty: nothing is selected at the size of the image; paint the region (right click on Load Image,"
            " Open in MaskEditor: what is painted there is the region)"
        )
    return grid.reshape(1, -1).expand(c, -1).reshape(-1)
