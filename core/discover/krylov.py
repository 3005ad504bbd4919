"""Block Krylov basis of the masked Jacobian (Musco and Musco 2015, arXiv 1504.05477), widened towards quiet directions.

Stage 1 finds the strongest directions of the region, those of ``J^T diag(M) J`` (``davidson.py``). Stage 2, if asked
for, is block Lanczos on ``J^T diag(1 - M) J``. Stage 3 adds, block by block, the residuals of the best region
directions so far, ``J^T diag(M - q (1 - M)) J v`` less the part along v, with q the quotient of v: a block Davidson
method on the pencil of ``region.py``. It stops when the quotients have stopped growing. ``B = J Q`` is stored, so every
mode, rank and tau afterwards is small algebra without the network. Where the mask has few rows, stage 1 takes them all
instead, and is exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .davidson import GUARDS, Space, block_width, leading_directions, rows_to_begin
from .foresight import check_basis
from .jacobian import DecoderJacobian
from .parts import combined, weighted
from .power import power_iteration
from .rows import exact_directions, has_few_rows
from .subspace import Singular, subspace_iteration

MAX_K = 64
WIDEN = 24
SOLVERS = ("krylov", "subspace", "power")
_OUTSIDE_BLOCKS = 3  # the leading outside directions are far apart; three blocks hold them
_FULL = 1 - 1e-3
_SLOWEST = 0.95  # ratio of successive gains beyond which extrapolation means nothing


@dataclass(frozen=True)
class SolverSettings:
    """How many directions are looked for, and how hard.

    Attributes:
        k: directions wanted, 1..64.
        solver: ``krylov``, or as the papers have it ``subspace`` or ``power`` (see :func:`solved_basis`; about 50
            iterations), which use k, iterations, tol and seed alone.
        iterations: upper limit: blocks of stage 1 (more if passes are narrower), or steps of the other solvers.
            Below 4 blocks the scale s of :func:`pencil` comes out up to a tenth too small.
        size: stage 1 does not stop before it has so many vectors, whatever ``iterations``; modes ``post`` and
            ``constrained`` need room.
        outside_k: leading directions of the outside that mode ``single`` needs; 0 skips stage 2.
        widen: upper limit of blocks in stage 3, which only mode ``generalized`` needs.
        tau: regularisation of the quotient that stage 3 improves; as in ``region_directions``.
        tol: stage 1 stops at this subspace angle, stage 3 when the quotients lack an estimated ``tol`` of their sum.
        seed: of the start.

    Raises:
        ValueError: a value out of range.
    """

    k: int = 5
    solver: str = "krylov"
    iterations: int = 8
    size: int = 0
    outside_k: int = 0
    widen: int = WIDEN
    tau: float = 0.01
    tol: float = 1e-2
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.k <= MAX_K:
            raise ValueError(f"k must lie in 1..{MAX_K}, got {self.k}")
        if self.iterations < 1:
            raise ValueError(f"iterations must be at least 1, got {self.iterations}")
        if not (self.tau > 0 and math.isfinite(self.tau)):
            raise ValueError(f"tau must be above 0, got {self.tau}; 0.01 is the default, smaller is more local")
        if self.solver not in SOLVERS:
            raise ValueError(f"solver must be one of {', '.join(SOLVERS)}, got {self.solver!r}")


@dataclass(frozen=True)
class KrylovBasis:
    """An orthonormal basis of part of h-space and what the decoder makes of it.

    Attributes:
        q: `[n d]`, orthonormal rows in the precision of products.
        b: `[n m]`, ``J q``.
        weights: `[m]`, the mask on the output, 0..1.
        core: rows of stage 1, the first of ``q``: the Krylov space of the region itself.
        residual: estimate of the sine of the angle between the top-k subspace found and the true one.
        history: (products, sum of the top-k region quotients) after every block of stage 3.
        shortfall: estimate of the share of that sum still missing at the end; None without a stage 3.
        products, passes: Jacobian products and sequential passes spent.
    """

    q: Tensor
    b: Tensor
    weights: Tensor
    core: int
    residual: float
    history: tuple[tuple[int, float], ...]
    shortfall: float | None
    products: int
    passes: int

    def gram(self, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Compute ``G = B diag(M) B^T`` inside and ``N = B diag(1 - M) B^T`` outside, `[n n]` float64 each.

        For the mask of the basis, or another one.
        """
        m = (self.weights if weights is None else weights).to(self.b)
        inside = weighted(self.b, self.b, m)
        outside = weighted(self.b, self.b, 1 - m)
        return (inside + inside.T) / 2, (outside + outside.T) / 2


