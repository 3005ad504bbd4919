"""A picture of an unseen kind into the model's own domain.

DiffusionCLIP, Kim et al. 2022, arXiv 2110.02711, section 3.3.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...denoiser import Callback, Denoiser
from ..noise.sdedit import SDEditOptions, sdedit


def into_domain(
    model: Denoiser,
    x0: Tensor,
    *,
    sigma: float,
    steps: int = 6,
    repeats: int = 8,
    seed: int = 0,
    callback: Callback | None = None,
) -> Tensor:
    """Noise the picture up to a level, walk down in a few deterministic steps, and again.

    Args:
        model: the original, not a fine-tuned one.
        x0: pictures `[b c h w]`, as states of the model.
        sigma: how much noise (t0 = 500 in the paper).
        steps: of every walk down.
        repeats: how often; 8 or more in the paper.
        seed: of the noise, which is the same for every picture of a batch.
        callback: called after every step.

    Returns:
        Pictures `[b c h w]` of the model's domain: the layout of the old ones, the look of what the model knows.

    Raises:
        ValueError: sigma, steps or repeats out of range.
    """
    if not sigma > 0 or steps < 1 or repeats < 1:
        raise ValueError(f"sigma must be above 0, steps and repeats at least 1; got {sigma:g}, {steps} and {repeats}")
    # Evenly in the logarithm, down to a twentieth, and then to the clean picture.
    grid = torch.logspace(0, -1.3, steps, dtype=torch.float64) * sigma
    sigmas = torch.cat([grid, grid.new_zeros(1)])
    options = SDEditOptions(repeats, eta=0.0, seed=seed)
    return sdedit(model, x0, sigmas, options, callback=callback, limit=None)
