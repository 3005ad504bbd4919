"""Label codes of the embedded autoencoders by the factors of the face world.

As yes or no, or as numbers: what attribute heads are fitted to.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .factors import BY_NAME, EYE_COLORS, FACTORS, HAIR_COLORS, Factors

CLASSES = {"hair_color": HAIR_COLORS, "eye_color": EYE_COLORS}
YES_NO = ("glasses", *(f"{c} hair" for c in HAIR_COLORS), *(f"{c} eyes" for c in EYE_COLORS))
"""Attributes with two values."""
NUMBERS = tuple(f.name for f in FACTORS if not f.classes and not f.circular)
"""Factors with a range. Hues have no end to move to and get no head."""


def yes_no(factors: Factors) -> Tensor:
    """Read the values of :data:`YES_NO`, `[b n]` of 0 and 1."""
    columns = [factors["glasses"]]
    for name, classes in CLASSES.items():
        columns += [(factors[name].long() == i).float() for i in range(len(classes))]
    return torch.stack(columns, 1)


def numbers(factors: Factors) -> Tensor:
    """Read the values of :data:`NUMBERS` as shares of their range, `[b n]` in 0..1."""
    return torch.stack([(factors[n] - BY_NAME[n].low) / (BY_NAME[n].high - BY_NAME[n].low) for n in NUMBERS], 1)
