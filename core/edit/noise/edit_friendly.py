"""Sampling with stored noises.

Edit-friendly DDPM, arXiv 2304.06140, sec. 3.3; LEDITS++, 2311.16711; TurboEdit, 2408.00735.

TurboEdit's pseudo-guidance needs no code of its own: ``mean(src) + w (mean(tgt) - mean(src))`` is linear in the
predictions, and so it is classifier-free guidance of scale w with the source prompt in the place of the negative one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...denoiser import Callback, Denoiser, predict, report_step
from ...invert.edit_friendly import METHOD, SOLVERS, Solver, posterior, predict_levels
from ...masks import fit_mask
from ...schedule import in_steps
from ...trajectory import Trajectory, relative_distance

_ASIDE = 5e-3  # relative; half precision in batches is off by 1e-3, a noise that is wrong by a hundredth by 6e-3
Hold = Callable[[int, Tensor], Tensor]
"""``hold(i, x)``: what takes the place of the state ``x`` at level ``i`` before the model sees it, and at the clean
end."""


def noises_of(trajectory: Trajectory) -> tuple[Solver, Tensor]:
    """Read the solver that a trajectory was made for, and its noises `[n b c h w]`.

    Raises:
        ValueError: it carries none.
    """
    solver = trajectory.method.removeprefix(METHOD)
    if trajectory.noises is None or solver not in SOLVERS:
        raise ValueError(
            f"this trajectory ({trajectory.method or 'of unknown origin'}) carries no noises of an edit-friendly"
            " inversion; make it with Edit-Friendly Inversion, or sample it with Resume Trajectory"
        )
    return next(s for s in SOLVERS if s == solver), trajectory.noises


@dataclass(frozen=True)
class EditFriendlyOptions:
    """How the stored noises bring a picture back.

    Attributes:
        skip: steps left out at the noisy end. More stays closer to the picture (paper: 36 of 100; 0 to 40).
        strength: of the noises; below 1 the picture's hold on the result loosens.
        shift: rows down and columns to the right by which the picture moves, in pixels of the state, around the edges:
            the first state and all noises are rolled ("shifting" in the paper).
        clip: largest root mean square of the last noise of a sample, 0 is no limit (TurboEdit limits it when the model
            takes few steps).
    """

    skip: int = 0
    strength: float = 1.0
    shift: tuple[int, int] = (0, 0)
    clip: float = 0.0


@torch.no_grad()
def sample_edit_friendly(
    model: Callable[[Tensor, Tensor], Tensor],
    trajectory: Trajectory,
    options: EditFriendlyOptions | None = None,
    *,
    rows: int | None = None,
    hold: Hold | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Walk down from a stored state with the stored noises.

    With the model and prompt of the inversion this is the picture itself.

    Args:
        model: ``model(x, sigma) -> denoised``, with whatever prompt the picture is to follow.
        trajectory: from :func:`core.invert.edit_friendly.invert_edit_friendly`.
        options: how.
        rows: batch of the result, if the trajectory holds one picture and several edits share it.
        hold: see :data:`Hold`; for masks and rows that must stay.
        callback: called after every step.

    Returns:
        Picture `[b c h w]`.

    Raises:
        ValueError: no noises, an option outside its range, or a batch that does not fit.
    """
    options = options or EditFriendlyOptions()
    skip = options.skip
    (solver, noises), n = noises_of(trajectory), len(trajectory.sigmas) - 1
    check_skip(skip, n)
    if not options.clip >= 0:
        raise ValueError(f"clip must be 0 (no limit) or more, got {options.clip}")
    trajectory.check_pictures("the edit-friendly way back")
    pictures = trajectory.states.shape[1]
    rows = rows or pictures
    if pictures not in (1, rows):
        raise ValueError(
            f"the trajectory holds {pictures} pictures, the batch to sample {rows}; make them equal, or invert one"
            " picture alone"
        )

    def moved(v: Tensor) -> Tensor:
        rolled = torch.roll(v, options.shift, (-2, -1)) if any(options.shift) else v
        return rolled.expand(rows, -1, -1, -1)

    s = trajectory.sigmas.tolist()
    before = None
    if skip and solver != "ddpm":  # the step before, which a second-order step looks back at
        before = predict(model, moved(trajectory.states[skip - 1]), noises.new_full((rows,), s[skip - 1]))
    x = moved(trajectory.states[skip])
    for i in range(skip, n):
        x = hold(i, x) if hold is not None else x
        denoised = predict(model, x, x.new_full((rows,), s[i]))
        mean, std = posterior(x, s, i, denoised, before, solver)
        z = _clipped(noises[i], options.clip) if options.clip and i == n - 1 else noises[i]
        x = mean + std * options.strength * moved(z)
        before = denoised
        report_step(callback, i - skip, n - skip, x=x, sigma=s[i], denoised=denoised)
    return hold(n, x) if hold is not None else x


