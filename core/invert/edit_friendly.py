"""Edit-friendly DDPM inversion (Huberman-Spiegelglas et al. 2024, arXiv 2304.06140, alg. 1; solver: LEDITS++, arXiv 2311.16711, sec. 3).

Every level is noised on its own, ``x_i = x0 + sigma_i * e_i`` with independent ``e_i``. The noise of a step is whatever leads from one
such state to the next, ``z_i = (x_{i+1} - mean_i) / std_i``. These z carry the picture, whatever the prompt: sampling with them and
another prompt edits it. DDPM's step in sigma is ancestral Euler; the first-order step of sde-dpm-solver++ is the same one.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor

from ..denoiser import Callback, Denoiser
from ..trajectory import Trajectory
from .ddim import levels, lift
from .inputs import IMAGE_LIMIT, check_image, check_sigmas

Solver = Literal["ddpm", "sde-dpm++2"]
SOLVERS: tuple[Solver, ...] = get_args(Solver)
METHOD = "edit-friendly "
"""What ``Trajectory.method`` begins with; the solver follows."""


def posterior(x: Tensor, s: list[float], i: int, denoised: Tensor, before: Tensor | None, solver: Solver) -> tuple[Tensor, float]:
    """Mean `[b c h w]` and standard deviation of step ``i``, from ``s[i]`` down to ``s[i+1]``.

    The last step, to 0, has no noise of its own; there the unit of z is that of the picture (standard deviation 1), so that z keeps
    what the last prediction misses.

    Args:
        x: state at ``s[i]``, `[b c h w]`.
        s: all levels, descending to 0.
        i: the step.
        denoised: prediction at ``x``, `[b c h w]`.
        before: prediction of the step before, used by ``sde-dpm++2``; None in the first step that is taken.
        solver: one of :data:`SOLVERS`.
    """
    high, low = s[i], s[i + 1]
    share = (low / high) ** 2
    if solver == "sde-dpm++2" and before is not None and low:
        ratio = math.log(high / low) / math.log(s[i - 1] / high)  # step over previous step, in log sigma
        denoised = denoised + 0.5 * ratio * (denoised - before)
    return denoised + share * (x - denoised), low * math.sqrt(1 - share) if low else 1.0


@torch.no_grad()
def invert_edit_friendly(
    model: Denoiser,
    x0: Tensor,
    sigmas: Tensor,
    solver: Solver = "ddpm",
    *,
    seed: int = 0,
    batch: int = 1,
    noise_shift: float = 0.0,
    callback: Callback | None = None,
    limit: float | None = IMAGE_LIMIT,
) -> Trajectory:
    """Noise every level, ask the model once a level, and keep the noises of all steps, the last one included.

    The noises are taken in the order of sampling, each from the state that sampling will really reach, rounding included: what one step
    misses, the next one makes up.

    Args:
        model: any denoiser.
        x0: picture `[b c h w]` in -1..1, or latents.
        sigmas: `[n+1]`, descending to 0, as for sampling.
        solver: ``ddpm``, or second-order ``sde-dpm++2`` (LEDITS++) for few steps.
        seed: of the noises e; another seed gives other edits and the same reconstruction.
        batch: levels in one model call. 1 asks at the states that sampling will reach, so that sampling back in the same batch returns
            the picture to the last bit or two, also in half precision. More is faster where a device has room: the states do not
            depend on each other but for rounding, which is then corrected only outside the network (a trained one forgives it).
        noise_shift: 0..1; states carry the noise of a level that many steps lower while the model is told the right one (TurboEdit,
            Deutch et al. 2024, arXiv 2408.00735; there 1). Linear in sigma between two levels. For 3 or 4 steps.
        callback: called after every step.
        limit: largest magnitude of an image; None for latents.

    Returns:
        The trajectory. ``states`` are those that sampling walks through, ``noises[i]`` the z from ``states[i]`` to ``states[i+1]``, and
        ``noises[-1]`` what the last prediction misses, in the unit of the picture.

    Raises:
        ValueError: an option outside its range, or an image or grid refused by :mod:`core.invert.inputs`.
    """
    if solver not in SOLVERS:
        raise ValueError(f"solver must be one of {', '.join(SOLVERS)}, got {solver!r}")
    if batch < 1:
        raise ValueError(f"batch must be 1 or more levels, got {batch}")
    if not 0 <= noise_shift <= 1:
        raise ValueError(f"noise_shift must lie in 0..1 (0 off, 1 as in TurboEdit: one step), got {noise_shift}")
    x0, grid = check_image(x0, limit), check_sigmas(sigmas)
    s, n = grid.tolist(), len(grid) - 1
    targets = _noised(x0, s, seed, noise_shift)
    predictions = None if batch == 1 else _predictions(model, targets[:-1], s, batch, callback)
    x, before, states, noises = targets[0], None, [targets[0]], []
    for i in range(n):
        denoised = model(x, levels(x, s[i])) if predictions is None else predictions[i]
        mean, std = posterior(x, s, i, denoised, before, solver)
        z = (targets[i + 1] - mean) / std
        x, before = mean + std * z, denoised
        states.append(x)
        noises.append(z)
        if predictions is None and callback is not None:
            callback({"i": i, "n": n, "x": x, "sigma": s[i], "denoised": denoised})
    states[-1] = x0
    extra = {"solver": solver, "seed": seed}
    return Trajectory(grid, torch.stack(states), model.fingerprint, METHOD + solver, noises=torch.stack(noises), extra=extra)


def _noised(x0: Tensor, s: list[float], seed: int, shift: float) -> list[Tensor]:
    """The picture at every level with noises of their own, clean end included."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for high, low in pairwise(s):
        noise = torch.randn(x0.shape, generator=generator, dtype=torch.float32).to(x0)
        held = high + shift * (low - high)
        found.append(lift(x0 + held * noise, held, high) if shift else x0 + high * noise)
    return [*found, x0]


def _predictions(model: Denoiser, states: list[Tensor], s: list[float], batch: int, callback: Callback | None) -> list[Tensor]:
    """What the model makes of every level, several levels a call; rows are ordered level by level."""
    found: list[Tensor] = []
    for first in range(0, len(states), batch):
        part = states[first : first + batch]
        rows = torch.cat([levels(x, s[first + k]) for k, x in enumerate(part)])
        made = model(torch.cat(part), rows).chunk(len(part))
        found += made
        if callback is not None:
            for k, denoised in enumerate(made):
                callback({"i": first + k, "n": len(states), "x": part[k], "sigma": s[first + k], "denoised": denoised})
    return found
