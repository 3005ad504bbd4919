"""Algebra in float64 on long rows that are stored in float32: a part of them is widened at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

_PART = 2**16  # numbers of a row that are widened at a time


def weighted(a: Tensor, b: Tensor, weights: Tensor) -> Tensor:
    """``a diag(weights) b^T`` in float64, `[n m]` and `[l m]` -> `[n l]`."""
    parts = zip(widened_parts(a, b), weights.split(_PART), strict=True)
    return sum(((x * w.double()) @ y.T for (x, y), w in parts), a.new_zeros((), dtype=torch.float64))


def products(a: Tensor, b: Tensor) -> Tensor:
    """``a b^T`` in float64, `[n d]` and `[l d]` -> `[n l]`."""
    return sum((x @ y.T for x, y in widened_parts(a, b)), a.new_zeros((), dtype=torch.float64))


def combined(turn: Tensor, rows: Tensor) -> Tensor:
    """``turn rows`` in float64, `[k n]` and `[n d]` -> `[k d]`."""
    return torch.cat([turn.double() @ part for (part,) in widened_parts(rows)], 1)


def widened_parts(*rows: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The same columns of each, `[n d]` -> `[n p]` in float64, part by part."""
    for parts in zip(*(t.split(_PART, -1) for t in rows), strict=True):
        yield tuple(part.double() for part in parts)
