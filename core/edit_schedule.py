"""How far and at which noise levels one edit acts (RBE, AAAI 2025, arXiv 2412.12912: strength, window, normalisation)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

NORMALISATIONS = ("none", "h", "sigma")
"""``none``: strength is a length in h. ``h``: percent of the length of h. ``sigma``: a length times ``sigma / sqrt(1 + sigma^2)``."""

_ROUNDING = 1e-5  # hosts hand sigma over in float32; a level on the edge of a window is inside


@dataclass(frozen=True)
class EditSchedule:
    """Strength of one edit over the noise levels. What concerns a whole run (eta, asymmetry, ...) is an option of the render loop.

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
        """Whether ``sigma`` lies in the window, ends included (to 1e-5, the rounding of hosts)."""
        return self.sigma_end * (1 - _ROUNDING) <= sigma <= self.sigma_start * (1 + _ROUNDING)

    def acts(self, sigma: float) -> bool:
        """Whether anything is added at ``sigma``."""
        return self.strength != 0 and self.covers(sigma)

    def length(self, sigma: float, h: Tensor) -> Tensor | float:
        """Signed length of the shift at ``sigma``: a number, or `[b 1 1 1]` where it depends on ``h`` `[b c h w]`."""
        if self.normalise == "h":
            norm = h.detach().float().flatten(1).norm(dim=1).to(h.dtype)
            return self.strength / 100 * norm[:, None, None, None]
        if self.normalise == "sigma":
            return self.strength * sigma / math.sqrt(1 + sigma * sigma)
        return self.strength
