"""What a trajectory's own inversion error adds at every step.

Offsets of Ju et al. 2024, Direct Inversion, arXiv 2310.01506, alg. 1.

Added to the steps of an edited run, the offsets take the reconstruction error out of it: with strength 0 it gives the
inverted image to rounding, and what an edit changes is the edit's own doing. One extra run of the model; good for every
edit of the image.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..denoiser import Callback, Denoiser, predict, report_step
from ..sample import edited_step
from ..trajectory import Trajectory


@torch.no_grad()
def drift(model: Denoiser, trajectory: Trajectory, callback: Callback | None = None) -> Tensor:
    """Subtract the plain step from the stored next state, `[n b c h w]` in the order of ``sigmas``.

    Raises:
        ValueError: the model is not the one that was inverted, or its steps are no Euler's.
    """
    trajectory.check_model(model.fingerprint)
    trajectory.check_euler("an anchor")
    s = trajectory.sigmas.tolist()
    states = trajectory.states
    offsets = []
    for i in range(len(s) - 1):
        x = states[i]
        denoised = predict(model, x, x.new_full((x.shape[0],), s[i]))
        offsets.append(states[i + 1] - edited_step(x, s[i], s[i + 1], denoised, denoised))
        report_step(callback, i, len(s) - 1, x=x, sigma=s[i], denoised=denoised)
    return torch.stack(offsets)
