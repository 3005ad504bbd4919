"""Frames between two inverted pictures: interpolated noise, sampled by DDIM.

DiffMorpher, Zhang et al. 2024, arXiv 2312.07409.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ...schedule import ROUNDING, from_vp, to_vp
from ...trajectory import Trajectory
from .interpolate import adain, slerp


def noises_between(first: Trajectory, second: Trajectory, alphas: Sequence[float], statistics: bool = True) -> Tensor:
    """Interpolate the noisiest states of the frames.

    Args:
        first: of one picture, at alpha 0.
        second: of one picture, at alpha 1, on the same grid.
        alphas: of the frames, 0..1.
        statistics: also interpolate mean and deviation of every channel (AdaIN).

    Returns:
        `[n c h w]` in the sigma dialect; at 0 and 1 the stored ones (bit for bit without ``statistics``, to rounding
        with them).

    Raises:
        ValueError: several pictures in one trajectory, other grids, or other sizes.
    """
    for path in (first, second):
        path.check_pictures("a morph")
        if path.states.shape[1] != 1:
            raise ValueError(
                f"a morph has one picture at each end, this trajectory holds {path.states.shape[1]}; invert them one"
                " by one"
            )
    if len(first.sigmas) != len(second.sigmas) or not torch.allclose(first.sigmas, second.sigmas, rtol=1e-5):
        raise ValueError(
            "both pictures must be inverted with the same SIGMAS; connect one scheduler to both Invert Image nodes"
        )
    # As a VP state, the scale in which the epsilon of the variance is meant; the arc does not depend on it.
    sigma = float(first.sigmas[0])
    a = to_vp(first.noisiest[0], sigma)
    b = to_vp(second.noisiest[0].to(first.noisiest), sigma)
    if statistics:
        return from_vp(adain(slerp(a, b, alphas), a, b, alphas), sigma)
    return slerp(first.noisiest[0], second.noisiest[0].to(first.noisiest), alphas)


def interpolated_steps(steps: int, share: float) -> int:
    """Count the steps that interpolate self-attention: those whose number, from 0, lies below ``share`` of all.

    Raises:
        ValueError: a share outside 0..1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"the share of steps must lie in 0..1, got {share}; 0.6 is the paper's")
    return math.ceil(steps * share - ROUNDING)
