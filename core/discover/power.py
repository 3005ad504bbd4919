"""Single-vector power iteration with deflation (Haas et al. 2024, arXiv 2303.11073, alg. 1; the solver of RBE, arXiv 2412.12912).

The reference that faster solvers are held against. Each vector is kept orthogonal to those already found, which the released
RBE code had commented out, so that there components 2 and 3 repeat the first.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .jacobian import DecoderJacobian


def power_iteration(
    J: DecoderJacobian, weights: Tensor, k: int = 3, iterations: int = 50, tol: float = 1e-4, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Top singular vectors of ``diag(weights)^1/2 J``, one after the other.

    Args:
        J: the operator.
        weights: `[m]`, >= 0; a mask.
        k: how many.
        iterations: upper limit for each.
        tol: stop when the vector turns by less than this (sine of the angle).
        seed: of the start.

    Returns:
        Right singular vectors `[k d]` float64, orthonormal rows, and singular values `[k]`.
    """
    g = torch.Generator().manual_seed(seed)
    weights = weights.to(J.h0)
    found = torch.zeros(0, J.shape[1], dtype=torch.float64, device=J.h0.device)
    values = []
    for _ in range(k):
        v = torch.randn(J.shape[1], generator=g, dtype=torch.float64).to(found)
        v = _unit(v - found.T @ (found @ v))
        square = 0.0
        for _ in range(iterations):
            w = J.vjp(J.jvp(v[None].to(J.h0)) * weights)[0].double()
            w -= found.T @ (found @ w)
            square = float(w @ v)
            nxt = _unit(w)
            turned = float((nxt - v * (nxt @ v)).norm())
            v = nxt
            if turned < tol:
                break
        found = torch.cat([found, v[None]])
        values.append(max(square, 0.0) ** 0.5)
    return found, torch.tensor(values, dtype=torch.float64)


def _unit(v: Tensor) -> Tensor:
    return v / v.norm().clamp_min(1e-300)
