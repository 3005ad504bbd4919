"""Training pairs of a diffusion model: eps-prediction (Ho et al. 2020, arXiv 2006.11239) or v (Salimans and Ho 2022, arXiv 2202.00512)."""

from __future__ import annotations

from torch import Tensor

from ..networks.vp import Prediction
from ..schedule import Schedule


def noised(schedule: Schedule, x: Tensor, noise: Tensor, t: Tensor, prediction: Prediction = "v") -> tuple[Tensor, Tensor]:
    """What the network sees at steps ``t`` `[b]` of pictures and noise `[b c h w]`, and what it has to say."""
    abar = schedule.abar.to(x.device)[t].float()[:, None, None, None]
    a, s = abar.sqrt(), (1 - abar).sqrt()
    return a * x + s * noise, noise if prediction == "eps" else a * noise - s * x
