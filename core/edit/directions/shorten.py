"""The part of a way back on which an edit acts, in all of its steps or in a few (no paper)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ...denoiser import Denoiser
from ...sample import walk_down
from ...trajectory import Trajectory
from .shift import Shift
from .steer import edited_steps


def below_window(
    trajectory: Trajectory,
    edits: Sequence[Shift],
    edited: Callable[[float], bool] | None = None,
    steps: int = 0,
) -> Trajectory:
    """Cut off the steps above the first that is edited, and keep some of the others.

    Args:
        trajectory: of pictures.
        edits: of h, at strengths other than 0.
        edited: whether the model itself is edited at a noise level; None if it is not.
        steps: how many steps are kept, spread evenly, and one in the window of each edit; 0 keeps all.

    Returns:
        A trajectory that starts there. It knows no reconstruction.
    """
    changed = edited_steps(trajectory, edits, edited)
    first = 0 if trajectory.moved or not any(changed) else changed.index(True)
    last = len(changed)
    kept = set(range(first, last))
    if steps and len(kept) > steps:
        kept = {round(first + (last - 1 - first) * i / (steps - 1)) for i in range(steps)}
        kept |= {_first_in(trajectory, edit, first) for edit in edits}
    chosen = [*sorted(kept), last]
    return replace(
        trajectory,
        sigmas=trajectory.sigmas[chosen],
        states=trajectory.states[chosen],
        noises=None,
        reconstruction=None,
        residual=None,
    )


def as_sampled(model: Denoiser, trajectory: Trajectory, part: Trajectory) -> Trajectory:
    """Begin a part of a way back where sampling from the top of all of it arrives.

    Args:
        model: unedited above the part.
        trajectory: all of it.
        part: of :func:`below_window`.

    Returns:
        ``part`` itself where its stored state is the same.
    """
    first = len(trajectory.sigmas) - int((trajectory.sigmas <= part.sigmas[0]).sum())
    if trajectory.is_consistent or not first:
        return part
    levels = trajectory.sigmas.tolist()[: first + 1]
    states = part.states.clone()
    states[0] = walk_down(model, trajectory.noisiest, levels)
    return replace(part, states=states)


def _first_in(trajectory: Trajectory, edit: Shift, first: int) -> int:
    """Find the first step from ``first`` on in the window of an edit; ``first`` itself if there is none."""
    levels = trajectory.sigmas[:-1].tolist()
    return next((i for i in range(first, len(levels)) if edit.schedule.covers(levels[i])), first)
