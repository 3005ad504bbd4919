"""Forward products as differences of decodes: no tangents in memory, any kernels, any weights.

``J v = (D(h + t v) - D(h)) / t`` is wrong by the rounding of a decode over t, and by the curvature of D times t; the
step is chosen where both are small, on the direction that matters. Central differences are wrong by t^2, for twice the
decodes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .staged import StagedDecoder

_FACTOR = {"one-sided": 1.0, "central": 0.2}  # of a power of the noise, where both errors are alike
_POWER = {"one-sided": 1 / 2, "central": 1 / 3}
_WIDEST = 0.3  # of the length of h
_LADDER = (1 / 3, 1.0, 3.0, 9.0, 27.0)  # steps that are tried, of the first guess
_QUIETEST = 1e-9  # relative noise of a decode


@dataclass(frozen=True)
class Step:
    """A step that was chosen.

    Attributes:
        way: ``one-sided`` or ``central``.
        length: for a unit vector.
        spread: relative difference of the products at this step and at three times as long a one: what they are wrong
            by, or more.
    """

    way: str
    length: float
    spread: float = math.inf

    def central(self, size: float) -> Step:
        """A step for central differences, with the rounding that made this one; ``size`` is the length of h."""
        if self.way == "central":
            return self
        share = _FACTOR["central"] * (self.length / size) ** (2 * _POWER["central"])
        return Step("central", size * min(_WIDEST, share))


def differences(staged: StagedDecoder, rows: Tensor, step: Step, measured: bool = False) -> Tensor:
    """Forward products, `[b, shape of h0]` -> `[b, shape of y0]`; what a decode takes is noted on demand."""
    return _at_lengths(staged, rows, rows.new_full((len(rows),), step.length), step.way, measured)


def _at_lengths(staged: StagedDecoder, rows: Tensor, lengths: Tensor, way: str, measured: bool = False) -> Tensor:
    """As :func:`differences`, with a step for every row."""
    scale = lengths / rows.flatten(1).norm(dim=1).clamp_min(1e-30)
    scale = scale.view(-1, *(1,) * (staged.h0.dim() - 1))
    moved = rows[:, 0] * scale
    ahead = staged.decode(staged.h0 + moved, measured)
    if way == "one-sided":
        return ((ahead - staged.y0) / scale)[:, None]
    # A pass of its own, so that central differences take no more memory than one-sided ones.
    behind = staged.decode(staged.h0 - moved)
    return ((ahead - behind) / (2 * scale))[:, None]


def first_step(staged: StagedDecoder, way: str) -> Step:
    """Guess a step from the rounding of a decode: the spread of two whose h differ by their last bits."""
    h0 = staged.h0
    g = torch.Generator().manual_seed(1)
    last_bits = torch.finfo(h0.dtype).eps * h0.norm() / math.sqrt(h0.numel())
    noise = torch.randn(2, *h0.shape, generator=g).to(h0)
    noise = noise * last_bits
    one, other = (staged.decode(h0 + part) for part in noise)
    size = staged.y0.norm().clamp_min(1e-30)
    spread = float((one - other).norm() / size) / math.sqrt(2)
    spread = max(spread, _QUIETEST)
    share = _FACTOR[way] * spread ** _POWER[way]
    share = min(_WIDEST, share)
    return Step(way, float(h0.norm()) * share)


def best_step(staged: StagedDecoder, row: Tensor, weights: Tensor, guess: Step, chunk: int = 1) -> tuple[Step, Tensor]:
    """Move on from the guess while the products at a step and at three times as long a one come closer.

    Args:
        staged: the decoder.
        row: a direction that matters, `[1, shape of h0]`.
        weights: of the output, `[m]`.
        guess: see :func:`first_step`.
        chunk: decodes at a time.

    Returns:
        The step, and the product of ``row`` at it, `[1 m]`.
    """
    ladder = torch.tensor(_LADDER).to(row)
    lengths = guess.length * ladder
    tried = []
    for some in lengths.split(chunk):
        rows = row.expand(len(some), *row.shape[1:])
        try:
            tried.append(_at_lengths(staged, rows, some, guess.way))
        except RuntimeError:  # memory ran out, or a patch of another pack takes one picture at a time
            if len(some) == 1:
                raise
            tried += [_at_lengths(staged, row, one, guess.way) for one in some.split(1)]
    products = torch.cat(tried).flatten(1)
    inside = products * weights.to(row).sqrt()
    moved = (inside[1:] - inside[:-1]).norm(dim=1)
    size = inside[1:].norm(dim=1).clamp_min(1e-30)
    apart = moved / size
    at = int(apart.nan_to_num(math.inf).argmin())
    return Step(guess.way, float(lengths[at]), float(apart[at])), products[at : at + 1]
