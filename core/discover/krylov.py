"""Block Krylov basis of the masked Jacobian (Musco and Musco 2015, arXiv 1504.05477), widened towards quiet directions.

Stage 1 is block Lanczos with full reorthogonalisation on ``J^T diag(M) J``. Stage 2, if asked for, does the same on
``J^T diag(1 - M) J``. Stage 3 adds, block by block, the residuals of the current best region directions (block Davidson on the
pencil of :mod:`core.discover.region`), until their quotient stops improving. ``B = J Q`` is stored, so every mode, rank and tau
afterwards is small algebra without the network.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .jacobian import DecoderJacobian
from .subspace import orthonormal

_OUTSIDE_BLOCKS = 3  # the leading outside directions are far apart; three blocks hold them


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
        products, passes: Jacobian products and sequential passes spent.
    """

    q: Tensor
    b: Tensor
    weights: Tensor
    core: int
    residual: float
    history: tuple[tuple[int, float], ...]
    products: int
    passes: int

    def gram(self, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """``G = B diag(M) B^T`` inside and ``N = B diag(1 - M) B^T`` outside, `[n n]` float64 each, for this or another mask."""
        return _grams(self.b, (self.weights if weights is None else weights).to(self.b))


def block_krylov(
    J: DecoderJacobian,
    weights: Tensor,
    k: int = 5,
    blocks: int = 6,
    size: int = 0,
    outside_k: int = 0,
    widen: int = 12,
    tau: float = 0.01,
    tol: float = 1e-2,
    seed: int = 0,
) -> KrylovBasis:
    """Build the basis.

    Args:
        J: the operator.
        weights: `[m]` in 0..1; the mask on the output.
        k: directions wanted.
        blocks: upper limit of stage 1.
        size: stage 1 does not stop before it has so many vectors, converged or not; modes ``post`` and ``constrained`` need room.
        outside_k: leading directions of the outside that mode ``single`` needs; 0 skips stage 2.
        widen: upper limit of blocks in stage 3, which only mode ``generalized`` needs.
        tau: regularisation of the quotient that stage 3 improves; as in ``region_directions``.
        tol: stage 1 stops at this subspace angle; stage 3 when a block improves the quotients by less than ``tol`` of their sum.
        seed: of the start.

    Returns:
        The basis.
    """
    d, width = J.shape[1], min(k + 3, J.shape[1])
    weights = weights.to(J.h0)
    outside = 1 - weights
    g = torch.Generator().manual_seed(seed)
    x = orthonormal(torch.randn(width, d, generator=g, dtype=torch.float64).to(J.h0.device))
    q, b, images = x, J.jvp(x.to(J.h0)), x.new_zeros(0, d)
    residual = float("inf")
    for i in range(blocks):
        images = torch.cat([images, J.vjp(b[len(images) :] * weights).double()])
        residual = _angle(q, images, k)
        if (residual < tol and len(q) >= size) or len(q) + width > d or i == blocks - 1:
            break
        x = orthonormal(images[-width:], q)
        q, b = torch.cat([q, x]), torch.cat([b, J.jvp(x.to(J.h0))])
    core = len(q)
    if outside_k and float(outside.sum()) > 0:
        start = torch.randn(min(outside_k + 3, core), core, generator=g).to(b) @ b
        for _ in range(_OUTSIDE_BLOCKS):
            if len(q) + len(start) > d:
                break
            x = orthonormal(J.vjp(start * outside), q)
            start = J.jvp(x.to(J.h0))
            q, b = torch.cat([q, x]), torch.cat([b, start])
    history, quotients = [], 0.0
    for _ in range(widen if float(outside.sum()) > 0 else 0):
        if len(q) + width > d:
            break
        inside, out = _grams(b, weights)
        values, s, shift = pencil(inside, out, tau)
        values, s = values[:width], s[:, :width]
        history.append((J.products, float(values[:k].sum())))
        if history[-1][1] - quotients < tol * history[-1][1]:
            break
        quotients = history[-1][1]
        y = (s.T @ b.double()).to(J.h0)
        # grad of the Rayleigh quotient: J^T (M - theta (1 - M)) J v - theta * shift * v
        r = J.vjp(y * (weights - values.to(J.h0)[:, None] * outside)).double() - (values * shift)[:, None] * (s.T @ q)
        x = orthonormal(r, q)
        q, b = torch.cat([q, x]), torch.cat([b, J.jvp(x.to(J.h0))])
    return KrylovBasis(q, b, weights, core, residual, tuple(history), J.products, J.passes)


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


def _grams(b: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    b, m = b.double(), weights.double()
    inside, outside = (b * m) @ b.T, (b * (1 - m)) @ b.T
    return (inside + inside.T) / 2, (outside + outside.T) / 2


def _angle(q: Tensor, images: Tensor, k: int) -> float:
    """Residual of the top-k Ritz vectors of ``J^T M J`` over the gap below them."""
    inner = q @ images.T
    values, turn = torch.linalg.eigh((inner + inner.T) / 2)
    values, turn = values.flip(0), turn.flip(1)
    if len(values) <= k:
        return float("inf")
    r = turn[:, :k].T @ images - values[:k, None] * (turn[:, :k].T @ q)
    return float(torch.linalg.matrix_norm(r, 2)) / max(float(values[k - 1] - values[k]), 1e-30)
