"""What every inversion asks of its image and of its grid of noise levels."""

from __future__ import annotations

import torch
from torch import Tensor

IMAGE_LIMIT = 1.1
"""Largest magnitude taken for an image in -1..1; resampling filters overshoot by a few percent."""


def check_image(x0: Tensor, limit: float | None = IMAGE_LIMIT) -> Tensor:
    """Return ``x0`` `[b c h w]` as floating point; half precision is widened to float32, so that steps add up.

    Args:
        x0: image, -1..1.
        limit: largest magnitude allowed, or None for latents, which have no fixed range.

    Raises:
        ValueError: wrong shape, no sample, NaN or infinite values, or values beyond ``limit``.
    """
    if x0.dim() == 5:
        raise ValueError(
            f"the image to invert must be one picture [b c h w], got states with a frame axis, {list(x0.shape)}; hand"
            " over a single frame without that axis"
        )
    if x0.dim() != 4 or 0 in x0.shape:
        raise ValueError(f"the image to invert must be [b c h w] and not empty, got {list(x0.shape)}")
    x0 = x0.detach()
    if x0.dtype not in (torch.float32, torch.float64):
        x0 = x0.float()
    if not torch.isfinite(x0).all():
        raise ValueError("the image to invert holds NaN or infinite values; check the node or file that it comes from")
    if limit is not None and float(x0.abs().max()) > limit:
        raise ValueError(
            f"the image to invert must lie in -1..1, got {float(x0.min()):.2f}..{float(x0.max()):.2f}; "
            "rescale it first (0..255 pixels: divide by 127.5 and subtract 1), or pass limit=None for latents"
        )
    return x0


def check_sigmas(sigmas: Tensor) -> Tensor:
    """Noise levels as a sampler takes them, `[n+1]` float64 on the CPU, descending to 0.

    Raises:
        ValueError: no step at all, not one row, NaN, not strictly descending, or a last level other than 0.
    """
    s = torch.as_tensor(sigmas).detach().to("cpu", torch.float64)
    if s.dim() != 1 or len(s) < 2:
        raise ValueError(
            f"sigmas must hold at least one step (two levels, the last one 0), got shape {list(s.shape)}; set steps to"
            " 1 or more"
        )
    if not torch.isfinite(s).all():
        raise ValueError("sigmas hold NaN or infinite values; make them again with a scheduler")
    if bool((s[1:] >= s[:-1]).any()):
        raise ValueError(
            f"sigmas must descend as for sampling, got {_some(s)}; do not flip them, and use fewer steps if two are"
            " equal"
        )
    if float(s[-1]) != 0.0:
        raise ValueError(
            f"sigmas must end in 0, the clean image, got {float(s[-1]):g}; take the whole schedule, not its upper part"
        )
    return s


def _some(s: Tensor) -> str:
    shown = ", ".join(f"{v:.3g}" for v in s[:5].tolist())
    return f"{shown}, ..." if len(s) > 5 else shown
