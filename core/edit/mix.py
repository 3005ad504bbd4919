"""Predictions of several models mixed by noise level (DiffusionCLIP, Kim, Kwon and Ye 2022, arXiv 2110.02711, section 3.4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..denoiser import Denoiser


class Mixed:
    """``sum_i r_i model_i(x, sigma)``, the ratios depending on the noise level.

    Two models with ratios ``(1 - r, r)`` give the paper's degree of change; several fine-tuned ones combine attributes. As denoised
    pictures mix as noise estimates do, this is the paper's sum of epsilons.

    Args:
        models: any denoisers of one picture size.
        ratios: ``(sigma, (r_1, r_2, ...))``, each row valid from its noise level upwards to that of the row before; the last should
            begin at 0. Rows are scaled to a sum of 1.

    Raises:
        ValueError: no row at 0, rows out of order or of another length, or one that sums to 0.
    """

    def __init__(self, models: Sequence[Denoiser], ratios: Sequence[tuple[float, Sequence[float]]]):
        levels = [s for s, _ in ratios]
        if not models or not levels or levels != sorted(levels, reverse=True) or len(set(levels)) != len(levels) or levels[-1] != 0:
            raise ValueError(f"the noise levels of the ratios must descend to 0, got {levels}; the last row holds for the cleanest steps")
        for sigma, row in ratios:
            if len(row) != len(models) or sum(row) == 0:
                raise ValueError(
                    f"each row needs a ratio for each of {len(models)} models and a sum other than 0, got {list(row)} at {sigma:g}"
                )
        self.models, self.ratios = tuple(models), tuple((s, tuple(r / sum(row) for r in row)) for s, row in ratios)

    def at(self, sigma: float) -> tuple[float, ...]:
        """The ratios at a noise level."""
        return next(row for level, row in self.ratios if sigma >= level)

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Mixed denoised picture `[b c h w]`; models whose ratio is 0 are not run."""
        rows = [self.at(s) for s in sigma.tolist()]
        total = torch.zeros_like(x)
        for i, model in enumerate(self.models):
            share = x.new_tensor([row[i] for row in rows])[:, None, None, None]
            if bool(share.any()):
                total = total + share * model(x, sigma)
        return total
