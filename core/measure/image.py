"""Measure how far two pictures differ: PSNR, SSIM, and change inside and outside a region.

SSIM: Wang et al. 2004, IEEE TIP 13(4), section III.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ..float64 import widen

PSNR_CAP = 120.0
"""dB reported for identical pictures, so that every figure is finite."""

_RANGE = 2.0  # images run from -1 to 1


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Measure the peak signal to noise ratio of each sample in dB, `[b]`, at most :data:`PSNR_CAP`.

    Args:
        a: `[b c h w]` in -1..1.
        b: the same shape.

    Raises:
        ValueError: different shapes.
    """
    _check_pair(a, b)
    error = (widen(a) - widen(b)).square().flatten(1).mean(1)
    return (10 * torch.log10(_RANGE**2 / error.clamp_min(1e-30))).clamp(max=PSNR_CAP).float()


def ssim(a: Tensor, b: Tensor, window: int = 11, sigma: float = 1.5) -> Tensor:
    """Measure the structural similarity of each sample, `[b]`, at most 1.

    Gaussian window, averaged over channels and valid positions.

    Args:
        a: `[b c h w]` in -1..1.
        b: the same shape.
        window: size of the Gaussian, odd.
        sigma: its standard deviation in pixels.

    Raises:
        ValueError: different shapes, or a picture smaller than the window.
    """
    return ssim_map(a, b, window, sigma).flatten(1).mean(1).float()


def ssim_map(
    a: Tensor, b: Tensor, window: int = 11, sigma: float = 1.5, span: float = _RANGE, weight: Tensor | None = None
) -> Tensor:
    """Measure the structural similarity at every position where the window lies inside the picture.

    `[b c h-window+1 w-window+1]` in float64.

    Args:
        a: `[b c h w]`.
        b: the same shape.
        window: size of the Gaussian, odd.
        sigma: its standard deviation in pixels.
        span: from the darkest to the brightest value a picture may have.
        weight: `[b h w]` in 0..1, how much each pixel counts in the windows it falls into; default all alike.

    Raises:
        ValueError: different shapes, or a picture smaller than the window.
    """
    _check_pair(a, b)
    if min(a.shape[-2:]) < window:
        raise ValueError(f"SSIM needs pictures of at least {window}x{window} pixels, got {a.shape[-1]}x{a.shape[-2]}")
    offset = widen(torch.arange(window, device=a.device)) - (window - 1) / 2
    kernel = torch.exp(-offset.square() / (2 * sigma**2))
    kernel = kernel / kernel.sum()

    def blur(v: Tensor) -> Tensor:
        columns = F.conv2d(v.flatten(0, 1)[:, None], kernel[None, None, :, None])
        flat = F.conv2d(columns, kernel[None, None, None])
        return flat.reshape(*v.shape[:2], *flat.shape[-2:])

    x = widen(a)
    y = widen(b)
    mean = blur
    if weight is not None:
        region = weight.to(x)[:, None]
        total = blur(region).clamp_min(1e-12)

        def mean(v: Tensor) -> Tensor:
            return blur(v * region) / total

    mx = mean(x)
    my = mean(y)
    vx = mean(x * x) - mx * mx
    vy = mean(y * y) - my * my
    cov = mean(x * y) - mx * my
    c1 = (0.01 * span) ** 2
    c2 = (0.03 * span) ** 2
    return (2 * mx * my + c1) * (2 * cov + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))


def region_change(before: Tensor, after: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Measure the mean absolute change inside and outside a region, both `[b]`, on the -1..1 scale.

    Args:
        before: `[b c h w]`.
        after: the same shape.
        mask: `[h w]` or `[b h w]` in 0..1 at the pictures' size; a soft mask weights both means.

    Returns:
        (inside, outside); outside is NaN for a mask of the whole picture.

    Raises:
        ValueError: different shapes, an empty mask, or values outside 0..1.
    """
    _check_pair(before, after)
    if (
        mask.shape[-2:] != before.shape[-2:]
        or mask.dim() not in (2, 3)
        or (mask.dim() == 3 and len(mask) not in (1, len(before)))
    ):
        raise ValueError(
            f"mask must be [h w] or [b h w] at the size of the pictures ({before.shape[-2]} {before.shape[-1]}), got"
            f" {list(mask.shape)}; resize it first"
        )
    if not (float(mask.min()) >= 0 and float(mask.max()) <= 1):
        raise ValueError(
            f"mask must have finite values in 0..1, got {float(mask.min()):g}..{float(mask.max()):g}; normalise it"
            " first"
        )
    weight = widen(mask.to(before.device)).expand(len(before), -1, -1).flatten(1)
    if bool((weight.sum(1) == 0).any()):
        raise ValueError(
            "the mask is empty: no pixel is inside, so no change can be measured there; paint the region that was"
            " edited"
        )
    change = (widen(after) - widen(before)).abs().mean(1).flatten(1)
    inside = (change * weight).sum(1) / weight.sum(1)
    outside = (change * (1 - weight)).sum(1) / (1 - weight).sum(1)  # 0 / 0 = NaN where nothing is outside
    return inside.float(), outside.float()


def middle(x: Tensor, height: int, width: int) -> Tensor:
    """Cut the middle out of pictures or masks `[... h w]`, `[... height width]`.

    It is what the host leaves of a picture that its VAE crops.
    """
    top = (x.shape[-2] - height) // 2
    left = (x.shape[-1] - width) // 2
    return x[..., top : top + height, left : left + width]


def leak_ratio(inside: Tensor, outside: Tensor) -> Tensor:
    """Divide ``outside / inside``, `[b]`: 0 is a perfectly local edit, 1 a global one.

    NaN where nothing changed inside or nothing is outside.
    """
    return torch.where(inside > 0, outside / inside, torch.nan)


def _check_pair(a: Tensor, b: Tensor) -> None:
    if a.dim() != 4 or 0 in a.shape or a.shape != b.shape:
        raise ValueError(
            f"the pictures to compare must both be [b c h w] of one size, got {list(a.shape)} and {list(b.shape)}"
        )


Distance = Callable[[Tensor, Tensor], Tensor]
"""Two batches of pictures `[b 3 h w]` in -1..1 -> distance of each pair, `[b]`."""


def structural_distance(a: Tensor, b: Tensor) -> Tensor:
    """Measure 1 - SSIM in place of LPIPS: 0 for equal pictures, with thresholds of its own."""
    return 1 - ssim(a, b)
