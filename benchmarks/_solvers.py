"""Solvers that the engine is compared with: those of the papers, and those of libraries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.func import jvp, vjp, vmap

from core.discover.subspace import orthonormal

K, ANGLE, GIVE_UP, TIMED, SEEDS = 5, 1e-2, 400, 2, 8
TOLERANCES = (0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
"""Of PROPACK, loosest first."""


def angle(rows: Tensor, reference: Tensor) -> float:
    """Sine of the largest angle between the spans of ``rows`` and ``reference``."""
    q = orthonormal(rows.to(reference))
    return float(torch.linalg.matrix_norm(reference - (reference @ q.T) @ q, 2))


class Gram(Protocol):
    """``J^T diag(M) J`` on rows `[b d]`."""

    def __call__(self, v: Tensor) -> Tensor: ...


def double_backward(f: Callable, h0: Tensor, weights: Tensor) -> Gram:
    """As the released codes do: J v by double backward, then J^T, one vector, each from scratch."""
    root = weights.sqrt()

    def apply(v: Tensor) -> Tensor:
        h = h0.clone().requires_grad_(True)
        with torch.enable_grad():
            y = f(h) * root
            dummy = torch.zeros_like(y, requires_grad=True)
            (pulled,) = torch.autograd.grad(y, h, dummy, create_graph=True)
            (w,) = torch.autograd.grad(pulled, dummy, v.view_as(pulled).to(pulled))
            y = f(h) * root
            (back,) = torch.autograd.grad(y, h, w.detach())
        return back.reshape(1, -1)

    return apply


def forward_mode(f: Callable, h0: Tensor, weights: Tensor) -> Gram:
    """As Park et al. do: forward mode for all rows at once, a backward pass for each."""

    def apply(v: Tensor) -> Tensor:
        y = vmap(lambda row: jvp(f, (h0,), (row.view_as(h0),))[1])(v.to(h0))
        pull = vjp(f, h0)[1]
        return torch.stack([pull(row)[0].reshape(-1) for row in y * weights])

    return apply


def one_by_one(gram: Gram, d: int, reference: Tensor, seed: int = 0) -> tuple[int, Tensor]:
    """(a) One vector after the other, deflated (the released deflation is commented out and never converges beyond the
    first).

    Returns:
        Steps of two products, and the vectors.
    """
    found, steps, g = reference[:0], 0, torch.Generator().manual_seed(seed)
    for i in range(len(reference)):
        v = torch.randn(1, d, generator=g).to(reference)
        for _ in range(GIVE_UP):
            v = v - (v @ found.T) @ found
            v = gram(v / v.norm()).to(reference)
            v, steps = v / v.norm(), steps + 1
            # Its own vector is right when it lies in the span of the first i + 1; the last one settles the subspace.
            if angle(torch.cat([found, v]), reference[: i + 1]) < ANGLE:
                break
        found = orthonormal(torch.cat([found, v]))
    return steps, found


def together(gram: Gram, d: int, reference: Tensor, seed: int = 0) -> tuple[int, Tensor]:
    """(b) A block of k and QR. Returns steps of 2 k products, and the vectors."""
    v, steps = orthonormal(torch.randn(K, d, generator=torch.Generator().manual_seed(seed)).to(reference)), 0
    while steps < GIVE_UP and (not steps or angle(v, reference) >= ANGLE):
        v, steps = orthonormal(gram(v).to(reference)), steps + 1
    return steps, v


def lanczos(J, weights: Tensor, reference: Tensor, seed: int = 0) -> float:
    """Single-vector Lanczos with full reorthogonalisation; J counts what it takes. Returns the angle."""
    q = orthonormal(torch.randn(1, J.shape[1], generator=torch.Generator().manual_seed(seed)).to(reference))
    b, away = J.jvp(q).double(), 1.0
    for _ in range(GIVE_UP):
        top = torch.linalg.eigh((b * weights.double()) @ b.T)[1].flip(1)[:, :K].T @ q
        away = angle(top, reference) if len(top) == K else 1.0
        if away < ANGLE:
            break
        new = orthonormal(J.vjp((b[-1:] * weights).to(weights)), q)
        q, b = torch.cat([q, new]), torch.cat([b, J.jvp(new).double()])
    return away


def propack(J, weights: Tensor, tol: float) -> Tensor:
    """Directions `[k d]` of PROPACK (Larsen 1998), single-vector bidiagonalisation with partial reorthogonalisation."""
    from scipy.sparse.linalg import LinearOperator, svds

    root = weights.float().sqrt()

    def forward(v: np.ndarray) -> np.ndarray:
        return (J.jvp(torch.from_numpy(v.reshape(1, -1)).to(root)).float() * root)[0].cpu().numpy()

    def backward(u: np.ndarray) -> np.ndarray:
        return J.vjp(torch.from_numpy(u.reshape(1, -1)).to(root) * root).float()[0].cpu().numpy()

    masked = LinearOperator(J.shape, matvec=forward, rmatvec=backward, dtype="float32")  # pyright: ignore[reportCallIssue]
    found = svds(masked, K, solver="propack", tol=tol, maxiter=GIVE_UP, return_singular_vectors="vh", rng=0)
    return torch.from_numpy(found[2].copy()).to(root)
