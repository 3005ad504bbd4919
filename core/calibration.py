"""What one step of a dial is worth: a strength for each direction, with the setting it was measured in (no paper)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypedDict

import torch
from torch import Tensor

from .foreign import is_dense, is_finite, is_number, shown

_SAME = 1e-3  # relative; a window that came through a file or a widget is still that window


class CalibrationFacts(TypedDict):
    """What is no tensor of a calibration: noise levels, and (height, width) of the states."""

    sigma_start: float
    sigma_end: float
    size: Sequence[int]


@dataclass(frozen=True)
class Calibration:
    """Strengths at which a direction changes its region clearly, for each of ``k`` directions.

    Attributes:
        unit: `[2 k]`, above 0: the strength of dial 1 along each direction, and that of dial -1 against it.
        area: `[k]`, pixels of the mask in which the change of each was measured.
        sigma_start: highest noise level at which the edit acted.
        sigma_end: lowest one.
        size: height and width of the states.
    """

    unit: Tensor
    area: Tensor
    sigma_start: float
    sigma_end: float
    size: tuple[int, int]

    def __post_init__(self) -> None:
        if not is_dense(self.unit, 2) or len(self.unit) != 2 or not _is_positive(self.unit):
            raise ValueError(f"unit must be [2 k], finite and above 0, got {shown(self.unit)}; calibrate again")
        k = self.unit.shape[1]
        if not is_dense(self.area, 1) or len(self.area) != k or not _is_positive(self.area):
            raise ValueError(f"area must be [{k}], finite and above 0, got {shown(self.area)}; calibrate again")
        levels = self.sigma_start, self.sigma_end
        if not all(map(is_number, levels)) or not self.sigma_start >= self.sigma_end >= 0:
            raise ValueError(f"a calibrated window must be finite, from high to low, got {levels}; calibrate again")
        if len(self.size) != 2 or not all(type(side) is int and side > 0 for side in self.size):
            raise ValueError(f"size must be height and width, got {shown(self.size)}; calibrate again")

    def __len__(self) -> int:
        return self.unit.shape[1]

    @property
    def facts(self) -> CalibrationFacts:
        """Give what is no tensor."""
        return {"sigma_start": self.sigma_start, "sigma_end": self.sigma_end, "size": list(self.size)}

    def strength(self, i: int, dial: float) -> float:
        """Compute the signed strength along direction ``i`` (0-based) at a value of its dial."""
        return float(self.unit[0 if dial > 0 else 1, i]) * dial

    def fits(self, sigma_start: float, sigma_end: float, size: Sequence[int]) -> bool:
        """Say whether it was measured for this window and this size of the states."""
        if tuple(size) != self.size:
            return False
        start = math.isclose(self.sigma_start, sigma_start, rel_tol=_SAME)
        return start and math.isclose(self.sigma_end, sigma_end, rel_tol=_SAME)

    def select(self, indices: list[int]) -> Calibration:
        """Keep some of the directions, in the given order."""
        return replace(self, unit=self.unit[:, indices], area=self.area[indices])

    def flipped(self) -> Calibration:
        """Exchange the two signs, as the directions are turned round."""
        return replace(self, unit=self.unit.flip(0))


def calibration_of(unit: Tensor, area: Tensor, facts: Any) -> Calibration:
    """Put together what a file or a socket holds.

    Raises:
        ValueError: it is no calibration.
    """
    size = facts["size"]
    if not isinstance(size, (list, tuple)):
        raise ValueError(f"size must be height and width, got {shown(size)}; calibrate again")
    return Calibration(unit, area, facts["sigma_start"], facts["sigma_end"], tuple(size))


def joined(parts: Sequence[Calibration | None]) -> Calibration | None:
    """Join calibrations of sets that stand behind each other; None unless all were made in one setting."""
    known = [part for part in parts if part is not None]
    if not known or len(known) < len(parts):
        return None
    first = known[0]
    if not all(part.fits(first.sigma_start, first.sigma_end, first.size) for part in known):
        return None
    device = first.unit.device
    return replace(
        first,
        unit=torch.cat([part.unit.to(device) for part in known], 1),
        area=torch.cat([part.area.to(device) for part in known]),
    )


def _is_positive(values: Tensor) -> bool:
    return is_finite(values) and float(values.min()) > 0
