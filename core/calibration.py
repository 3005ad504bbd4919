"""What one step of a dial is worth: a strength for each direction, with the setting it was measured in (no paper)."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypedDict

import torch
from torch import Tensor

from .foreign import is_dense, is_finite, is_number, shown

_KEY = re.compile(r"[0-9a-f]{16}")
_COARSE = 32  # steps to 1: an encoder that rounds otherwise gives the same picture, mostly
_SAME = 1e-3  # relative; a window that came through a file or a widget is still that window


class CalibrationFacts(TypedDict):
    """What is no tensor of a calibration: noise levels, (height, width) of the states, and which picture it was."""

    sigma_start: float
    sigma_end: float
    size: Sequence[int]
    picture: str


@dataclass(frozen=True)
class Calibration:
    """Strengths at which a direction changes its region clearly, for each of ``k`` directions.

    Attributes:
        unit: `[2 k]`, above 0: the strength of dial 1 along each direction, and that of dial -1 against it.
        area: `[k]`, pixels of the mask in which the change of each was measured.
        sigma_start: highest noise level at which the edit acted.
        sigma_end: lowest one.
        size: height and width of the states.
        picture: that it was measured on, see :func:`picture_key`. On another face the same strength changes the region
            by another amount: 0.7 of it in the median, and for one in twenty less than a third
            (``benchmarks/calibration.py``).
    """

    unit: Tensor
    area: Tensor
    sigma_start: float
    sigma_end: float
    size: tuple[int, int]
    picture: str

    def __post_init__(self) -> None:
        if not is_dense(self.unit, 2) or len(self.unit) != 2 or not _is_positive(self.unit):
            raise ValueError(f"unit must be [2 k], finite and above 0, got {shown(self.unit)}; calibrate again")
        k = self.unit.shape[1]
        if not is_dense(self.area, 1) or len(self.area) != k or not _is_positive(self.area):
            raise ValueError(f"area must be [{k}], finite and above 0, got {shown(self.area)}; calibrate again")
        self._check_window()
        sides = [side for side in self.size if type(side) is int and side > 0]
        if len(self.size) != 2 or len(sides) != 2:
            raise ValueError(f"size must be height and width, got {shown(self.size)}; calibrate again")
        if not isinstance(self.picture, str) or not _KEY.fullmatch(self.picture):
            raise ValueError(f"picture must be 16 hex digits, got {shown(self.picture)}; calibrate again")

    def _check_window(self) -> None:
        levels = (self.sigma_start, self.sigma_end)
        finite = all(map(is_number, levels))
        if not finite or not self.sigma_start >= self.sigma_end >= 0:
            raise ValueError(f"a calibrated window must be finite, from high to low, got {levels}; calibrate again")

    def __len__(self) -> int:
        return self.unit.shape[1]

    @property
    def facts(self) -> CalibrationFacts:
        """Give what is no tensor."""
        return {
            "sigma_start": self.sigma_start,
            "sigma_end": self.sigma_end,
            "size": list(self.size),
            "picture": self.picture,
        }

    def strength(self, i: int, dial: float) -> float:
        """Compute the signed strength along direction ``i`` (0-based) at a value of its dial."""
        return float(self.unit[0 if dial > 0 else 1, i]) * dial

    def is_of(self, x0: Tensor) -> bool:
        """Say whether it was measured on the picture whose clean state is ``x0`` `[1 c h w]`."""
        return self.size == tuple(x0.shape[-2:]) and self.picture == picture_key(x0)

    def has_window(self, sigma_start: float, sigma_end: float) -> bool:
        """Say whether it was measured for this window."""
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
    return Calibration(unit, area, facts["sigma_start"], facts["sigma_end"], tuple(size), facts["picture"])


def picture_key(x0: Tensor) -> str:
    """Name a picture by its clean state `[1 c h w]`, coarsely: 16 hex digits."""
    coarse = (x0.detach().float().cpu() * _COARSE).round().to(torch.int16)
    return hashlib.sha256(coarse.contiguous().numpy().tobytes()).hexdigest()[:16]


def joined(parts: Sequence[Calibration | None]) -> Calibration | None:
    """Join calibrations of sets that stand behind each other; None unless all were made in one setting."""
    known = [part for part in parts if part is not None]
    if not known or len(known) < len(parts):
        return None
    first = known[0]
    for part in known:
        same = (part.size, part.picture) == (first.size, first.picture)
        if not same or not part.has_window(first.sigma_start, first.sigma_end):
            return None
    device = first.unit.device
    return replace(
        first,
        unit=torch.cat([part.unit.to(device) for part in known], 1),
        area=torch.cat([part.area.to(device) for part in known]),
    )


def _is_positive(values: Tensor) -> bool:
    return is_finite(values) and float(values.min()) > 0
