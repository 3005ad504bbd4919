"""Calibrated strength: 1 changes the region clearly, whatever the model, the direction and the window (no paper).

The first guess is what the gain predicts: Euler's steps in sigma add up to ``gain * strength * W`` with ``W`` the sum
of ``(sigma - sigma') / sigma`` over the window. The later steps undo a part of it, evenly over faces and directions. A
picture is then rendered at that strength, and the secant of change over strength leads to the target; along a direction
and against it separately, because the two differ by up to a factor of 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from ...calibration import Calibration, picture_key
from ...denoiser import Callback, Denoiser
from ...directions import Directions
from ...discover.mask import output_weights
from ...edit_schedule import EditSchedule
from ...trajectory import Trajectory
from .shorten import as_sampled, below_window
from .steer import Edit, steer_trajectory

CHANGE = 0.25
"""Root mean square change inside the mask at dial 1, on the scale -1..1 of pictures: an eighth of black to white.
Whoever looks sees it at once, and three times as much is still a picture."""

LATENT_CHANGE = 2 * CHANGE
"""The same for states that are latents: these are scaled to a spread of 1, and pictures in -1..1 have one of about half
that. To decode each one would cost more than the search."""

_UNDONE = 3.2  # predicted over realised change, median of 36 directions of mouth, eyes and hair
_POWER = 0.87  # change grows like that power of the strength
_POWERS = (0.3, 1.5)  # between which a secant is believed
_FURTHEST = 4.0  # by which factor a strength moves from one rendering to the next
_CLOSE = 1.1  # a change that is off by less is not rendered again
_ROUNDS = 3
_PROBE = 0.02  # of the length of h, where the gain is unknown


@torch.no_grad()
def calibrate(
    model: Denoiser,
    trajectory: Trajectory,
    directions: Directions,
    schedule: EditSchedule,
    *,
    latents: bool = False,
    size: int = 32,
    callback: Callback | None = None,
) -> Calibration:
    """Measure the strength of dial 1 and of dial -1 for each direction.

    Args:
        model: the denoiser that was inverted.
        trajectory: of one picture or more; the first is looked at.
        directions: of this model, with a mask or for the whole picture.
        schedule: the window; strength 1, and no normalisation.
        latents: whether the states are an autoencoder's latents, and not pictures in -1..1.
        size: pictures in one batch.
        callback: called after every step.

    Returns:
        The calibration. A direction that does not reach the target within a factor of about a hundred of what its gain
        predicts has the strength at which the search ended.

    Raises:
        ValueError: another model, no step in the window, or a mask of another aspect.
    """
    region = _Region(model, trajectory.image(0), directions, schedule, latents, size, callback)
    target = LATENT_CHANGE if latents else CHANGE
    search = _Search(region.first_guess(target), target)
    for _ in range(_ROUNDS):
        open_rows = search.open_rows()
        if not open_rows:
            break
        turned = [(row % len(directions), search.signed(row)) for row in open_rows]
        search.note(open_rows, region.changes(turned))
    height, width = trajectory.states.shape[-2:]
    area = torch.full((len(directions),), region.area)
    unit = search.strengths.reshape(2, -1)
    key = picture_key(trajectory.x0[:1])
    return Calibration(unit, area, schedule.sigma_start, schedule.sigma_end, (height, width), key)


def region_change(pictures: Tensor, before: Tensor, weights: Tensor) -> Tensor:
    """Measure the root mean square change inside a region, `[n]`.

    Args:
        pictures: `[n c h w]`.
        before: `[1 c h w]`.
        weights: of the region, `[c h w]` in 0..1.
    """
    weights = weights.to(pictures)
    squares = (pictures - before).square() * weights
    mean = squares.flatten(1).sum(1) / weights.sum()
    return mean.sqrt()


def _weights(mask: Tensor | None, x0: Tensor) -> Tensor:
    """Weigh every number of a picture `[1 c h w]`, `[c h w]` in 0..1."""
    channels, height, width = x0.shape[1:]
    weights = output_weights(mask, (channels, height, width))
    return weights.reshape(channels, height, width)


class _Region:
    """How far directions change their region, in one picture and one window."""

    def __init__(
        self,
        model: Denoiser,
        trajectory: Trajectory,
        directions: Directions,
        schedule: EditSchedule,
        latents: bool,
        size: int,
        callback: Callback | None,
    ):
        schedule.check_levels(trajectory.sigmas.tolist())
        self.model = model
        every = Edit(directions, schedule, (1.0,) * len(directions))
        self.path = as_sampled(model, trajectory, below_window(trajectory, [every]))
        self.directions = directions
        self.schedule = schedule
        self.latents = latents
        self.size = size
        self.callback = callback
        self.weights = _weights(directions.mask, trajectory.x0)

    @property
    def area(self) -> float:
        """Pixels of the mask."""
        return float(self.weights[0].sum())

    def first_guess(self, target: float) -> Tensor:
        """Predict the strength at which the change is ``target`` by the gain, `[2 k]` flattened."""
        share = 0.0
        for sigma, nxt in pairwise(self.path.sigmas.tolist()):
            if self.schedule.covers(sigma):
                share += (sigma - nxt) / sigma
        gain = self.directions.gain.mean(0).cpu().double()
        if not bool((gain > 0).all()):
            gain = torch.where(gain > 0, gain, self._probed())
        length = target * float(self.weights.sum()) ** 0.5
        predicted = length / (gain.clamp_min(1e-6) * share)
        return (_UNDONE * predicted).repeat(2)

    def _probed(self) -> Tensor:
        """Measure the response inside the region to a small step along each direction, `[k]`, by differences."""
        place = self.path.nearest(float(self.directions.sigmas.max()))
        sigma = float(self.path.sigmas[place])
        x = self.path.states[place]
        bottleneck = self.model.split(x, x.new_full((1,), sigma), self.directions.layer)
        h = bottleneck.h
        step = _PROBE * float(h.norm())
        plain = bottleneck.decode(h)
        scale = self.weights.to(plain).sqrt()
        gains = []
        for vector in self.directions.at(sigma).to(h):
            moved = bottleneck.decode(h + step * vector)
            gains.append(float(((moved - plain) * scale).norm()) / step)
        return torch.tensor(gains, dtype=torch.float64)

    def changes(self, turned: Sequence[tuple[int, float]]) -> Tensor:
        """Measure the change for pairs of a direction and a signed strength, `[n]` on the CPU."""
        rows = [(0, 0.0), *turned]  # the picture before goes along
        parts = [self._seen(rows[i : i + self.size]) for i in range(0, len(rows), self.size)]
        before, *after = torch.cat(parts)
        return region_change(torch.stack(after), before[None], self.weights).cpu().double()

    def _seen(self, turned: Sequence[tuple[int, float]]) -> Tensor:
        """Render pairs of a direction and a signed strength, `[n c h w]`; of pictures, what a screen shows."""
        numbers = range(len(self.directions))
        rows = tuple(tuple(strength if i == j else 0.0 for j in numbers) for i, strength in turned)
        edit = Edit(self.directions, self.schedule, rows)
        states = steer_trajectory(self.model, self.path.repeat(len(rows)), [edit], callback=self.callback)
        return states if self.latents else states.clamp(-1, 1)


@dataclass
class _Search:
    """A secant in the logarithms of strength and change for each row; the second half of the rows goes backwards.

    Attributes:
        strengths: `[2 k]` flattened, the best guess.
        target: the change that is looked for.
    """

    strengths: Tensor
    target: float
    tried: Tensor = field(init=False)
    found: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.tried = torch.full_like(self.strengths, torch.nan)
        self.found = torch.full_like(self.strengths, torch.nan)

    def signed(self, row: int) -> float:
        """Give the strength of a row with its sign."""
        sign = 1.0 if row < len(self.strengths) // 2 else -1.0
        return sign * float(self.strengths[row])

    def open_rows(self) -> list[int]:
        """List the rows whose last rendering was not close to the target."""
        off = (self.target / self.found).log().abs().tolist()
        return [row for row, one in enumerate(off) if not one <= math.log(_CLOSE)]  # nothing is near NaN

    def note(self, rows: list[int], changes: Tensor) -> None:
        """Take what the strengths of these rows changed, and move them towards the target."""
        strengths = self.strengths[rows]
        changes = changes.clamp_min(1e-9)
        grown = (changes / self.found[rows]).log()
        slope = grown / (strengths / self.tried[rows]).log()
        power = slope.nan_to_num(_POWER, _POWER, _POWER).clamp(*_POWERS)
        factor = ((self.target / changes).log() / power).exp().clamp(1 / _FURTHEST, _FURTHEST)
        self.tried[rows] = strengths
        self.found[rows] = changes
        self.strengths[rows] = strengths * factor
