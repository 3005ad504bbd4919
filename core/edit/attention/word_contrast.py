"""Where a word changes what a model sees (DiffEdit, Couairon et al. 2022, arXiv 2210.11427, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

LEVELS = (2.5, 5.0, 10.0)
"""Noise levels whose maps are averaged, for states ``x0 + sigma n``: found on the face world."""
_WIDTH = 13  # of a picture's shorter side, one in so many cells is averaged over


def contrast(answers: Sequence[Tensor]) -> Tensor:
    """How far a model's answers to several prompts lie apart at each place, as a multiple of the mean.

    Args:
        answers: denoised pictures `[b c h w]` of the same noisy states, one for each prompt.

    Returns:
        `[h w]`, averaged over rows and channels and over a neighbourhood.

    Raises:
        ValueError: fewer than two answers.
    """
    if len(answers) < 2:
        raise ValueError(f"a contrast needs the answers to two prompts at least, got {len(answers)}")
    stacked = torch.stack(list(answers))
    apart = (stacked - stacked.mean(0)).abs().mean((1, 2)).sum(0)
    smooth = _smoothed(apart)
    return smooth / smooth.mean().clamp_min(1e-12)


def _smoothed(values: Tensor) -> Tensor:
    """Mean over a square around each place, `[h w]`; at the edge over what lies inside."""
    width = max(1, min(values.shape) // _WIDTH) | 1
    return F.avg_pool2d(values[None, None], width, 1, width // 2, count_include_pad=False)[0, 0]
