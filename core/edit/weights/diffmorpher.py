"""Frames between two inverted pictures (DiffMorpher, Zhang et al. 2024, arXiv 2312.07409): interpolated noise, sampled by DDIM."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..schedule import ROUNDING
from ..trajectory import Trajectory
from .interpolate import adain, slerp


def noises_between(first: Trajectory, second: Trajectory, alphas: Sequence[float], statistics: bool = True) -> Tensor:
    """Noisiest states of the frames.

    Args:
        first: of one picture, at alpha 0.
        second: of one picture, at alpha 1, on the same grid.
        alphas: of the frames, 0..1.
        statistics: also interpolate mean and deviation of every channel (AdaIN).

    Returns:
        `[n c h w]` in the sigma dialect; at 0 and 1 the stored ones (bit for bit without ``statistics``, to rounding with them).

    Raises:
        ValueError: several pictures in one trajectory, other grids, or other sizes.
    """
    for path in (first, second):
        if path.states.shape[1] != 1:
            raise ValueError(f"a morph has one picture at each end, this trajectory holds {path.states.shape[1]}; invert them one by one")
    if len(first.sigmas) != len(second.sigmas) or not torch.allclose(first.sigmas, second.sigmas, rtol=1e-5):
        raise ValueError("both pictures must be inverted with the same SIGMAS; connect one scheduler to both Invert Image nodes")
    # As a VP state, the scale in which the epsilon of the variance is meant; the arc does not depend on it.
    scale = math.sqrt(1 + float(first.sigmas[0]) ** 2)
    a, b = first.noisiest[0] / scale, second.noisiest[0].to(first.noisiest) / scale
    if statistics:
        return adain(slerp(a, b, alphas), a, b, alphas) * scale
    return slerp(first.noisiest[0], second.noisiest[0].to(first.noisiest), alphas)


def interpolated_steps(steps: int, share: float) -> int:
    """How many of ``steps`` interpolate self-attention: those whose number, from 0, lies below ``share`` of all.

    Raises:
        ValueError: a share outside 0..1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"the share of steps must lie in 0..1, got {share}; 0.6 is the paper's")
    return math.ceil(steps * share - ROUNDING)
