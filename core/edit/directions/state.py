"""Edit the state at one noise level: by a step along v, or by x-space guidance.

LOCO, arXiv 2409.02374. Guidance: Park et al., arXiv 2307.12868.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from ...denoiser import Denoiser, predict, to_eps
from ...directions import Directions
from ...discover.loco import STATE
from ...schedule import vp_scale
from ...trajectory import Trajectory

WAYS = ("step", "guidance")


@torch.no_grad()
def edit_state(
    model: Denoiser,
    trajectory: Trajectory,
    directions: Directions,
    strength: float,
    *,
    index: int = 0,
    how: str = "step",
    repeats: int = 16,
) -> Trajectory:
    """Cut a trajectory off above the level of the directions, and edit its first state.

    Sampling from there gives the edited image.

    Args:
        model: the denoiser that was inverted.
        trajectory: of one or more images.
        directions: of the state (layer ``x``), found by ``loco`` or ``pullback``.
        strength: in the papers' variance-preserving unit. ``step``: length of the whole step (LOCO on CelebA-HQ: 16 x
            0.5 = 8).
            ``guidance``: factor of each repeat (Park et al.: 0.5 at t = T to 16 at t = 0.4 T over 16 repeats, times
                0.1).
        index: which direction.
        how: ``step`` adds ``strength * v``; ``guidance`` repeats ``x += strength * (eps(x + v) - eps(x))``.
        repeats: of the guidance.

    Returns:
        A trajectory whose grid begins at the edited level and that is marked as moved; with strength 0 its states are
        those of the old one, and so is the mark.

    Raises:
        ValueError: directions of h, of another model or size.
    """
    if how not in WAYS:
        raise ValueError(f"how must be one of {', '.join(WAYS)}, got {how!r}")
    if directions.layer != STATE:
        raise ValueError(
            f"these directions live at layer {directions.layer!r}; steer with them instead: only those of x move the"
            " state"
        )
    trajectory.check_model(model.fingerprint)
    directions.check_model(model.fingerprint, (STATE,))
    i = trajectory.nearest(float(directions.sigmas[0]))
    sigma = float(trajectory.sigmas[i])
    x = trajectory.states[i]
    v = directions.select([index]).vectors[0].to(x)
    if v.shape[1:] != x.shape[1:]:
        raise ValueError(
            f"the direction is {list(v.shape[1:])}, the state {list(x.shape[1:])}; use a picture of the size it was"
            " found at"
        )
    unit = vp_scale(sigma)
    rows = x.new_full((len(x),), sigma)
    if how == "step":
        x = x + strength * unit * v
    elif strength:
        for _ in range(repeats):
            moved, plain = (to_eps(y, sigma, predict(model, y, rows)) for y in (x + unit * v, x))
            x = x + strength * unit * (moved - plain)
    noises = None if trajectory.noises is None else trajectory.noises[i:]
    residual = None if trajectory.residual is None else trajectory.residual[i:]
    states = torch.cat([x[None], trajectory.states[i + 1 :]])
    return replace(
        trajectory,
        sigmas=trajectory.sigmas[i:],
        states=states,
        noises=noises,
        residual=residual,
        moved=trajectory.moved or bool(strength),
    )
