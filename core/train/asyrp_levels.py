"""Where Asyrp edits and where it draws noise anew, by distance (Kwon et al. 2023, arXiv 2210.10960, section 3.3).

The two levels are t_edit and t_boost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..denoiser import Callback, Denoiser, report_step
from ..measure.image import Distance, structural_distance
from ..schedule import to_vp
from ..trajectory import Trajectory

# LPIPS (AlexNet), from the paper
EDIT = 0.33
BOOST = 1.2

STAND_IN_EDIT = 0.33
STAND_IN_BOOST = 0.6


@dataclass(frozen=True)
class Levels:
    """What the rule found.

    Attributes:
        sigma_edit: lowest noise level that is edited.
        sigma_boost: from here down noise is drawn anew; 0 if no level is noisy enough.
        sigmas: `[n]`, the grid.
        predicted: `[n]`, mean distance of the prediction from the picture.
        noisy: `[n]`, mean distance of the noisy picture itself.
        lpips: measured with LPIPS rather than with the stand-in.
    """

    sigma_edit: float
    sigma_boost: float
    sigmas: Tensor
    predicted: Tensor
    noisy: Tensor
    lpips: bool


@torch.no_grad()
def edit_levels(
    model: Denoiser,
    trajectory: Trajectory,
    cosine: float,
    *,
    distance: Distance | None = None,
    edit: float | None = None,
    boost: float | None = None,
    decode: Callable[[Tensor], Tensor] | None = None,
    callback: Callback | None = None,
) -> Levels:
    """Choose the levels of edit and boost by the paper's rule.

    Edit while the prediction is further from the picture than ``0.33 cos``, boost while the state is nearer than 1.2.

    Args:
        model: frozen denoiser.
        trajectory: of pictures of the model's domain (100 in the paper).
        cosine: between the two prompts' embeddings: the further apart they are, the longer is edited.
        distance: LPIPS, or None for :func:`structural_distance`, whose thresholds are not calibrated against LPIPS.
        edit, boost: thresholds; None for those of the distance.
        decode: for models of latents.
        callback: called after every step.

    Raises:
        ValueError: the trajectory belongs to another model, or no level is far enough.
    """
    trajectory.check_model(model.fingerprint)
    decode = decode or (lambda x: x)
    measure = distance or structural_distance
    edit = (EDIT if distance else STAND_IN_EDIT) if edit is None else edit
    boost = (BOOST if distance else STAND_IN_BOOST) if boost is None else boost
    picture = decode(trajectory.x0)
    grid = trajectory.sigmas[:-1].tolist()
    predicted = []
    noisy = []
    for i, sigma in enumerate(grid):
        x = trajectory.states[i]
        shown = model(x, x.new_full((len(x),), sigma))
        predicted.append(measure(decode(shown), picture).mean())
        noisy.append(measure(decode(to_vp(x, sigma)), picture).mean())  # as a VP model sees it
        report_step(callback, i, len(grid), x=x, sigma=sigma, denoised=shown)
    far = torch.stack(predicted).cpu()
    loud = torch.stack(noisy).cpu()
    edited = [s for s, d in zip(grid, far.tolist(), strict=True) if d >= edit * cosine]
    if not edited:
        raise ValueError(
            f"no step's prediction is {edit * cosine:.2f} from the picture (the noisiest is {float(far[0]):.2f});"
            " invert up to more noise, or set sigma_edit by hand"
        )
    boosted = [s for s, d in zip(grid, loud.tolist(), strict=True) if d >= boost]
    return Levels(
        min(edited), min(boosted) if boosted else 0.0, trajectory.sigmas[:-1], far, loud, distance is not None
    )
