"""Training pairs of a diffusion model: eps (arXiv 2006.11239) or v (Salimans and Ho 2022, arXiv 2202.00512)."""

from __future__ import annotations

from torch import Tensor

from ..networks.vp import Prediction
from ..schedule import Schedule


def noised(
    schedule: Schedule, x: Tensor, noise: Tensor, t: Tensor, prediction: Prediction = "v"
) -> tuple[Tensor, Tensor]:
    """Noise pictures `[b c h w]` at steps ``t`` `[b]`, and compute what the network has to say of them."""
    abar = schedule.abar.to(x.device)[t].float()[:, None, None, None]
    a = abar.sqrt()
    s = (1 - abar).sqrt()
    target = noise if prediction == "eps" else a * noise - s * x
    return a * x + s * noise, target
