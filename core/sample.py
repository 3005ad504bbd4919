"""DDIM and DDPM sampling as Euler steps in sigma; Asyrp's step is the same line.

Song, Meng, Ermon 2021, arXiv 2010.02502, eq. 12.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from .denoiser import Callback, Denoiser, predict, report_step
from .inputs import check_sigmas
from .noise import drawn_rows
from .solver import SecondOrder, Solver
from .trajectory import Trajectory


def edited_step(
    x: Tensor,
    sigma: float,
    nxt: float,
    denoised: Tensor,
    plain: Tensor,
    *,
    eta: float = 0.0,
    noise: Tensor | None = None,
) -> Tensor:
    """Take one step down, ``x' = denoised + sigma' * (x - plain) / sigma``.

    The prediction is of one output, the direction of another.

    With ``plain is denoised`` this is DDIM (eta 0) up to DDPM (eta 1). With an edited ``denoised`` and the unedited
    ``plain`` it is the asymmetric reverse process (Kwon et al. 2023, Asyrp, arXiv 2210.10960, eq. 5).

    Args:
        x: state at ``sigma``, `[b c h w]`.
        sigma: level now, > 0.
        nxt: level to go to, 0 <= nxt < sigma.
        denoised: prediction that is kept, `[b c h w]`.
        plain: prediction from which the direction is taken, `[b c h w]`.
        eta: share of the posterior noise that is drawn anew, 0..1.
        noise: `[b c h w]`, standard normal; needed for eta > 0 unless ``nxt`` is 0.

    Raises:
        ValueError: eta > 0 without noise.
    """
    up = eta * nxt * math.sqrt(max(sigma * sigma - nxt * nxt, 0.0)) / sigma
    down = math.sqrt(max(nxt * nxt - up * up, 0.0))
    x = denoised + (down / sigma) * (x - plain)
    if not up:
        return x
    if noise is None:
        raise ValueError(f"a step with eta {eta:g} draws noise, but none was given; pass noise, or set eta to 0")
    return x + up * noise


@torch.no_grad()
def sample_ddim(
    model: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    *,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Walk a state down to the clean image; one model call a step.

    Args:
        model: any denoiser.
        x: state at ``sigmas[0]``, `[b c h w]`.
        sigmas: `[n+1]`, descending to 0.
        eta: 0 is DDIM, 1 is DDPM.
        generator: CPU generator of the noise, which differs from row to row: many pictures at once, for statistics.
            Needed for eta > 0.
        callback: called after every step.

    Returns:
        Image `[b c h w]`.

    Raises:
        ValueError: eta outside 0..1 or without a generator, or a grid refused by :mod:`core.inputs`.
    """
    check_eta(eta)
    if eta and generator is None:
        raise ValueError(
            f"sampling with eta {eta:g} draws noise and needs a generator; pass torch.Generator().manual_seed(seed)"
        )
    s = check_sigmas(sigmas).tolist()
    n = len(s) - 1
    for i in range(n):
        denoised = predict(model, x, x.new_full((x.shape[0],), s[i]))
        noise = None
        if generator is not None and eta and s[i + 1]:
            noise = drawn_rows(len(x), x.shape[1:], generator).to(x)
        x = edited_step(x, s[i], s[i + 1], denoised, denoised, eta=eta, noise=noise)
        report_step(callback, i, n, x=x, sigma=s[i], denoised=denoised)
    return x


@torch.no_grad()
def walk_down(model: Denoiser, x: Tensor, levels: Sequence[float], callback: Callback | None = None) -> Tensor:
    """Walk a state `[b c h w]` down by DDIM, along a part of a grid, from its first level to its last; shape kept."""
    n = len(levels) - 1
    for i, (sigma, nxt) in enumerate(pairwise(levels)):
        denoised = predict(model, x, x.new_full((x.shape[0],), sigma))
        x = edited_step(x, sigma, nxt, denoised, denoised)
        report_step(callback, i, n, x=x, sigma=sigma, denoised=denoised)
    return x


@torch.no_grad()
def walk_second_order(
    model: Denoiser, x: Tensor, levels: Sequence[float], solver: Solver, callback: Callback | None = None
) -> Tensor:
    """Walk a state `[b c h w]` down by a solver of second order, from the first level to the last; shape kept."""
    n = len(levels) - 1
    run = SecondOrder(solver, lambda z, s: predict(model, z, z.new_full((z.shape[0],), s)), model.noising)
    for i, (sigma, nxt) in enumerate(pairwise(levels)):
        x, denoised = run.step(x, sigma, nxt)
        report_step(callback, i, n, x=x, sigma=sigma, denoised=denoised)
    return x


def reconstruct(model: Denoiser, trajectory: Trajectory, callback: Callback | None = None) -> Trajectory:
    """Add the ``reconstruction`` to a trajectory.

    Deterministic sampling back from the noisiest state along the same grid; from the state below it where that one was
    moved, so that it is the picture's own.

    Raises:
        ValueError: the model is not the one that was inverted.
    """
    trajectory.check_model(model.fingerprint)
    first = 1 if trajectory.moved else 0
    grid = trajectory.sigmas[first:]
    x = trajectory.states[first]
    if len(grid) == 1:
        return replace(trajectory, reconstruction=x)
    if trajectory.solver == "euler":
        return replace(trajectory, reconstruction=sample_ddim(model, x, grid, callback=callback))
    rebuilt = walk_second_order(model, x, grid.tolist(), trajectory.solver, callback)
    return replace(trajectory, reconstruction=rebuilt)


def known_reconstruction(trajectory: Trajectory) -> Tensor | None:
    """Give the picture that sampling back ends in, `[b c h w]`, where nobody needs to sample for it; else None.

    It is the stored reconstruction, or the inverted picture itself, to which an exact enough trajectory comes back.
    """
    if trajectory.reconstruction is not None:
        return trajectory.reconstruction
    return trajectory.x0 if trajectory.is_consistent else None


def check_eta(eta: float) -> None:
    """Refuse an eta outside 0..1.

    Raises:
        ValueError: it is outside, or NaN.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must lie in 0..1 (0 deterministic, 1 as much fresh noise as DDPM), got {eta}")
