"""Single-vector power iteration with deflation.

Haas et al. 2024, arXiv 2303.11073, alg. 1; the solver of RBE, arXiv 2412.12912.

The reference that faster solvers are held against. Each vector is kept orthogonal to those already found, which the
released RBE code had commented out, so that there components 2 and 3 repeat the first.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .jacobian import DecoderJacobian
from .subspace import Singular

_NOTHING = 1e-12  # of the largest squared singular value: the rest of the region is without effect


def power_iteration(
    J: DecoderJacobian, weights: Tensor, k: int = 3, *, iterations: int = 50, tol: float = 1e-4, seed: int = 0
) -> Singular:
    """Top singular vectors of ``diag(weights)^1/2 J``, one after the other.

    Args:
        J: the operator.
        weights: `[m]`, >= 0; a mask.
        k: how many.
        iterations: upper limit for each.
        tol: stop when the vector turns by less than this (sine of the angle).
        seed: of the start.
    """
    g = torch.Generator().manual_seed(seed)
    weights = weights.to(J.algebra)
    vectors = torch.zeros(0, J.shape[1], dtype=torch.float64, device=J.algebra)
    squares = []
    worst = 0.0
    for _ in range(k):
        v = torch.randn(J.shape[1], generator=g, dtype=torch.float64).to(vectors)
        v -= vectors.T @ (vectors @ v)
        v /= v.norm()
        square = 0.0
        turned = 0.0
        for _ in range(iterations):
            w = J.vjp(J.jvp(v[None]) * weights)[0].double()
            w -= vectors.T @ (vectors @ w)
            square = float(w @ v)
            size = float(w.norm())
            if size <= _NOTHING * max(squares, default=0.0) or size == 0:
                break
            w /= size
            turned = float((w - v * (w @ v)).norm())
            v = w
            if turned < tol:
                break
        vectors = torch.cat([vectors, v[None]])
        squares.append(max(square, 0.0))
        worst = max(worst, turned)
    return Singular(vectors, torch.tensor(squares, dtype=torch.float64).sqrt(), worst)
