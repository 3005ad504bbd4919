"""Proximal guidance (Han et al. 2023, ProxEdit, arXiv 2306.05414, eqs. 7-9): where the two prompts hardly differ, they do not differ."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..trajectory import Trajectory

MODES = ("l0", "l1")


def proximal(delta: Tensor, quantile: float, mode: str = "l0") -> tuple[Tensor, Tensor]:
    """A difference of two predictions with its small entries taken out, and where it is large.

    Args:
        delta: `[b c h w]`, in eps or in denoised images: the threshold is a quantile, so the scale does not matter.
        quantile: 0..1, share of each sample's entries that count as small; the paper uses 0.7. 0 leaves delta as it is.
        mode: ``l0`` keeps large entries as they are, ``l1`` draws them towards 0 by the threshold.

    Returns:
        The difference, and `[b c h w]` booleans, true where it is kept.

    Raises:
        ValueError: an unknown mode or a quantile outside 0..1.
    """
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
    if not 0 <= quantile <= 1:
        raise ValueError(f"quantile must lie in 0..1 (0 off, 0.7 usual), got {quantile}")
    if not quantile:
        return delta, torch.ones_like(delta, dtype=torch.bool)
    size = delta.abs()
    # One row at a time: torch.quantile takes no more than 16 million entries in all.
    threshold = torch.stack([torch.quantile(row.flatten().float(), quantile) for row in size]).to(delta)[:, None, None, None]
    large = size > threshold
    kept = delta if mode == "l0" else delta - delta.sign() * threshold
    return torch.where(large, kept, torch.zeros_like(delta)), large


def towards(denoised: Tensor, x: Tensor, sigma: float, nxt: float, path: Trajectory, large: Tensor, rate: float, dilate: int) -> Tensor:
    """Inversion guidance: a prediction whose Euler step from ``x`` at ``sigma`` to ``nxt`` lands nearer to the stored path.

    The step ends in ``x' - rate (x' - path(nxt)) (1 - mask)``, with the mask of what the prompts change.

    Args:
        denoised: guided prediction, `[b c h w]`.
        x: state, `[b c h w]`.
        sigma: level now.
        nxt: level of the step, 0 <= nxt < sigma.
        path: of the source image.
        large: `[b c h w]`, true where the prompts differ.
        rate: 0..1; 1 replaces the state.
        dilate: pixels of the state by which that region is widened.

    Raises:
        ValueError: the path holds states of another size.
    """
    state = path.at(nxt).to(x)
    if state.shape[1:] != x.shape[1:] or len(state) not in (1, len(x)):
        raise ValueError(f"the trajectory holds {list(state.shape)}, the picture sampled here is {list(x.shape)}; use the same size")
    mask = large.to(x)
    if dilate:
        mask = F.max_pool2d(mask, 2 * dilate + 1, 1, dilate)
    ratio = nxt / sigma
    below = denoised + ratio * (x - denoised)
    return denoised - rate * (1 - mask) * (below - state) / (1 - ratio)
