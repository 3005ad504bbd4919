"""What a trajectory's own inversion error adds at every step (offsets of Ju et al. 2024, Direct Inversion, arXiv 2310.01506, alg. 1).

Added to the steps of an edited run, the offsets take the reconstruction error out of it: with strength 0 it gives the inverted
image to rounding, and what an edit changes is the edit's own doing. One extra run of the model; good for every edit of the image.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..denoiser import Callback, Denoiser
from ..trajectory import Trajectory
from .sample import edited_step


@torch.no_grad()
def drift(model: Denoiser, trajectory: Trajectory, callback: Callback | None = None) -> Tensor:
    """Stored next state minus the plain step from the stored state, `[n b c h w]` in the order of ``sigmas``.

    Raises:
        ValueError: the model is not the one that was inverted.
    """
    trajectory.check_model(model.fingerprint)
    s, states, offsets = trajectory.sigmas.tolist(), trajectory.states, []
    for i in range(len(s) - 1):
        x = states[i]
        denoised = model(x, x.new_full((x.shape[0],), s[i]))
        offsets.append(states[i + 1] - edited_step(x, s[i], s[i + 1], denoised, denoised))
        if callback is not None:
            callback({"i": i, "n": len(s) - 1, "x": x, "sigma": s[i], "denoised": denoised})
    return torch.stack(offsets)
