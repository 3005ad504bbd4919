"""Fixed-point inversion (Pan et al. 2023, AIDI, arXiv 2309.04907, eq. 8; averaging: Garibi et al. 2024, ReNoise, arXiv 2403.14602, alg. 1).

The sampler's step from ``x'`` down to ``x`` uses eps at ``x'``; its exact inverse solves ``x' = x + (sigma' - sigma) eps(x', sigma')``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..denoiser import Callback, Denoiser, is_flow, to_eps
from ..trajectory import Trajectory
from .ddim import levels, lift
from .inputs import IMAGE_LIMIT, check_image, check_sigmas


@torch.no_grad()
def invert_fixed_point(
    model: Denoiser,
    x0: Tensor,
    sigmas: Tensor,
    iterations: int = 3,
    *,
    damping: float = 0.0,
    average: tuple[int, int] | None = None,
    anderson: bool = False,
    tol: float = 0.0,
    callback: Callback | None = None,
    limit: float | None = IMAGE_LIMIT,
) -> Trajectory:
    """Walk an image up to ``sigmas[0]`` so that sampling back returns it; ``1 + iterations`` model calls a step.

    Evaluation 0 of a step is DDIM convention B, so ``iterations=0`` equals :func:`core.invert.ddim.invert_ddim`. The iterate
    with the smallest residual of each sample is kept, so more iterations never make a step worse where they diverge.

    Args:
        model: any denoiser.
        x0: image `[b c h w]` in -1..1.
        sigmas: `[n+1]`, descending to 0.
        iterations: refinements of each step after convention B, >= 0.
        damping: share of the previous iterate that is kept, 0 <= damping < 1; for guided models that oscillate.
        average: None, or first and last evaluation (counted from 0, both included) whose eps are averaged for the step
            (ReNoise; it smooths where the iteration does not settle, and is less exact where it does).
        anderson: accelerate with the two last iterates (AIDI).
        tol: stop a step when the relative residual of every sample is at most this.
        callback: called after every model call, with ``iteration`` and ``residual`` besides the usual keys.
        limit: largest magnitude of an image; None for latents.

    Returns:
        The trajectory; ``residual`` `[n]` is the worst sample's ``|g(z) - z| / |g(z)|`` at the iterate kept, in the order of
        ``sigmas`` (with ``average``: the smallest within its range).

    Raises:
        ValueError: an option outside its range, or an image or grid refused by :mod:`core.invert.inputs`.
    """
    _check_options(iterations, damping, average, tol)
    x, grid = check_image(x0, limit), check_sigmas(sigmas)
    s, n, states, residuals = grid.tolist(), len(grid) - 1, [x], []
    for i in range(n):
        low, high = s[n - i], s[n - 1 - i]
        z, rows = lift(x, low, high, is_flow(model)), levels(x, high)
        best, best_residual, before, chosen = x, x.new_full((x.shape[0],), torch.inf), None, []
        for k in range(1 + iterations):
            denoised = model(z, rows)
            eps = to_eps(z, high, denoised)
            g = x + (high - low) * eps
            residual = _norm(g - z) / _norm(g).clamp_min(1e-12)
            if average is None or average[0] <= k <= average[1]:
                chosen.append(eps)
                better = residual < best_residual
                best = torch.where(_wide(better), g, best)
                best_residual = torch.where(better, residual, best_residual)
            if callback is not None:
                state = {"i": i, "n": n, "x": g, "sigma": high, "denoised": denoised}
                callback({**state, "iteration": k, "residual": float(residual.max())})
            if chosen and float(residual.max()) <= tol:
                break
            # The starting point of evaluation 0 is a guess of another scale, so neither scheme mixes it in.
            mixed = (1 - damping) * g + damping * z if k else g
            if anderson and before is not None:
                mixed = _anderson(z, g, *before, damping)
            before = (z, g) if k else None
            z = mixed
        x = best if average is None else x + (high - low) * torch.stack(chosen).mean(0)
        states.append(x)
        residuals.append(float(best_residual.max()))
    method = f"fixed point {iterations}" + (f" average {average[0]}-{average[1]}" if average else "") + (" anderson" if anderson else "")
    residual = torch.tensor(residuals[::-1], dtype=torch.float64)
    return Trajectory(grid, torch.stack(states[::-1]), model.fingerprint, method, residual=residual, extra={"flow": is_flow(model)})


def _anderson(z: Tensor, g: Tensor, z_old: Tensor, g_old: Tensor, damping: float) -> Tensor:
    """Next iterate from two points and their images: the affine mix whose residual is smallest (Walker and Ni 2011, m = 1)."""
    f, f_old = g - z, g_old - z_old
    d = f - f_old
    theta = _wide((f * d).flatten(1).sum(1) / d.square().flatten(1).sum(1).clamp_min(1e-20)).clamp(-1, 1)
    kept = 1 - damping
    return (1 - theta) * (z + kept * f) + theta * (z_old + kept * f_old)


def _norm(x: Tensor) -> Tensor:
    return x.flatten(1).norm(dim=1)


def _wide(v: Tensor) -> Tensor:
    return v[:, None, None, None]


def _check_options(iterations: int, damping: float, average: tuple[int, int] | None, tol: float) -> None:
    if iterations < 0:
        raise ValueError(f"iterations must be 0 or more, got {iterations}; 3 is a good start")
    if not 0 <= damping < 1:
        raise ValueError(f"damping must lie in 0 <= damping < 1, got {damping}; 0 is none, 0.3 calms an oscillation")
    if average is not None and not 0 <= average[0] <= average[1] <= iterations:
        raise ValueError(
            f"average must be a first and a last evaluation within 0..{iterations}, got {average}; raise iterations or narrow it"
        )
    if not tol >= 0:
        raise ValueError(f"tol must be 0 or more, got {tol}; 1e-5 stops early without a visible loss")