def block_krylov(
    J: DecoderJacobian, weights: Tensor, settings: SolverSettings, start: Tensor | None = None
) -> KrylovBasis:
    """Build the basis.

    Args:
        J: the operator.
        weights: `[m]` in 0..1; the mask on the output.
        settings: how many directions, and how hard to look for them.
        start: `[b d]`, rows to begin with besides random ones, such as the directions of a neighbouring noise level.

    Returns:
        The basis.
    """
    if is_full(weights):  # there is no outside, so nothing of it is to be known
        settings = replace(settings, outside_k=0, widen=0)
    J.planned = J.passes + _planned_passes(J, settings)
    m, d = J.shape
    least = max(settings.size, settings.k + block_width(settings.k, d))
    check_basis(least, settings.k, (2 * d + m) * J.h0.element_size(), J.algebra)
    space = Space(J, weights)
    exact = _exact_basis(space, settings)
    residual = 0.0 if exact else _iterated_basis(space, settings, start)
    core = len(space.q)
    if settings.outside_k:
        _add_outside(space, settings.outside_k)
    history = _widen(space, settings) if settings.widen else []
    return KrylovBasis(
        q=space.q,
        b=space.b,
        weights=space.weights,
        core=core,
        residual=residual,
        history=tuple(history),
        shortfall=shortfall(history) if history else None,
        products=J.products,
        passes=J.passes,
    )


def _exact_basis(space: Space, settings: SolverSettings) -> bool:
    """Fill ``space`` with the region's exact directions, if its mask has few rows and enough for what is wanted."""
    wanted = max(2 * settings.k, settings.size)
    if not has_few_rows(space.weights, settings.k) or int((space.weights > 0).sum()) < wanted:
        return False
    vectors = exact_directions(space.J, space.weights)[1]
    if len(vectors) < wanted:
        return False
    space.add(vectors[:wanted])
    return True


def _iterated_basis(space: Space, settings: SolverSettings, start: Tensor | None) -> float:
    """Fill ``space`` by stage 1; returns an estimate of the sine of the angle to the true directions."""
    begin = rows_to_begin(space, settings.k, seed=settings.seed, start=start)
    blocks = _blocks(settings, space.J.shape[1])
    leading, residual = leading_directions(
        space, begin, settings.k, blocks=blocks, size=settings.size, tol=settings.tol
    )
    space.add(leading)
    return residual


