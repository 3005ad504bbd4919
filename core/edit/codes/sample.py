"""New semantic codes from the latent network: DDIM on normalised codes, in the sigma dialect.

DiffAE, arXiv 2111.15640, section 4.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from ...codes import CodeSpace
from ...denoiser import Callback, report_step
from ...networks.latent_mlp import SCHEDULE, LatentMLP
from ...sample import edited_step
from ...schedule import Schedule, from_vp, grid, grid_sigmas, snap_steps, to_vp


@torch.no_grad()
def sample_codes(
    latent: LatentMLP | None,
    space: CodeSpace,
    noise: Tensor,
    steps: int = 200,
    callback: Callback | None = None,
    schedule: Schedule = SCHEDULE,
) -> Tensor:
    """Draw codes that the autoencoder could have made of pictures it was trained on.

    Args:
        latent: of the model.
        space: of its codes, with statistics.
        noise: `[b d]`, standard normal; decides which codes.
        steps: model calls, snapped to a number that a whole stride makes.
        callback: called after every step; may raise to cancel.
        schedule: of the latent network.

    Returns:
        `[b z]` or `[b l z]`, not normalised.

    Raises:
        ValueError: no latent network, no statistics, or noise of another size.
    """
    if latent is None:
        raise ValueError(
            "this model has no latent network, so codes cannot be sampled; load the checkpoint of its latent network"
        )
    space.normalise(noise.new_zeros(1, *space.shape))  # says what to do if the statistics are missing
    if noise.dim() != 2 or noise.shape[1] != space.size or latent.config.size != space.size:
        raise ValueError(
            f"noise must be [b {space.size}] for a latent network of that size, got {list(noise.shape)},"
            f" {latent.config.size}"
        )
    weight = cast(Tensor, latent.time_embed[0].weight)
    n = snap_steps(steps, schedule.steps)
    sigmas = grid_sigmas(schedule, n, "stride").tolist()
    ts = grid(schedule, n, "stride").tolist()
    x = from_vp(noise.float(), sigmas[0])
    for i, t in enumerate(ts):
        state = to_vp(x, sigmas[i]).to(weight)
        denoised = x - sigmas[i] * latent(state, torch.full((len(x),), t, device=weight.device)).to(x)
        x = edited_step(x, sigmas[i], sigmas[i + 1], denoised, denoised)
        report_step(callback, i, n, x=x, sigma=sigmas[i], denoised=denoised)
    return space.restore(x)
