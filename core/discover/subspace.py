"""Block subspace iteration with Rayleigh-Ritz.

Park et al. 2023, arXiv 2307.12868, alg. 1; LOCO Edit, arXiv 2409.02374.

Stops on the angle between successive subspaces; the released codes compare vectors elementwise, which a flipped sign
defeats.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .jacobian import DecoderJacobian
from .parts import combined, products

_DEPENDENT = 1e-7  # of a unit row: what is left below this is rounding


class Singular(NamedTuple):
    """Right singular vectors `[k d]` float64, orthonormal rows.

    Singular values `[k]`; sine of the angle of the last step.
    """

    vectors: Tensor
    values: Tensor
    turned: float


def orthonormal(rows: Tensor, against: Tensor | None = None) -> Tensor:
    """Orthonormal float64 rows that span ``rows`` `[b d]`.

    Args:
        rows: any rows; without ``against`` as many come back, completed by arbitrary ones if they are dependent.
        against: orthonormal rows `[n d]`. They are projected out, and what depends on them or on each other is dropped,
            so that `[0..b d]` comes back.
    """
    rows = rows.double()
    if against is None:
        return torch.linalg.qr(rows.T)[0].T.contiguous()
    rows = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-300)
    for _ in range(2):
        rows = rows - combined(products(rows, against), against)
    _, size, turned = torch.linalg.svd(rows, full_matrices=False)
    fresh = turned[size > _DEPENDENT][: rows.shape[1] - len(against)]
    # What was small before it was scaled to unit length has brought rounding along.
    fresh = fresh - combined(products(fresh, against), against)
    return torch.linalg.qr(fresh.T)[0].T.contiguous()


def subspace_iteration(
    J: DecoderJacobian,
    weights: Tensor,
    k: int = 5,
    *,
    block: int | None = None,
    iterations: int = 50,
    tol: float = 1e-3,
    seed: int = 0,
) -> Singular:
    """Top singular vectors of ``diag(weights)^1/2 J`` together.

    Args:
        J: the operator.
        weights: `[m]`, >= 0; a mask.
        k: how many.
        block: vectors carried, >= k; default k, as in the papers (2k + 5 converges several times faster).
        iterations: upper limit.
        tol: stop when the subspace of the top k turns by less than this (sine of the largest angle).
        seed: of the start.
    """
    g = torch.Generator().manual_seed(seed)
    weights = weights.to(J.algebra)
    rows = torch.randn(max(block or k, k), J.shape[1], generator=g, dtype=torch.float64)
    v = orthonormal(rows.to(J.algebra))
    top = v[:0]
    squares = torch.zeros(k, dtype=torch.float64)
    moved = 1.0
    for i in range(iterations):
        w = J.vjp(J.jvp(v) * weights).double()
        inner = v @ w.T
        squares, turn = torch.linalg.eigh((inner + inner.T) / 2)
        new = turn.flip(1).T @ v
        squares = squares.flip(0)[:k].cpu()
        if i:  # the first Ritz vectors lie in the random start, and with block = k fill it: nothing has turned yet
            moved = float(torch.linalg.matrix_norm(new[:k] - (new[:k] @ top.T) @ top, 2))
        top = new[:k]
        if moved < tol:
            break
        v = orthonormal(w)
    return Singular(top, squares.clamp_min(0).sqrt(), moved)
