"""Dials: sets of calibrated directions turned together, and strips of pictures between the ends of each (no paper)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ...calibration import Calibration
from ...denoiser import Callback, Denoiser
from ...directions import Directions
from ...edit_schedule import EditSchedule
from ...trajectory import Trajectory
from .shift import Edit, Shift, layer_at
from .shorten import as_sampled, below_window
from .steer import SteerOptions, steer_trajectory

REACH = 3.0
"""How far a dial goes either way."""

Row = Sequence[float]
"""A value for each dial."""

_CROWDED = 1.5  # power by which the pictures of a strip crowd around 0, where dials stand most
_LEVELS = 6  # steps of a picture of a strip: it is a preview, and the exact picture follows


@dataclass(frozen=True)
class Dials:
    """Calibrated directions of one or several sets, a dial for each; every set acts in its own window.

    Attributes:
        sets: at least one.

    Raises:
        ValueError: a set without calibration.
    """

    sets: tuple[Directions, ...]

    def __post_init__(self) -> None:
        if len(self._calibrations) < max(1, len(self.sets)):
            raise ValueError("dials need calibrated directions; calibrate each set first")

    def __len__(self) -> int:
        return sum(map(len, self.sets))

    @property
    def labels(self) -> list[str]:
        """Name every dial; those without a name of their own are numbered."""
        names: list[str] = []
        for directions in self.sets:
            names += directions.labels or [f"#{len(names) + i + 1}" for i in range(len(directions))]
        return names

    @property
    def schedules(self) -> list[EditSchedule]:
        """Give the window of every set."""
        return [EditSchedule(1.0, c.sigma_start, c.sigma_end) for c in self._calibrations]

    @property
    def _calibrations(self) -> list[Calibration]:
        return [directions.calibration for directions in self.sets if directions.calibration is not None]

    def edits(self, rows: Sequence[Row]) -> list[Edit]:
        """Make an edit of every set that gives each row of a batch its values; a single row serves all pictures."""
        edits, first = [], 0
        for directions, calibration, schedule in zip(self.sets, self._calibrations, self.schedules, strict=True):
            strengths = []
            for row in rows:
                mine = row[first : first + len(directions)]
                strengths.append(tuple(calibration.strength(i, dial) for i, dial in enumerate(mine)))
            weights = tuple(strengths) if len(rows) > 1 else strengths[0]
            edits.append(Edit(directions, schedule, weights))
            first += len(directions)
        return edits


def check_layers(edits: Sequence[Shift], trajectory: Trajectory) -> None:
    """Refuse edits that cannot act together on the way back along a trajectory.

    Raises:
        ValueError: a window without a step, or two layers at one noise level.
    """
    levels = trajectory.sigmas.tolist()
    for edit in edits:
        edit.schedule.check_levels(levels)
    for level in levels[:-1]:
        layer_at(edits, [level])


@dataclass(frozen=True)
class WayBack:
    """A picture on its way back, and everything that is done to it beside the dials.

    Attributes:
        model: the denoiser that was inverted, or one that edits it.
        trajectory: where to start.
        before: edits of h that are on the model already.
        edited: whether ``model`` itself is edited at a noise level; None if it is not.
        options: how it is sampled.
        callback: called after every step.
    """

    model: Denoiser
    trajectory: Trajectory
    before: Sequence[Shift] = ()
    edited: Callable[[float], bool] | None = None
    options: SteerOptions = field(default_factory=lambda: SteerOptions(start="auto"))
    callback: Callback | None = None

    def picture(self, edits: Sequence[Shift] = ()) -> Tensor:
        """Render the edited pictures, `[b c h w]`."""
        return steer_trajectory(
            self.model,
            self.trajectory,
            [*self.before, *edits],
            self.options,
            edited=self.edited,
            callback=self.callback,
        )

    def on(self, trajectory: Trajectory) -> WayBack:
        """Do the same to another trajectory, from its top."""
        return replace(self, trajectory=trajectory, options=replace(self.options, start="top"))


def strip_values(frames: int) -> list[float]:
    """Choose the values of the pictures of a strip: from -:data:`REACH` to :data:`REACH`, crowded around 0.

    Raises:
        ValueError: ``frames`` is even or below 3, so that 0 would not stand in the middle.
    """
    if frames < 3 or frames % 2 == 0:
        raise ValueError(
            f"a strip has an odd number of pictures from 3 on, so that 0 stands in the middle, got {frames}"
        )
    places = torch.linspace(-1, 1, frames, dtype=torch.float64).tolist()
    return [math.copysign(REACH * abs(p) ** _CROWDED, p) for p in places]


def strips(way: WayBack, dials: Dials, values: Sequence[float], size: int) -> tuple[Tensor, Tensor]:
    """Render a strip for every dial, each with all others at 0, in few steps.

    Args:
        way: of one picture.
        dials: whose strips.
        values: of :func:`strip_values`; 0 is not rendered.
        size: pictures in one batch.

    Returns:
        The picture with all dials at 0 in as few steps, `[1 c h w]`, and the pictures, `[k n c h w]` for n values
        other than 0. What is shown is their difference, which the number of steps hardly changes.
    """
    count = len(dials)
    turned = [value for value in values if value]
    rows = [[0.0] * count]
    for i in range(count):
        for value in turned:
            row = [0.0] * count
            row[i] = value
            rows.append(row)
    every = [*way.before, *dials.edits([[1.0] * count])]
    path = below_window(way.trajectory, every, way.edited, _LEVELS)
    path = as_sampled(way.model, way.trajectory, path)
    parts = []
    for i in range(0, len(rows), size):
        part = rows[i : i + size]
        parts.append(way.on(path.repeat(len(part))).picture(dials.edits(part)))
    plain, frames = torch.cat(parts).split([1, len(rows) - 1])
    return plain, frames.reshape(count, len(turned), *frames.shape[1:])
