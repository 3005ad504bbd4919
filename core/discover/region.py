"""Directions of one region out of a Krylov basis, without the network.

RBE, arXiv 2412.12912, section 3; LOCO Edit, arXiv 2409.02374.

With G = J^T M J inside the mask and N = J^T (1 - M) J outside:

* ``none``: top eigenvectors of G.
* ``single``: the released RBE code; from the i-th of G, the component along the i-th of N is removed. The released code
  leaves the result shorter than one and returns it so; here it has unit length, as in every mode.
* ``post``: top eigenvectors of G, the top ``rank`` of N projected away afterwards (LowRankGAN, arXiv 2106.04488).
* ``constrained``: top eigenvectors of G among directions orthogonal to the top ``rank`` of N.

  Both work inside the Krylov space of the region (stage 1 of the basis), where the top of N are the outside directions
  that the region's own directions run into. The top of N in all of h-space hardly touches them: removing its first 20
  lowers the leak by 5 %.
* ``generalized``: maximise ``v^T G v / v^T (N + tau s I) v``, s the largest eigenvalue of G (ReSeFa, arXiv 2202.00712).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .krylov import KrylovBasis, pencil
from .parts import combined, weighted

MODES = ("generalized", "constrained", "post", "single", "none")


@dataclass(frozen=True)
class RegionResult:
    """Unit directions `[k d]` float64, and what they do.

    Gain ``|M^1/2 J v|`` `[k]`, leak `[k]`, and the singular values inside the mask, `[n]`.
    """

    vectors: Tensor
    gain: Tensor
    leak: Tensor
    spectrum: Tensor


def region_directions(
    basis: KrylovBasis,
    k: int = 5,
    mode: str = "generalized",
    *,
    rank: int = 20,
    tau: float = 0.01,
    weights: Tensor | None = None,
) -> RegionResult:
    """The ``k`` directions of a region in one of :data:`MODES`.

    The sign of each makes the mean response inside the mask non-negative; ``generalized`` directions are sorted by
    quotient, the others by singular value. ``none`` and ``constrained`` are orthogonal sets.

    Args:
        basis: from ``block_krylov``.
        k: how many, at most the size of the basis (less ``rank`` for ``constrained``).
        mode: see the module.
        rank: outside directions of ``post`` and ``constrained``; 0 gives ``none``.
        tau: regularisation of ``generalized``, > 0; smaller is more local and weaker. Far below the tau of the basis
            the result stays short of the optimum.
        weights: another mask `[m]` than the one the basis was built for.

    Raises:
        ValueError: an unknown mode, or k, rank or tau out of range.
    """
    n = len(basis.q)
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
    if not tau > 0:
        raise ValueError(f"tau must be above 0, got {tau}; 0.01 is the default, smaller is more local")
    inner = basis.core if mode in ("constrained", "post") else n
    rank = rank if mode in ("constrained", "post") else 0
    if not 0 <= rank < inner:
        raise ValueError(
            f"rank must lie in 0..{inner - 1} for a basis of {inner} vectors, got {rank}; raise iterations or lower the"
            " rank"
        )
    room = inner - rank
    if not 1 <= k <= room:
        raise ValueError(
            f"k must lie in 1..{room} ({inner} vectors found, {rank} projected away), got {k}; raise iterations or"
            " lower k"
        )
    inside, outside = (g[:inner, :inner] for g in basis.gram(weights))
    values, top = _top(inside)
    if mode == "generalized":
        s = pencil(inside, outside, tau)[1][:, :k]
    elif mode == "single":
        other = _top(outside)[1][:, :k]
        s = top[:, :k] - other * (top[:, :k] * other).sum(0)
    elif mode == "post":
        away = _top(outside)[1][:, :rank]
        s = top[:, :k] - away @ (away.T @ top[:, :k])
    elif mode == "constrained":
        free = _top(outside)[1][:, rank:]
        s = free @ _top(free.T @ inside @ free)[1][:, :k]
    else:
        s = top[:, :k]
    s = s / s.norm(dim=0).clamp_min(1e-300)
    m = (basis.weights if weights is None else weights).to(basis.b)
    response = s.T @ weighted(basis.b[:inner], torch.ones_like(m)[None], m)[:, 0]
    s = s * torch.where(response < 0, -1.0, 1.0)
    return RegionResult(
        vectors=combined(s.T, basis.q[:inner]),
        gain=_response(s, inside),
        leak=_response(s, outside),
        spectrum=values.clamp_min(0).sqrt(),
    )


def _response(s: Tensor, gram: Tensor) -> Tensor:
    """Length of the response to each column of ``s``, `[k]`."""
    return ((s.T @ gram) * s.T).sum(1).clamp_min(0).sqrt()


def _top(a: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues descending, eigenvectors in columns."""
    values, vectors = torch.linalg.eigh((a + a.T) / 2)
    return values.flip(0), vectors.flip(1)
