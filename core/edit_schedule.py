"""How far and at which noise levels one edit acts.

RBE, AAAI 2025, arXiv 2412.12912: strength, window, normalisation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from .schedule import vp_scale

NORMALISATIONS = ("none", "h", "sigma")
"""``none``: strength is a length in h. ``h``: percent of the length of h. ``sigma``: a length times ``sigma / sqrt(1 +
sigma^2)``."""

_ROUNDING = 1e-5  # hosts hand sigma over in float32; a level on the edge of a window is inside
_SHOWN = 8  # levels in a message


@dataclass(frozen=True)
class EditSchedule:
    """Strength of one edit over the noise levels.

    What concerns a whole run (eta, asymmetry, ...) is an option of the render loop.

    Attributes:
        strength: how far along the unit direction; negative goes the other way, 0 is off. About 30 at 256 pixels.
        sigma_start: highest noise level at which the edit acts, included.
        sigma_end: lowest one, included; the levels below clean up.
        normalise: unit of ``strength``, one of :data:`NORMALISATIONS`.
    """

    strength: float
    sigma_start: float = math.inf
    sigma_end: float = 0.0
    normalise: str = "none"

    def __post_init__(self) -> None:
        if not math.isfinite(self.strength):
            raise ValueError(f"strength must be a finite number, got {self.strength}; 0 switches the edit off")
        if not self.sigma_start >= self.sigma_end >= 0:
            raise ValueError(
                f"the window must have sigma_start >= sigma_end >= 0, got {self.sigma_start} and {self.sigma_end}; "
                "sigma_start is its noisy end"
            )
        if self.normalise not in NORMALISATIONS:
            raise ValueError(f"normalise must be one of {', '.join(NORMALISATIONS)}, got {self.normalise!r}")

    def covers(self, sigma: float) -> bool:
        """Say whether ``sigma`` lies in the window, ends included (to 1e-5, the rounding of hosts)."""
        return self.sigma_end * (1 - _ROUNDING) <= sigma <= self.sigma_start * (1 + _ROUNDING)

    def acts(self, sigma: float) -> bool:
        """Say whether anything is added at ``sigma``."""
        return self.strength != 0 and self.covers(sigma)

    def check_levels(self, sigmas: Sequence[float], earlier: bool = False) -> None:
        """Refuse a run that this edit would never reach.

        Args:
            sigmas: `n+1` levels of the run, descending; the last is where it ends. Unless that is 0, a window below it
                belongs to a later part of the same sampling, and passes.
            earlier: these steps may be the later part of a sampling, so that a window above the first of them passes.

        Raises:
            ValueError: the strength is not 0 and no step lies in the window.
        """
        steps = list(sigmas[:-1])
        last = sigmas[-1]
        if not steps or not self.strength or any(self.covers(s) for s in steps):
            return
        if (earlier and self.sigma_end > steps[0]) or self.sigma_start < last:
            return
        shown = [f"{s:.3g}" for s in steps]
        if len(shown) > _SHOWN:
            shown[_SHOWN - 1 : -1] = ["..."]
        raise ValueError(
            f"the edit acts between sigma {self.sigma_end:g} (sigma_end) and {self.sigma_start:g} (sigma_start), but"
            f" the steps of this run lie at {', '.join(shown)} and none of them in that window; widen the window or"
            " take more steps"
        )

    def length(self, sigma: float, h: Tensor) -> Tensor | float:
        """Compute the signed length of the shift at ``sigma``.

        It is a number, or `[b 1 ...]` where it depends on ``h`` `[b ...]`.
        """
        if self.normalise == "h":
            norm = h.detach().float().flatten(1).norm(dim=1).to(h.dtype)
            return self.strength / 100 * norm.reshape(-1, *(1,) * (h.dim() - 1))
        if self.normalise == "sigma":
            return self.strength * sigma / vp_scale(sigma)
        return self.strength
