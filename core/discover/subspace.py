"""Block subspace iteration with Rayleigh-Ritz (Park et al. 2023, arXiv 2307.12868, alg. 1; LOCO Edit, arXiv 2409.02374).

Stops on the angle between successive subspaces; the released codes compare vectors elementwise, which a flipped sign defeats.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .jacobian import DecoderJacobian


def orthonormal(rows: Tensor, against: Tensor | None = None) -> Tensor:
    """Orthonormal float64 rows that span ``rows`` `[b d]`, orthogonal to the orthonormal rows ``against`` `[n d]` (done twice)."""
    rows = rows.double()
    if against is not None and len(against):
        for _ in range(2):
            rows = rows - (rows @ against.T) @ against
    return torch.linalg.qr(rows.T)[0].T.contiguous()


def subspace_iteration(
    J: DecoderJacobian, weights: Tensor, k: int = 5, block: int | None = None, iterations: int = 50, tol: float = 1e-3, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Top singular vectors of ``diag(weights)^1/2 J`` together.

    Args:
        J: the operator.
        weights: `[m]`, >= 0; a mask.
        k: how many.
        block: vectors carried, >= k; default k, as in the papers (2k + 5 converges several times faster).
        iterations: upper limit.
        tol: stop when the subspace of the top k turns by less than this (sine of the largest angle).
        seed: of the start.

    Returns:
        Right singular vectors `[k d]` float64, orthonormal rows, and singular values `[k]`.
    """
    g = torch.Generator().manual_seed(seed)
    weights, b = weights.to(J.h0), max(block or k, k)
    v = orthonormal(torch.randn(b, J.shape[1], generator=g, dtype=torch.float64).to(J.h0.device))
    top, squares = v[:k], torch.zeros(k, dtype=torch.float64)
    for _ in range(iterations):
        w = J.vjp(J.jvp(v.to(J.h0)) * weights).double()
        inner = v @ w.T
        squares, turn = torch.linalg.eigh((inner + inner.T) / 2)
        new = turn.flip(1).T @ v
        squares = squares.flip(0)[:k].cpu()
        moved = float(torch.linalg.matrix_norm(new[:k] - (new[:k] @ top.T) @ top, 2))
        top = new[:k]
        if moved < tol:
            break
        v = orthonormal(w)
    return top, squares.clamp_min(0).sqrt()
