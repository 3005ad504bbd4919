"""The shift of h: ``dh = strength * window(sigma) * normalisation * u`` with unit ``u``.

RBE, AAAI 2025, arXiv 2412.12912.

Several edits add up as they are: nothing is divided by sqrt(n), as Asyrp's code does, because then a second dial would
weaken the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from ...directions import Directions
from ...edit_schedule import EditSchedule


class Shift(Protocol):
    """Anything that is added to h: directions (:class:`Edit`), a trained block (``core.edit.directions.asyrp``)."""

    @property
    def layer(self) -> str:
        """Name the layer at which it is added."""
        ...

    @property
    def schedule(self) -> EditSchedule:
        """Say how far, and at which noise levels."""
        ...

    def check_model(self, fingerprint: str, layers: tuple[str, ...]) -> None:
        """Refuse a model that it was not made for."""
        ...

    def on(self, sigmas: Tensor, asymmetric: bool) -> Shift:
        """Fit its strength to a run on the grid ``sigmas`` `[n+1]`."""
        ...

    def acts(self, sigma: float) -> bool:
        """Say whether it adds anything at ``sigma``."""
        ...

    def shift(self, sigma: float, h: Tensor) -> Tensor:
        """Compute what it adds to ``h`` `[b c h w]`; broadcastable to it."""
        ...


@dataclass(frozen=True)
class Edit:
    """Directions, how far, and how much of each.

    Attributes:
        directions: one or more.
        schedule: strength and window.
        weights: one factor a direction, or a tuple of such rows, one for each sample of the batch (many variants of one
            picture in one run); may be left out for a single direction.
    """

    directions: Directions
    schedule: EditSchedule
    weights: tuple[float, ...] | tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        k = len(self.directions)
        if not self.weights and k == 1:
            object.__setattr__(self, "weights", (1.0,))
        wrong = [len(row) for row in self._rows if len(row) != k]
        if wrong:
            raise ValueError(
                f"an edit with {k} directions needs {k} weights, got {wrong[0]}; or select one direction first"
            )

    @property
    def _rows(self) -> tuple[tuple[float, ...], ...]:
        nested = bool(self.weights) and isinstance(self.weights[0], tuple)
        return self.weights if nested else (self.weights,)  # type: ignore[return-value]

    @property
    def layer(self) -> str:
        """Name the layer where the directions live."""
        return self.directions.layer

    def check_model(self, fingerprint: str, layers: tuple[str, ...]) -> None:
        """See :meth:`core.directions.Directions.check_model`."""
        self.directions.check_model(fingerprint, layers)

    def on(self, sigmas: Tensor, asymmetric: bool) -> Edit:
        """Multiply its strength by :func:`asymmetric_factor` in an asymmetric run; in any other it stays."""
        if not asymmetric:
            return self
        return replace(
            self, schedule=replace(self.schedule, strength=self.schedule.strength * asymmetric_factor([self], sigmas))
        )

    def acts(self, sigma: float) -> bool:
        """Say whether it adds anything at ``sigma``."""
        return self.schedule.acts(sigma) and any(any(row) for row in self._rows)

    def shift(self, sigma: float, h: Tensor) -> Tensor:
        """Compute what it adds to ``h`` `[b c h w]`; broadcastable to it.

        Raises:
            ValueError: the directions have another shape than h.
        """
        u = self.directions.at(sigma)
        if u.shape[1:] != h.shape[1:]:
            raise ValueError(
                f"these directions are {list(u.shape[1:])} at layer {self.directions.layer!r}, the model has"
                f" {list(h.shape[1:])} there{_scale(u, h)}; use an image of the size at which they were found (a"
                " detailer's crop has another), or discover directions at this size. PatchModelAddDownscale, Context"
                " Windows and prompts for an area (Conditioning (Set Area)) make h smaller inside of a run: take them"
                " out, or use Conditioning (Set Mask)"
            )
        rows = h.new_tensor(self._rows)
        if len(rows) not in (1, len(h)):
            raise ValueError(
                f"an edit with a row of weights a sample needs {len(h)} rows for this batch, got {len(rows)}"
            )
        return self.schedule.length(sigma, h) * torch.einsum("bk,k...->b...", rows, u.to(h))


def _scale(u: Tensor, h: Tensor) -> str:
    """Say by how much ``h`` `[b c h w]` is larger than directions ``u`` `[k c h w]`; nothing for other shapes."""
    if u.dim() != 4 or h.dim() != 4 or u.shape[1] != h.shape[1]:
        return ""
    high, wide = u.shape[2:]
    height, width = h.shape[2:]
    return f": here it is {width / wide:.3g} times as wide and {height / high:.3g} times as tall"


def in_window(edits: Iterable[Shift], sigma: float) -> bool:
    """Say whether any edit acts at ``sigma``."""
    return any(e.acts(sigma) for e in edits)


def h_shift(edits: Iterable[Shift], sigma: float, h: Tensor) -> Tensor | None:
    """Sum of the edits at ``sigma``, broadcastable to ``h`` `[b c h w]`, or None if none acts there.

    The edits must all live at the layer of ``h``.

    Raises:
        ValueError: directions of another shape than h.
    """
    total = None
    for edit in edits:
        if edit.acts(sigma):
            shift = edit.shift(sigma, h)
            total = shift if total is None else total + shift
    return total


def asymmetric_factor(edits: Sequence[Shift], sigmas: Tensor) -> float:
    """Find the strength at which an asymmetric run has the first-order effect of a symmetric one of strength 1.

    A change dD of the prediction moves the next state by ``(1 - sigma'/sigma) dD`` if the direction follows it
    (symmetric) and by dD if not. The factor is the mean of ``1 - sigma'/sigma`` over the steps in the window: one
    number, because a factor a step would turn Asyrp into the symmetric edit.

    Args:
        edits: what acts where.
        sigmas: `[n+1]`, the grid of the run.

    Returns:
        A number in 0..1; 1 if no step is edited.
    """
    ratios = [1 - nxt / sigma for sigma, nxt in pairwise(sigmas.tolist()) if in_window(edits, sigma)]
    return sum(ratios) / len(ratios) if ratios else 1.0


def layer_at(edits: Iterable[Shift], levels: Sequence[float]) -> str | None:
    """Name the layer at which edits act on any of these noise levels; None if none does.

    Raises:
        ValueError: two layers at once.
    """
    layers = sorted({e.layer for e in edits if any(e.acts(s) for s in levels)})
    if len(layers) > 1:
        raise ValueError(
            f"edits that act at the same noise level must share a layer, got {' and '.join(layers)}; "
            "give them windows that do not overlap, or use directions of one layer"
        )
    return layers[0] if layers else None
