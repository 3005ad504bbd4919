"""BDIA, exact inversion by bi-directional integration, taken in sigma states.

Zhang et al. 2023, arXiv 2307.10829, eqs. 18-19.

``x[i-1] = gamma (x[i+1] - up_i(x[i])) + down_i(x[i])`` with the Euler steps of one eps to both neighbours. It is solved
for ``x[i+1]``, so a pair of neighbours gives the whole path back. Solving divides by gamma: errors grow by ``1 /
gamma`` a step.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..denoiser import Callback, Denoiser, report_step
from ..float64 import widen
from ..inputs import IMAGE_LIMIT, check_image, check_sigmas
from ..trajectory import ExactMethod, Trajectory, relative_distance
from .coupled import Noise, coupled

LOWEST = 0.95
_GROWTH = (
    100.0  # of the inversion's own error over all steps; beyond, the noisiest state is no noise of the model's any more
)


def bdia_down(eps: Tensor, above: Tensor, x: Tensor, levels: tuple[float, float, float], gamma: float) -> Tensor:
    """Step to the state below ``x`` from that above it; ``levels`` are those of above, ``x`` and below."""
    high, sigma, low = levels
    return gamma * (above - x - (high - sigma) * eps) + x + (low - sigma) * eps


def bdia_up(eps: Tensor, x: Tensor, below: Tensor, levels: tuple[float, float, float], gamma: float) -> Tensor:
    """Step to the state above ``x`` from that below it: :func:`bdia_down` solved for ``above``."""
    high, sigma, low = levels
    return (below - x - (low - sigma) * eps) / gamma + x + (high - sigma) * eps


@torch.no_grad()
def invert_bdia(
    model: Denoiser,
    x0: Tensor,
    sigmas: Tensor,
    gamma: float = 1.0,
    *,
    callback: Callback | None = None,
    limit: float | None = IMAGE_LIMIT,
) -> Trajectory:
    """Walk an image up to ``sigmas[0]`` so that :func:`core.edit.noise.exact.sample_exact` returns it to rounding.

    One model call a step.

    The first step, which has nothing below it, is DDIM convention B; any other would be undone as exactly.

    Args:
        model: any denoiser.
        x0: image `[b c h w]` in -1..1.
        sigmas: `[n+1]`, descending to 0.
        gamma: 0.95..1, nearer to 1 for more than 89 steps; 1 is the leap-frog rule, second order on even grids. The
            paper's 0.5 is for sampling in few steps.
        callback: called after every step.
        limit: largest magnitude of an image; None for latents.

    Returns:
        The trajectory; its two noisiest states are in ``pair``, at full precision. ``residual`` is that of each step's
        own equation: rounding. The first step has none.

    Raises:
        ValueError: gamma outside its range, or an image or grid refused by :mod:`core.inputs`.
    """
    image = check_image(x0, limit)
    grid = check_sigmas(sigmas)
    eps = Noise(model, image.dtype)
    s = grid.tolist()
    n = len(grid) - 1
    lowest = max(LOWEST, _GROWTH ** (-1 / n))
    if not lowest <= gamma <= 1:
        figure = f" ({(1 / gamma) ** n:.1e} over {n} steps)" if 0 < gamma < 1 else ""
        raise ValueError(
            f"an inversion by BDIA multiplies every error by 1/gamma a step{figure}, so gamma must be at least"
            f" {lowest:.3f} and at most 1 here; got {gamma}, set it to 1"
        )
    if n < 2:
        raise ValueError(f"BDIA joins two neighbouring steps and needs at least two, got {n}; raise the steps")
    below = widen(image)
    x = below + s[n - 1] * eps.lifted(below, 0.0, s[n - 1])
    states = [below, x]
    residual = [0.0]
    for i in reversed(range(n)):
        if i < n - 1:
            three = (s[i], s[i + 1], s[i + 2])
            noise = eps(x, s[i + 1])
            above = bdia_up(noise, x, below, three, gamma)
            residual.append(relative_distance(bdia_down(noise, above, x, three, gamma), below))
            below, x = x, above
            states.append(x)
        report_step(callback, n - 1 - i, n, x=x, sigma=s[i], denoised=eps.denoised)
    return coupled(model, grid, states, (x, below), image.dtype, ExactMethod("bdia", gamma), residual)
