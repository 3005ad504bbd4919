"""Region discovery in one call: state, mask -> directions (RBE, arXiv 2412.12912, section 3, with the solvers of this folder)."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..denoiser import Callback, Denoiser
from ..directions import Directions
from .jacobian import DecoderJacobian
from .krylov import KrylovBasis, block_krylov
from .region import MODES, region_directions

MAX_K = 64


@dataclass(frozen=True)
class RegionBasis:
    """A Krylov basis with where it was taken: what :func:`region_result` turns into directions, in any mode, at no cost."""

    krylov: KrylovBasis
    shape: tuple[int, int, int]
    sigma: float
    layer: str
    fingerprint: str
    mask: Tensor | None
    seconds: float

    @property
    def products(self) -> int:
        """Jacobian products spent."""
        return self.krylov.products


def output_weights(mask: Tensor | None, shape: tuple[int, int, int]) -> Tensor:
    """A mask as weights of the flattened image `[c*h*w]`: resized by area, one value for all channels.

    Args:
        mask: `[h w]` in 0..1 at any resolution of the image's aspect, or None for everything.
        shape: `(c, h, w)` of the image.

    Raises:
        ValueError: the mask is empty, not finite, outside 0..1 or of another aspect.
    """
    c, h, w = shape
    if mask is None:
        return torch.ones(c * h * w)
    if mask.dim() != 2 or 0 in mask.shape:
        raise ValueError(f"mask must be [h w], got {list(mask.shape)}")
    if not torch.isfinite(mask).all() or float(mask.min()) < -1e-6 or float(mask.max()) > 1 + 1e-6:
        raise ValueError("mask must hold numbers in 0..1, without NaN; check the node that made it")
    if abs(mask.shape[0] * w - mask.shape[1] * h) > 0.02 * max(mask.shape[0] * w, mask.shape[1] * h):
        raise ValueError(
            f"mask must have the aspect of the image ({w}x{h}), got {mask.shape[1]}x{mask.shape[0]}; make it from the same picture"
        )
    grid = F.interpolate(mask[None, None].float(), size=(h, w), mode="area")[0, 0].clamp(0, 1)
    if float(grid.max()) < 1e-3:
        raise ValueError("mask is empty: nothing is selected at the size of the image; paint the region white")
    return grid.reshape(1, -1).expand(c, -1).reshape(-1)


def krylov_basis(
    model: Denoiser,
    x: Tensor,
    sigma: float,
    mask: Tensor | None = None,
    *,
    layer: str = "middle",
    k: int = 5,
    iterations: int = 6,
    size: int = 0,
    outside_k: int = 0,
    widen: int = 12,
    tau: float = 0.01,
    tol: float = 1e-2,
    seed: int = 0,
    chunk: int | None = None,
    callback: Callback | None = None,
) -> RegionBasis:
    """The part of discovery that calls the network.

    Args:
        model: any denoiser with the layer.
        x: one state `[1 c h w]` at ``sigma``.
        sigma: noise level, > 0.
        mask: `[h w]` in 0..1, or None.
        layer: where h is read.
        k: directions wanted, 1..64.
        iterations: blocks of the first stage of ``block_krylov``.
        size, outside_k, widen, tau, tol, seed: see ``block_krylov``.
        chunk: Jacobian vectors at a time; None by free memory.
        callback: see ``DecoderJacobian``.

    Raises:
        ValueError: the input is refused, with the reason.
        RuntimeError: the Jacobian is degenerate, or memory ran out.
    """
    if layer not in model.layers:
        raise ValueError(f"this model has no layer {layer!r}; choose one of {', '.join(model.layers)}")
    if x.dim() != 4 or len(x) != 1:
        raise ValueError(f"discovery looks at one state [1 c h w], got {list(x.shape)}; pick one image of the trajectory")
    if not torch.isfinite(x).all() or not sigma > 0:
        raise ValueError(f"the state must be finite and sigma above 0, got sigma {sigma}; invert the image again")
    if not 1 <= k <= MAX_K:
        raise ValueError(f"k must lie in 1..{MAX_K}, got {k}")
    if iterations < 1:
        raise ValueError(f"iterations must be at least 1, got {iterations}")
    started = time.perf_counter()
    weights = output_weights(mask, (x.shape[1], *x.shape[2:])).to(x.device)
    bottleneck = model.split(x, x.new_full((1,), sigma), layer)
    if k > bottleneck.h.numel() // 2:
        raise ValueError(f"k must be at most half of the {bottleneck.h.numel()} numbers of h at this layer, got {k}")
    J = DecoderJacobian(bottleneck, chunk, callback)
    J.check(seed)
    krylov = block_krylov(J, weights, k, iterations, size, outside_k, widen, tau, tol, seed)
    shape = tuple(bottleneck.h.shape[1:])
    return RegionBasis(krylov, shape, sigma, layer, model.fingerprint, mask, time.perf_counter() - started)


def region_result(basis: RegionBasis, *, mode: str = "generalized", k: int = 5, rank: int = 20, tau: float = 0.01) -> Directions:
    """Directions of a basis in one mode; no network calls. See ``region_directions`` for the arguments and errors."""
    full = float(basis.krylov.weights.min()) >= 1 - 1e-3
    found = region_directions(basis.krylov, k, "none" if full else mode, rank, tau)
    detail = {"generalized": f" tau {tau:g}", "constrained": f" rank {rank}", "post": f" rank {rank}"}.get(mode, "")
    return Directions(
        vectors=found.vectors.float().reshape(1, k, *basis.shape).cpu(),
        sigmas=torch.tensor([basis.sigma], dtype=torch.float64),
        gain=found.gain[None].float().cpu(),
        leak=found.leak[None].float().cpu(),
        layer=basis.layer,
        fingerprint=basis.fingerprint,
        mask=None if basis.mask is None else basis.mask.float().cpu(),
        method="none (the mask covers everything)" if full and mode != "none" else f"{mode}{detail}",
        spectrum=found.spectrum.float().cpu(),
    )


def discover(
    model: Denoiser,
    x: Tensor,
    sigma: float,
    mask: Tensor | None = None,
    *,
    mode: str = "generalized",
    k: int = 5,
    rank: int = 20,
    tau: float = 0.01,
    **options,
) -> tuple[Directions, dict]:
    """Directions of h that change the masked region of one state and leave the rest.

    Args:
        model, x, sigma, mask, k, tau, options: see :func:`krylov_basis`.
        mode: one of ``MODES``.
        rank: outside directions of ``post`` and ``constrained``.

    Returns:
        The directions, and a report: products, passes, seconds, residual, basis size and ``text`` for people.
    """
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
    if mode != "generalized":
        options.setdefault("widen", 0)
    if mode in ("post", "constrained"):
        options.setdefault("size", 2 * rank + k)
    if mode == "single":
        options.setdefault("outside_k", k)
    basis = krylov_basis(model, x, sigma, mask, k=k, tau=tau, **options)
    found = region_result(basis, mode=mode, k=k, rank=rank, tau=tau)
    kr = basis.krylov
    report = {
        "products": kr.products,
        "passes": kr.passes,
        "seconds": basis.seconds,
        "residual": kr.residual,
        "basis": len(kr.q),
        "gain": found.gain[0].tolist(),
        "leak": found.leak[0].tolist(),
    }
    report["text"] = (
        f"{found.method}, layer {basis.layer}, sigma {sigma:.3g}: {len(found)} directions out of a basis of {len(kr.q)}\n"
        f"{kr.products} Jacobian products in {kr.passes} passes, {basis.seconds:.1f} s; subspace angle {kr.residual:.1e}\n"
        + "\n".join(f"#{i + 1}: gain {g:.4f}, leak {v:.4f}" for i, (g, v) in enumerate(zip(report["gain"], report["leak"], strict=True)))
    )
    return found, report


__all__ = ["MODES", "RegionBasis", "discover", "krylov_basis", "output_weights", "region_result"]
