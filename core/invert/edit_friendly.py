"""Edit-friendly DDPM inversion.

Huberman-Spiegelglas et al. 2024, arXiv 2304.06140, alg. 1; solver: LEDITS++, arXiv 2311.16711, sec. 3.

Every level is noised on its own, ``x_i = x0 + sigma_i * e_i`` with independent ``e_i``. The noise of a step is whatever
leads from one such state to the next, ``z_i = (x_{i+1} - mean_i) / std_i``. These z carry the picture, whatever the
prompt: sampling with them and another prompt edits it. DDPM's step in sigma is ancestral Euler; the first-order step of
    sde-dpm-solver++ is the same one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor

from ..denoiser import Callback, Denoiser, predict, report_step
from ..inputs import IMAGE_LIMIT, check_image, check_sigmas
from ..noise import fresh_noise
from ..trajectory import Trajectory, relative_distance
from .ddim import levels, lift

Solver = Literal["ddpm", "sde-dpm++2"]
SOLVERS: tuple[Solver, ...] = get_args(Solver)
METHOD = "edit-friendly "
"""What ``Trajectory.method`` begins with; the solver follows."""


def posterior(
    x: Tensor, s: list[float], i: int, denoised: Tensor, before: Tensor | None, solver: Solver
) -> tuple[Tensor, float]:
    """Compute mean `[b c h w]` and standard deviation of step ``i``, from ``s[i]`` down to ``s[i+1]``.

    The last step, to 0, has no noise of its own; there the unit of z is that of the picture (standard deviation 1), so
    that z keeps what the last prediction misses.

    Args:
        x: state at ``s[i]``, `[b c h w]`.
        s: all levels, descending to 0.
        i: the step.
        denoised: prediction at ``x``, `[b c h w]`.
        before: prediction of the step before, used by ``sde-dpm++2``; None in the first step that is taken.
        solver: one of :data:`SOLVERS`.
    """
    high = s[i]
    low = s[i + 1]
    share = (low / high) ** 2
    if solver == "sde-dpm++2" and before is not None and low:
        ratio = math.log(high / low) / math.log(s[i - 1] / high)  # step over previous step, in log sigma
        denoised = denoised + 0.5 * ratio * (denoised - before)
    return denoised + share * (x - denoised), low * math.sqrt(1 - share) if low else 1.0


@dataclass(frozen=True)
class NoiseSettings:
    """Which noises an edit-friendly inversion keeps.

    Attributes:
        solver: ``ddpm``, or second-order ``sde-dpm++2`` (LEDITS++) for few steps.
        seed: of the noises e, the same for every picture of a batch; another seed gives other edits and the same
            reconstruction.
        noise_shift: 0..1; states carry the noise of a level that many steps lower while the model is told the right one
            (TurboEdit, Deutch et al. 2024, arXiv 2408.00735; there 1). Linear in sigma between two levels. For 3 or 4
            steps.

    Raises:
        ValueError: an option outside its range.
    """

    solver: Solver = "ddpm"
    seed: int = 0
    noise_shift: float = 0.0

    def __post_init__(self) -> None:
        if self.solver not in SOLVERS:
            raise ValueError(f"solver must be one of {', '.join(SOLVERS)}, got {self.solver!r}")
        if not 0 <= self.noise_shift <= 1:
            raise ValueError(
                f"noise_shift must lie in 0..1 (0 off, 1 as in TurboEdit: one step), got {self.noise_shift}"
            )


@torch.no_grad()
def invert_edit_friendly(
    model: Denoiser,
    x0: Tensor,
    sigmas: Tensor,
    settings: NoiseSettings | None = None,
    *,
    batch: int = 1,
    callback: Callback | None = None,
    limit: float | None = IMAGE_LIMIT,
) -> Trajectory:
    """Noise every level, ask the model once a level, and keep the noises of all steps, the last one included.

    The noises are taken in the order of sampling, each from the state that sampling will really reach, rounding
    included: what one step misses, the next one makes up.

    Args:
        model: any denoiser.
        x0: picture `[b c h w]` in -1..1, or latents.
        sigmas: `[n+1]`, descending to 0, as for sampling.
        settings: which noises.
        batch: levels in one model call. 1 asks at the states that sampling will reach, so that sampling back in the
            same batch returns the picture to the last bit or two, also in half precision. More is faster where a device
            has room: the states do not depend on each other but for rounding, which is then corrected only outside the
            network (a trained one forgives it).
        callback: called after every step.
        limit: largest magnitude of an image; None for latents.

    Returns:
        The trajectory. ``states`` are those that sampling walks through, ``noises[i]`` the z from ``states[i]`` to
        ``states[i+1]``, and ``noises[-1]`` what the last prediction misses, in the unit of the picture. ``residual`` is
        how far each step lands from the state that it was solved for: rounding.

    Raises:
        ValueError: no level a call, or an image or grid refused by :mod:`core.inputs`.
    """
    settings = settings or NoiseSettings()
    if batch < 1:
        raise ValueError(f"batch must be 1 or more levels, got {batch}")
    x0 = check_image(x0, limit)
    grid = check_sigmas(sigmas)
    s = grid.tolist()
    n = len(grid) - 1
    targets = _noised(x0, s, settings.seed, settings.noise_shift)
    predictions = None if batch == 1 else predict_levels(model, targets[:-1], s, batch, callback)
    x = targets[0]
    before = None
    states = [targets[0]]
    noises = []
    residual = []
    for i in range(n):
        denoised = predict(model, x, levels(x, s[i])) if predictions is None else predictions[i]
        mean, std = posterior(x, s, i, denoised, before, settings.solver)
        z = (targets[i + 1] - mean) / std
        x = mean + std * z
        residual.append(relative_distance(x, targets[i + 1]))
        before = denoised
        states.append(x)
        noises.append(z)
        if predictions is None:
            report_step(callback, i, n, x=x, sigma=s[i], denoised=denoised)
    states[-1] = x0
    return Trajectory(
        grid,
        torch.stack(states),
        model.fingerprint,
        METHOD + settings.solver,
        noises=torch.stack(noises),
        residual=torch.tensor(residual, dtype=torch.float64),
        seed=settings.seed,
    )


def _noised(x0: Tensor, s: list[float], seed: int, shift: float) -> list[Tensor]:
    """Noise the picture at every level with noises of their own, clean end included."""
    generator = torch.Generator().manual_seed(seed)
    states = []
    for high, low in pairwise(s):
        noise = fresh_noise(x0, generator)
        level = high + shift * (low - high)
        states.append(lift(x0 + level * noise, level, high) if shift else x0 + high * noise)
    return [*states, x0]


def predict_levels(
    model: Denoiser, states: list[Tensor], s: list[float], batch: int, callback: Callback | None
) -> list[Tensor]:
    """Predict the picture from every level, ``batch`` levels a call; rows are ordered level by level.

    Args:
        model: any denoiser.
        states: `[b c h w]` of each level.
        s: the levels.
        batch: how many of them in a call.
        callback: called for every level.
    """
    predictions: list[Tensor] = []
    for first in range(0, len(states), batch):
        part = states[first : first + batch]
        rows = torch.cat([levels(x, s[first + k]) for k, x in enumerate(part)])
        denoised_levels = predict(model, torch.cat(list(part)), rows).chunk(len(part))
        predictions += denoised_levels
        for k, denoised in enumerate(denoised_levels):
            report_step(callback, first + k, len(states), x=part[k], sigma=s[first + k], denoised=denoised)
    return predictions
