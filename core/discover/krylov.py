"""Block Krylov basis of the masked Jacobian (Musco and Musco 2015, arXiv 1504.05477), widened towards quiet directions.

Stage 1 finds the strongest directions of the region, those of ``J^T diag(M) J`` (``davidson.py``). Stage 2, if asked for, is block
Lanczos on ``J^T diag(1 - M) J``. Stage 3 adds, block by block, the residuals of the best region directions so far,
``J^T diag(M - q (1 - M)) J v`` less the part along v, with q the quotient of v: a block Davidson method on the pencil of ``region.py``.
It stops when the quotients have stopped growing. ``B = J Q`` is stored, so every mode, rank and tau afterwards is small algebra
without the network.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .davidson import GUARDS, Space, block_width, leading_directions, rows_to_begin, weighted
from .jacobian import DecoderJacobian
from .power import power_iteration
from .subspace import Singular, subspace_iteration

SOLVERS = ("krylov", "subspace", "power")
_OUTSIDE_BLOCKS = 3  # the leading outside directions are far apart; three blocks hold them
_FULL = 1 - 1e-3
_SLOWEST = 0.95  # ratio of successive gains beyond which extrapolation means nothing


@dataclass(frozen=True)
class KrylovBasis:
    """An orthonormal basis of part of h-space and what the decoder makes of it.

    Attributes:
        q: `[n d]` float64, orthonormal rows.
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
        """``G = B diag(M) B^T`` inside and ``N = B diag(1 - M) B^T`` outside, `[n n]` float64 each, for this or another mask."""
        m = (self.weights if weights is None else weights).to(self.b)
        inside, outside = weighted(self.b, self.b, m), weighted(self.b, self.b, 1 - m)
        return (inside + inside.T) / 2, (outside + outside.T) / 2


def block_krylov(
    J: DecoderJacobian, weights: Tensor, k: int = 5, *, blocks: int = 8, size: int = 0, outside_k: int = 0, widen: int = 24,
    tau: float = 0.01, tol: float = 1e-2, seed: int = 0, start: Tensor | None = None,
) -> KrylovBasis:  # fmt: skip
    """Build the basis.

    Args:
        J: the operator.
        weights: `[m]` in 0..1; the mask on the output.
        k: directions wanted.
        blocks: upper limit of stage 1. Below 4 the scale s of ``pencil`` comes out up to a tenth too small.
        size: stage 1 does not stop before it has so many vectors, whatever ``blocks``; modes ``post`` and ``constrained`` need room.
        outside_k: leading directions of the outside that mode ``single`` needs; 0 skips stage 2.
        widen: upper limit of blocks in stage 3, which only mode ``generalized`` needs.
        tau: regularisation of the quotient that stage 3 improves; as in ``region_directions``.
        tol: stage 1 stops at this subspace angle, stage 3 when the quotients lack an estimated ``tol`` of their sum.
        seed: of the start.
        start: `[b d]`, rows to begin with besides random ones, such as the directions of a neighbouring noise level.

    Returns:
        The basis.
    """
    width = block_width(k, J.shape[1])
    blocks = max(blocks, -(-size // width))
    if is_full(weights):
        outside_k = widen = 0
    stages = ((blocks, width), (widen, k), (_OUTSIDE_BLOCKS if outside_k else 0, outside_k + GUARDS))
    J.planned = J.passes + 1 + sum(2 * steps * -(-block // J.chunk) for steps, block in stages)
    space = Space(J, weights)
    inner, outer = space.weights, 1 - space.weights
    leading, residual = leading_directions(space, rows_to_begin(space, k, seed=seed, start=start), k, blocks=blocks, size=size, tol=tol)
    space.add(leading)
    core = len(space.q)
    if outside_k:
        most = torch.linalg.eigh(space.outside)[1].flip(1)[:, : outside_k + GUARDS].T.to(space.b) @ space.b
        for _ in range(_OUTSIDE_BLOCKS):
            fresh = space.add(J.vjp(most * outer))
            if not fresh:
                break
            most = space.b[-fresh:]
    history: list[tuple[int, float]] = []
    for i in range(widen + 1 if widen else 0):
        quotients, s, shift = pencil(space.inside, space.outside, tau)
        quotients, s = quotients[:k], s[:, :k]
        history.append((J.products, float(quotients.sum())))
        if i == widen or shortfall(history) < tol:
            break
        y = s.T.to(space.b) @ space.b
        # the gradient of the Rayleigh quotient; widths beyond k would cost products and bring the k little
        residuals = J.vjp(y * (inner - quotients[:, None] * outer)).double() - (quotients * shift)[:, None] * (s.T @ space.q)
        if not space.add(residuals):
            break
    missing = shortfall(history) if history else None
    return KrylovBasis(space.q, space.b, space.weights, core, residual, tuple(history), missing, J.products, J.passes)


def solved_basis(
    J: DecoderJacobian, weights: Tensor, k: int = 5, *, solver: str = "subspace", iterations: int = 50, tol: float = 1e-3, seed: int = 0
) -> KrylovBasis:
    """The basis as the papers have it: the top ``k`` of the inside and of the outside by ``power`` or ``subspace`` iteration.

    It serves ``none`` and ``single``, and the other modes as far as 2k directions allow. Its ``residual`` is the sine of the
    angle of the last step, which says less than that of :func:`block_krylov`.
    """
    run = power_iteration if solver == "power" else subspace_iteration
    sides = [weights] if is_full(weights) else [weights, 1 - weights]
    parts: list[Singular] = [run(J, side, k, iterations=iterations, tol=tol, seed=seed + i) for i, side in enumerate(sides)]
    space = Space(J, weights)
    for part in parts:
        space.add(part.vectors)
    return KrylovBasis(space.q, space.b, space.weights, len(space.q), max(p.turned for p in parts), (), None, J.products, J.passes)


def is_full(weights: Tensor) -> bool:
    """Whether a mask leaves nothing outside."""
    return float(weights.min()) >= _FULL


def pencil(inside: Tensor, outside: Tensor, tau: float) -> tuple[Tensor, Tensor, float]:
    """Maximise ``(v^T G v) / (v^T (N + tau s I) v)``, ReSeFa's criterion (Zhu et al. 2022, arXiv 2202.00712).

    s is the largest eigenvalue of G: unlike that of N it is already exact in the basis of stage 1, so the quotient grows with the
    basis, and tau reads as "a leak below sqrt(tau) times the strongest gain counts as none".

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
    """Share of the last value that a growing series still lacks, its gains continued as a geometric series; 1 if too short."""
    if len(history) < 3:
        return 1.0
    first, second, last = (value for _, value in history[-3:])
    gain, before = last - second, second - first
    if gain <= 0:
        return 0.0
    ratio = min(gain / before, _SLOWEST) if before > 0 else _SLOWEST
    return gain * ratio / (1 - ratio) / last
