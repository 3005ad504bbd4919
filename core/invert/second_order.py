"""Inversion of second order: the midpoint rule (RF-Solver, arXiv 2411.04746) and FireFlow (arXiv 2412.07517).

A fixed point returns the picture through whatever noise its steps of first order end in. These find the noise that the
model itself means by the picture, which is the better start under another prompt. The way back takes the same steps.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..denoiser import Callback, Denoiser, predict, report_step
from ..inputs import IMAGE_LIMIT, check_image, check_sigmas
from ..solver import SOLVERS, SecondOrder, Solver
from ..trajectory import Trajectory
from .ddim import levels


@torch.no_grad()
def invert_second_order(
    model: Denoiser,
    x0: Tensor,
    sigmas: Tensor,
    solver: Solver = "midpoint",
    *,
    callback: Callback | None = None,
    limit: float | None = IMAGE_LIMIT,
) -> Trajectory:
    """Walk an image up to ``sigmas[0]``; two model calls a step, or one and one more in all.

    Args:
        model: any denoiser.
        x0: image `[b c h w]` in -1..1.
        sigmas: `[n+1]`, descending to 0, as for sampling.
        solver: ``midpoint`` or ``fireflow``.
        callback: called after every step.
        limit: largest magnitude of an image; None for latents.

    Returns:
        The trajectory, which remembers its solver.

    Raises:
        ValueError: another solver, or an image or grid refused by :mod:`core.inputs`.
    """
    if solver not in SOLVERS[1:]:
        raise ValueError(f"solver must be {' or '.join(SOLVERS[1:])}, got {solver!r}")
    x = check_image(x0, limit)
    grid = check_sigmas(sigmas)
    s = grid.tolist()[::-1]
    n = len(s) - 1
    run = SecondOrder(solver, lambda z, sigma: predict(model, z, levels(z, sigma)), model.noising)
    states = [x]
    for i in range(n):
        x, denoised = run.step(x, s[i], s[i + 1])
        states.append(x)
        report_step(callback, i, n, x=x, sigma=s[i + 1], denoised=denoised)
    return Trajectory(grid, torch.stack(states[::-1]), model.fingerprint, solver, noising=model.noising, solver=solver)
