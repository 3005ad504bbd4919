"""EDICT, exact inversion by two coupled states (Wallace et al. 2022, arXiv 2211.12446, eqs. 13-16).

A step moves each state by the other's eps, then mixes them, both of which can be undone. Undoing the mixing of ``p``
multiplies the difference of the two by ``1 / p^2`` a step (its eigenvalues are 1 and ``p^2``: 1.4e3 over 50 steps at
0.93), hence float64 states.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..denoiser import Callback, Denoiser, report_step
from ..float64 import widen
from ..inputs import IMAGE_LIMIT, check_image, check_sigmas
from ..trajectory import ExactMethod, Trajectory, relative_distance
from .coupled import Noise, Replayed, coupled

MIXING = 0.93
LOWEST = 0.85


def edict_down(eps: Noise, x: Tensor, y: Tensor, sigma: float, nxt: float, p: float) -> tuple[Tensor, Tensor]:
    """Take one step of sampling from ``sigma`` to ``nxt``; two model calls."""
    x = x + (nxt - sigma) * eps(y, sigma)
    y = y + (nxt - sigma) * eps.lifted(x, nxt, sigma)
    x = p * x + (1 - p) * y
    return x, p * y + (1 - p) * x


def edict_up(eps: Noise, x: Tensor, y: Tensor, sigma: float, nxt: float, p: float) -> tuple[Tensor, Tensor]:
    """Invert :func:`edict_down`, back from ``nxt`` to ``sigma``."""
    y = (y - (1 - p) * x) / p
    x = (x - (1 - p) * y) / p
    y = y - (nxt - sigma) * eps.lifted(x, nxt, sigma)
    return x - (nxt - sigma) * eps(y, sigma), y


def alternated(step: Callable, i: int, eps: Noise, x: Tensor, y: Tensor, *rest: float) -> tuple[Tensor, Tensor]:
    """Take a step in which the two states change roles at every other ``i`` (counted from the noisiest)."""
    if i % 2 == 0:
        return step(eps, x, y, *rest)
    y, x = step(eps, y, x, *rest)
    return x, y


@torch.no_grad()
def invert_edict(
    model: Denoiser,
    x0: Tensor,
    sigmas: Tensor,
    mixing: float = MIXING,
    *,
    callback: Callback | None = None,
    limit: float | None = IMAGE_LIMIT,
) -> Trajectory:
    """Walk an image up to ``sigmas[0]`` so that :func:`core.edit.noise.exact.sample_exact` returns it to rounding.

    Two model calls a step.

    Args:
        model: any denoiser.
        x0: image `[b c h w]` in -1..1.
        sigmas: `[n+1]`, descending to 0.
        mixing: p, 0.85..1; the paper's 0.93. Lower holds the two states together better when sampling, and lets them
            part faster here.
        callback: called after every step.
        limit: largest magnitude of an image; None for latents.

    Returns:
        The trajectory of the first state; both are in ``pair``. ``residual`` is that of each step's own
        equations: rounding.

    Raises:
        ValueError: mixing outside its range, or an image or grid refused by :mod:`core.inputs`.
    """
    if not LOWEST <= mixing <= 1:
        raise ValueError(
            f"mixing must lie in {LOWEST}..1 (inverting multiplies errors by 1/mixing^2 a step), got {mixing}; try"
            f" {MIXING}"
        )
    image = check_image(x0, limit)
    grid = check_sigmas(sigmas)
    eps = Noise(model, image.dtype)
    s = grid.tolist()
    n = len(grid) - 1
    x = y = widen(image)
    states = [x]
    residual = []
    for i in reversed(range(n)):
        below = (x, y)
        x, y = alternated(edict_up, i, eps, x, y, s[i], s[i + 1], mixing)
        back = alternated(edict_down, i, Replayed(eps), x, y, s[i], s[i + 1], mixing)
        residual.append(max(relative_distance(*pair) for pair in zip(back, below, strict=True)))
        states.append(x)
        report_step(callback, n - 1 - i, n, x=x, sigma=s[i], denoised=eps.denoised)
    return coupled(model, grid, states, (x, y), image.dtype, ExactMethod("edict", mixing), residual)
