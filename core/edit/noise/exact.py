"""Sample the way back of the exact inversions EDICT and BDIA.

EDICT: Wallace et al. 2022, arXiv 2211.12446. BDIA: Zhang et al. 2023, arXiv 2307.10829.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ...denoiser import Callback, Denoiser, report_step
from ...float64 import widen
from ...invert.bdia import bdia_down
from ...invert.coupled import Noise
from ...invert.edict import alternated, edict_down
from ...trajectory import ExactMethod, Trajectory


def is_exact(trajectory: Trajectory) -> bool:
    """Say whether a coupled inversion made the trajectory, so that a plain sampler does not bring its picture back."""
    return trajectory.exact is not None


def check_plain(trajectory: Trajectory) -> None:
    """Refuse a trajectory that a plain sampler does not bring back.

    Raises:
        ValueError: it is of a coupled inversion, or its noises bring it back.
    """
    if trajectory.noises is not None:
        raise ValueError(
            f"this trajectory was inverted by {trajectory.method} and comes back with its own noises only; connect"
            " Sample Edit-Friendly"
        )
    if is_exact(trajectory):
        raise ValueError(
            f"this trajectory was inverted by {trajectory.method} and comes back through Sample Exact Inversion only;"
            " connect that node"
        )


@torch.no_grad()
def sample_exact(
    model: Denoiser,
    trajectory: Trajectory,
    *,
    hold: Callable[[int, Tensor], Tensor] | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Sample back with the integrator of the inversion, from both stored states.

    Args:
        model: the denoiser that was inverted (the picture comes back), or an edit of it: steered, or with another
            prompt.
        trajectory: from ``invert_edict`` or ``invert_bdia``.
        hold: ``hold(i, x)``: what takes the place of both states at level ``i`` after a step, to keep a part of the
            picture. EDICT's second state is not stored and is held at the first one's, which ends in the picture
            itself.
        callback: called after every step.

    Returns:
        Image `[b c h w]` in the dtype of the trajectory.

    Raises:
        ValueError: the trajectory came from another inversion, or was changed since.
    """
    pair, how = _stored(trajectory)
    dtype = trajectory.states.dtype
    s = trajectory.sigmas.tolist()
    x, y = (widen(part.to(trajectory.states.device)) for part in pair)
    eps = Noise(model, dtype)
    n = len(s) - 1
    for i in range(n):
        if how.method == "edict":
            x, y = alternated(edict_down, i, eps, x, y, s[i], s[i + 1], how.parameter)
        elif i < n - 1:  # x is the state at i, y that at i + 1
            x, y = y, bdia_down(eps(y, s[i + 1]), x, y, (s[i], s[i + 1], s[i + 2]), how.parameter)
        else:  # the last pair already ends in the image
            x = y
        if hold is not None:
            x = hold(i + 1, x)
            y = hold(min(i + 1 + (how.method == "bdia"), n), y)
        report_step(callback, i, n, x=x, sigma=s[i], denoised=eps.denoised)
    return x.to(dtype)


def reconstruct_exact(model: Denoiser, trajectory: Trajectory, callback: Callback | None = None) -> Trajectory:
    """Add the ``reconstruction`` by :func:`sample_exact` to a trajectory.

    Raises:
        ValueError: the model is not the one that was inverted, or the trajectory is not of an exact inversion.
    """
    trajectory.check_model(model.fingerprint)
    return replace(trajectory, reconstruction=sample_exact(model, trajectory, callback=callback))


def _stored(trajectory: Trajectory) -> tuple[Tensor, ExactMethod]:
    how = trajectory.exact
    pair = trajectory.pair
    if how is None or pair is None:
        raise ValueError(
            f"this trajectory was inverted by {trajectory.method or 'another method'} and has no coupled states; "
            "invert the image again with method edict or bdia, or use Resume Trajectory"
        )
    top = trajectory.noisiest
    if pair.shape != (2, *top.shape) or not torch.equal(pair[0].to(top), top):
        raise ValueError(
            "the states of this trajectory were changed after its inversion, so there is no exact way back; invert the"
            " image again"
        )
    return pair, how