def recolour(
    trajectory: Trajectory,
    colour: Tensor,
    mask: Tensor | None,
    strength: float = 0.05,
    window: tuple[float, float] = (0.3, 0.8),
) -> Trajectory:
    """Paint into the noises: ``z + strength * mask * colour`` in a window of the steps.

    "Color manipulation" in the paper.

    Args:
        trajectory: from :func:`core.invert.edit_friendly.invert_edit_friendly`.
        colour: a picture in the colours wished for, or its latents, `[1 or b c h w]`; black pixels (-1) pull towards
            black.
        mask: `[h w]` in 0..1, where; None: everywhere.
        strength: in units of the noise, added at every step of the window (paper: 0.05 over 50 of 100 steps); below 0
            away from the colour.
        window: shares of the steps, counted from the noisiest (paper: 0.3 to 0.8). The last noise, which is none, stays
            as it is.

    Returns:
        The trajectory with other noises; with strength 0 itself.

    Raises:
        ValueError: no noises, a window that is none, a strength that is no number, or a colour or mask that does not
            fit.
    """
    _, noises = noises_of(trajectory)
    start, end = window
    if not 0 <= start <= end <= 1:
        raise ValueError(
            f"start and end must be shares of the steps with 0 <= start <= end <= 1, got {start:g} and {end:g}"
        )
    if not abs(strength) < float("inf"):
        raise ValueError(f"strength must be a finite number, got {strength}; the paper has 0.05")
    if colour.shape[1:] != noises.shape[2:] or len(colour) not in (1, noises.shape[1]):
        raise ValueError(
            f"the colour has shape {list(colour.shape)}, the picture {list(noises.shape[1:])}; make both of one size"
        )
    where = 1.0 if mask is None else fit_mask(mask.to(noises.device), *noises.shape[-2:])
    paint = strength * where * colour.to(noises)
    n = len(noises)
    painted = [z + paint if i < n - 1 and in_steps(window, i, n) else z for i, z in enumerate(noises)]
    return replace(trajectory, noises=torch.stack(painted)) if strength else trajectory


def rebuild(model: Denoiser, trajectory: Trajectory, callback: Callback | None = None, *, batch: int = 1) -> Trajectory:
    """Add the ``reconstruction`` to a trajectory: all steps with the prompt of the inversion.

    Args:
        model: the denoiser that was inverted.
        trajectory: of that inversion.
        callback: called after every step.
        batch: levels in one model call. 1 samples back. More asks at the stored states, which are those that sampling
            passes through, and walks down with what the model says there; where that leaves them it is sampled back.

    Raises:
        ValueError: the model is not the one that was inverted.
    """
    trajectory.check_model(model.fingerprint)
    image = None if batch == 1 else _walk_with_stored(model, trajectory, batch, callback)
    if image is None:
        image = sample_edit_friendly(model, trajectory, callback=callback)
    return replace(trajectory, reconstruction=image)


def _walk_with_stored(model: Denoiser, trajectory: Trajectory, batch: int, callback: Callback | None) -> Tensor | None:
    """Walk down with predictions at the stored states, several levels a call; None if the walk leaves these states."""
    solver, noises = noises_of(trajectory)
    s = trajectory.sigmas.tolist()
    predictions = predict_levels(model, list(trajectory.states[:-1]), s, batch, callback)
    x = trajectory.noisiest
    before = None
    for i, denoised in enumerate(predictions):
        mean, std = posterior(x, s, i, denoised, before, solver)
        x = mean + std * noises[i]
        if not relative_distance(x, trajectory.states[i + 1]) < _ASIDE:
            return None
        before = denoised
    return x


def check_skip(skip: int, steps: int) -> None:
    """Refuse to skip all steps or a negative number.

    Raises:
        ValueError: it is outside 0..steps-1.
    """
    if not 0 <= skip < steps:
        raise ValueError(
            f"skip must lie in 0..{steps - 1} for a trajectory of {steps} steps, got {skip}; about a third is a good"
            " start"
        )


def holding(trajectory: Trajectory, mask: Callable[[float], Tensor] | None = None, sources: int = 0) -> Hold | None:
    """Keep parts of a batch at the stored states, so that at the end they are the inverted picture itself.

    Args:
        trajectory: on the device of the run.
        mask: sigma -> region that may change, 0..1, broadcasting to `[b c h w]` (1: edited, as in the host's noise
            masks). The clean end is blended like the last level.
        sources: the first of every so many rows is the picture itself, whatever its prompt and guidance make of it; 0:
            none is.
    """
    if mask is None and not sources:
        return None

    def hold(i: int, x: Tensor) -> Tensor:
        stored = trajectory.states[i].to(x)
        if mask is not None:
            level = float(trajectory.sigmas[min(i, len(trajectory.sigmas) - 2)])
            x = torch.lerp(stored.expand_as(x), x, mask(level).to(x).expand_as(x))
        if sources:
            x = x.clone()
            x[::sources] = stored.expand_as(x)[::sources]
        return x

    return hold


def _clipped(z: Tensor, limit: float) -> Tensor:
    size = z.square().mean((1, 2, 3), keepdim=True).sqrt()
    return z * (limit / size.clamp_min(1e-12)).clamp(max=1)