def _blocks(settings: SolverSettings, d: int) -> int:
    """Upper limit of the blocks of stage 1, so many that ``size`` vectors can be reached."""
    return max(settings.iterations, -(-settings.size // block_width(settings.k, d)))


def _planned_passes(J: DecoderJacobian, settings: SolverSettings) -> int:
    """Passes that the three stages take at most, for the progress bar."""
    d = J.shape[1]
    stages = (
        (_blocks(settings, d), block_width(settings.k, d)),
        (settings.widen, settings.k),
        (_OUTSIDE_BLOCKS if settings.outside_k else 0, settings.outside_k + GUARDS),
    )
    return 1 + sum(2 * steps * -(-block // J.chunk) for steps, block in stages)


def _add_outside(space: Space, outside_k: int) -> None:
    """Stage 2: extend the basis by the leading directions of the outside, by block Lanczos."""
    outer = 1 - space.weights
    leading = torch.linalg.eigh(space.outside)[1].flip(1)[:, : outside_k + GUARDS]
    response = leading.T.to(space.b) @ space.b
    for _ in range(_OUTSIDE_BLOCKS):
        fresh = space.add(space.J.vjp(response * outer))
        if not fresh:
            return
        response = space.b[-fresh:]


def _widen(space: Space, settings: SolverSettings) -> list[tuple[int, float]]:
    """Stage 3: extend the basis until the quotients have stopped growing.

    Returns:
        (products, sum of the top-k quotients) after every block.
    """
    history: list[tuple[int, float]] = []
    for i in range(settings.widen + 1):
        quotients, vectors, shift = pencil(space.inside, space.outside, settings.tau)
        quotients = quotients[: settings.k]
        vectors = vectors[:, : settings.k]
        history.append((space.J.products, float(quotients.sum())))
        if i == settings.widen or shortfall(history) < settings.tol:
            break
        if not space.add(_residuals(space, quotients, vectors, shift)):
            break
    return history


def _residuals(space: Space, quotients: Tensor, vectors: Tensor, shift: float) -> Tensor:
    """Gradients of the Rayleigh quotients, `[k d]`; widths beyond k would cost products and bring the k little."""
    response = vectors.T.to(space.b) @ space.b
    pull = space.weights - quotients[:, None] * (1 - space.weights)
    along = (quotients * shift)[:, None] * combined(vectors.T, space.q)
    return space.J.vjp(response * pull).double() - along


def solved_basis(J: DecoderJacobian, weights: Tensor, settings: SolverSettings) -> KrylovBasis:
    """Build the basis as the papers have it.

    It holds the top ``k`` of the inside and of the outside, by ``power`` or ``subspace`` iteration.

    It serves ``none`` and ``single``, and the other modes as far as 2k directions allow. Its ``residual`` is the sine
    of the angle of the last step, which says less than that of :func:`block_krylov`.
    """
    run = power_iteration if settings.solver == "power" else subspace_iteration
    sides = [weights] if is_full(weights) else [weights, 1 - weights]
    space = Space(J, weights)
    parts: list[Singular] = [
        run(
            J,
            side,
            settings.k,
            iterations=settings.iterations,
            tol=settings.tol,
            seed=settings.seed + i,
        )
        for i, side in enumerate(sides)
    ]
    for part in parts:
        space.add(part.vectors)
    return KrylovBasis(
        q=space.q,
        b=space.b,
        weights=space.weights,
        core=len(space.q),
        residual=max(part.turned for part in parts),
        history=(),
        shortfall=None,
        products=J.products,
        passes=J.passes,
    )


def is_full(weights: Tensor) -> bool:
    """Whether a mask leaves nothing outside."""
    return float(weights.min()) >= _FULL


def pencil(inside: Tensor, outside: Tensor, tau: float) -> tuple[Tensor, Tensor, float]:
    """Maximise ``(v^T G v) / (v^T (N + tau s I) v)``, ReSeFa's criterion (Zhu et al. 2022, arXiv 2202.00712).

    s is the largest eigenvalue of G: unlike that of N it is already exact in the basis of stage 1, so the quotient
    grows with the basis, and tau reads as "a leak below sqrt(tau) times the strongest gain counts as none".

    Args:
        inside: G, `[n n]`.
        outside: N, `[n n]`.
        tau: > 0; smaller is more local.

    Returns:
        quotients `[n]` descending, vectors `[n n]` in columns of unit length, and ``tau s``.
    """
    shift = tau * max(float(torch.linalg.eigvalsh(inside)[-1]), 1e-300)
    root = torch.linalg.cholesky(outside + shift * torch.eye(len(outside), dtype=outside.dtype, device=outside.device))
    half = torch.linalg.solve_triangular(root, inside, upper=False)
    whole = torch.linalg.solve_triangular(root, half.T, upper=False)
    values, turn = torch.linalg.eigh((whole + whole.T) / 2)
    vectors = torch.linalg.solve_triangular(root.T, turn.flip(1), upper=True)
    return values.flip(0), vectors / vectors.norm(dim=0), shift


def shortfall(history: list[tuple[int, float]]) -> float:
    """Share of the last value that a growing series still lacks, its gains continued as a geometric series.

    1 if too short.
    """
    if len(history) < 3:
        return 1.0
    first, second, last = (value for _, value in history[-3:])
    gain = last - second
    before = second - first
    if gain <= 0:
        return 0.0
    ratio = min(gain / before, _SLOWEST) if before > 0 else _SLOWEST
    return gain * ratio / (1 - ratio) / last
