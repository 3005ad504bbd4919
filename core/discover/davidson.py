"""Find the top of ``J^T diag(M) J`` by a block Davidson method.

Crouzeix, Philippe and Sadkane 1994, "The Davidson method", algorithm 1.

Each block is the residuals of the best Ritz vectors so far. While none is dropped that spans what block Lanczos with
full reorthogonalisation does; dropping what has converged saves the rest of its products.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .jacobian import DecoderJacobian
from .parts import combined, weighted, widened_parts
from .subspace import orthonormal

GUARDS = 3  # random rows beyond those to start from
# Vectors beyond the k wanted, in the first block and in the others: with more the products grow, with fewer the passes.
# The figures are
# in benchmarks/results/jacobian.json.
_FIRST = 2
_OTHERS = 1
_NARROWEST = 4  # block; narrower ones only cost passes
_CONVERGED = 3e-3  # residual over Ritz value of a direction that is no longer refined
# Ratios of successive turns that are believed. Single blocks do more than the first: what is left is not taken to be
# less than two of the last turns, so that a block that happens to bring little does not end the search.
_QUICKEST, _SLOWEST = 2 / 3, 0.95


class Space:
    """A basis that grows, with its images and both Gram matrices kept up to date.

    Both are as exact as products are, in float32 (float64 for a network in float64): it is the algebra on them that is
    done in float64.
    """

    def __init__(self, J: DecoderJacobian, weights: Tensor):
        self.J, (m, d) = J, J.shape
        self.weights = weights.to(J.algebra, J.h0.dtype)
        self.q = self.weights.new_zeros(0, d)
        self.b = self.weights.new_zeros(0, m)
        self.inside = self.outside = torch.zeros(0, 0, dtype=torch.float64, device=J.algebra)

    def add(self, rows: Tensor) -> int:
        """Extend the basis by what is new in ``rows`` `[b d]`; returns how many vectors that was."""
        x = orthonormal(rows, self.q).to(self.q)
        if len(x):
            y = self.J.jvp(x)
            self.q = torch.cat([self.q, x])
            self.b = torch.cat([self.b, y])
            self.inside = _bordered(self.inside, weighted(y, self.b, self.weights))
            self.outside = _bordered(self.outside, weighted(y, self.b, 1 - self.weights))
        return len(x)


def block_width(k: int, d: int, more: int = _OTHERS) -> int:
    """Vectors of a block for ``k`` directions among ``d``."""
    return min(max(k + more, _NARROWEST), d)


def rows_to_begin(space: Space, k: int, *, seed: int = 0, start: Tensor | None = None) -> Tensor:
    """Rows `[b d]` that stage 1 begins with: random ones, after those of ``start``.

    Arguments as in :func:`block_krylov`.
    """
    width = min(block_width(k, space.q.shape[1], _FIRST), space.J.chunk)
    rows = torch.randn(width, space.q.shape[1], generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(
        space.q.device
    )
    return rows if start is None else torch.cat([start.to(rows), rows])[: max(width, len(start) + GUARDS)]


def leading_directions(
    space: Space, begin: Tensor, k: int, *, blocks: int, size: int = 0, tol: float = 1e-2
) -> tuple[Tensor, float]:
    """Stage 1 of :func:`block_krylov`: grow ``space`` until the top ``k`` of the region are known.

    They are read from the last products backwards, ``J^T M J q``, and so are one power step ahead of the basis. Where
    forward products are differences these are off by more than the residuals that are wanted, and the residuals stop
    falling; the directions hardly notice, as reverse products are exact. So it also ends when these have stopped
    turning.

    A block is no wider than a pass: where vectors go through one by one, narrower blocks take fewer of them (30 for
    five directions of the face model, where blocks of six take 58).

    Args:
        space: empty.
        begin: rows to start from, `[b d]`.
        k, blocks, size, tol: see ``block_krylov``.

    Returns:
        Orthonormal rows `[k d]`, and an estimate of the sine of the angle to the true ones, at most 1, which errs on
        the safe side.
    """
    J = space.J
    whole = block_width(k, space.q.shape[1])
    room = blocks * whole - min(len(begin), whole)
    space.add(begin)
    images = space.q[:0]
    lead = images
    turns: list[float] = []
    while True:
        fresh = space.b[len(images) :] * space.weights
        images = torch.cat([images, J.vjp(fresh)])
        values, turn = torch.linalg.eigh(space.inside)
        values = values.flip(0)
        turn = turn.flip(1)
        size_of, largest = _behind_sizes(space, images, values, turn, k)
        before = lead
        lead = _leading(images, values, turn, k)
        turns.append(_sine(lead, before))
        away = min(_residual(values, largest, k), _left_to_turn(turns))
        if away < tol and len(space.q) >= size:
            break
        if room <= 0:
            break
        width = min(whole, J.chunk)
        room -= width
        ahead = len(values) if away < tol else whole  # where size asks for more, the next ones come in
        unfinished = size_of[:ahead] > _CONVERGED * values[:ahead]
        open_ = unfinished.nonzero()[:width, 0]
        these = open_ if len(open_) else slice(width)
        if not space.add(_behind(space, images, values[these], turn[:, these])):
            break
    return lead, away


def _behind(space: Space, images: Tensor, values: Tensor, turn: Tensor) -> Tensor:
    """What Ritz pairs lack, ``G v - value v``, `[r d]` float64."""
    ahead = combined(turn.T, images)
    here = combined(turn.T, space.q)
    return ahead - values[:, None] * here


def _behind_sizes(space: Space, images: Tensor, values: Tensor, turn: Tensor, k: int) -> tuple[Tensor, float]:
    """Length of what each Ritz pair lacks, `[n]`, and the largest singular value of that of the first ``k``."""
    squares = torch.zeros_like(values)
    count = min(k, len(values))
    first = values.new_zeros(count, count)
    for image, q in widened_parts(images, space.q):
        ahead = turn.T @ image
        here = turn.T @ q
        behind = ahead - values[:, None] * here
        squares += behind.square().sum(1)
        leading = behind[:count]
        first += leading @ leading.T
    largest = torch.linalg.eigvalsh(first)[-1]
    return squares.sqrt(), float(largest.clamp_min(0).sqrt())


def _leading(images: Tensor, values: Tensor, turn: Tensor, k: int) -> Tensor:
    """The ``k`` strongest singular vectors of U^T M^1/2 J, where U spans M^1/2 J Q, `[k d]`."""
    independent = values > values[0] * 1e-12
    sizes = values[independent].sqrt()
    turn = (turn[:, independent] / sizes).T
    count = len(turn)
    gram = turn.new_zeros(count, count)
    for (part,) in widened_parts(images):
        w = turn @ part
        gram += w @ w.T
    _, vectors = torch.linalg.eigh(gram)
    strongest = vectors.flip(1)[:, :k].T
    return orthonormal(combined(strongest @ turn, images))


def _residual(values: Tensor, largest: float, k: int) -> float:
    """Residual of the top ``k`` Ritz pairs over the gap to the next one, which bounds their angle; at most 1."""
    if len(values) <= k:
        return 1.0
    gap = max(float(values[k - 1] - values[k]), 1e-300)
    return min(1.0, largest / gap)


def _left_to_turn(turns: list[float]) -> float:
    """The angle that a series of turns still lacks, continued as a geometric series; 1 if it is too short."""
    if len(turns) < 3:  # the first is that of the start
        return 1.0
    before, last = turns[-2:]
    ratio = _QUICKEST
    if before > 0:
        ratio = min(max(last / before, _QUICKEST), _SLOWEST)
    rest = last * ratio / (1 - ratio)
    return min(1.0, rest)


def _sine(rows: Tensor, others: Tensor) -> float:
    """Sine of the largest angle between the spans of orthonormal rows; 1 if there are not as many of them."""
    if len(rows) != len(others):
        return 1.0
    inside = (rows @ others.T) @ others
    sine = torch.linalg.matrix_norm(rows - inside, 2)
    return float(sine)


def _bordered(old: Tensor, edge: Tensor) -> Tensor:
    """A symmetric matrix `[n n]` grown to `[n+b n+b]` by its last rows ``edge`` `[b n+b]`."""
    n = len(old)
    new = torch.cat([torch.cat([old, edge[:, :n].T], 1), edge])
    return (new + new.T) / 2
