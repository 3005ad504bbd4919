"""Region discovery in one call: state, mask -> directions (RBE, arXiv 2412.12912, section 3, with the solvers of this folder)."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..denoiser import Callback, Denoiser
from ..directions import Directions
from .jacobian import DecoderJacobian
from .krylov import SOLVERS, KrylovBasis, block_krylov, is_full, solved_basis
from .mask import output_weights
from .region import MODES, region_directions

MAX_K = 64
WIDEN = 24
_REPRODUCED = 1e-2  # relative, of the strongest gain; float32 rounding gives 1e-5
_FULL_NOTE = "the mask covers the whole picture, so there is no outside to protect: these are the strongest directions of all"


@dataclass(frozen=True)
class RegionBasis:
    """A Krylov basis with where it was taken: what :func:`region_result` turns into directions, in any mode, at no cost.

    Attributes:
        krylov: the basis.
        shape: `(c, h, w)` of h.
        image: `(c, h, w)` of what the Jacobian ends in: the denoised state, or a picture made of it.
        sigma, layer, fingerprint, mask: as in ``Directions``.
        seconds: spent on it.
    """

    krylov: KrylovBasis
    shape: tuple[int, int, int]
    image: tuple[int, int, int]
    sigma: float
    layer: str
    fingerprint: str
    mask: Tensor | None
    seconds: float

    @property
    def products(self) -> int:
        """Jacobian products spent."""
        return self.krylov.products


def krylov_basis(
    model: Denoiser, x: Tensor, sigma: float, mask: Tensor | None = None, *, layer: str = "middle", k: int = 5, iterations: int = 8,
    size: int = 0, outside_k: int = 0, widen: int = WIDEN, tau: float = 0.01, tol: float = 1e-2, seed: int = 0, solver: str = "krylov",
    chunk: int | None = None, start: Tensor | None = None, callback: Callback | None = None,
) -> RegionBasis:  # fmt: skip
    """The part of discovery that calls the network.

    Args:
        model: any denoiser with the layer.
        x: one state `[1 c h w]` at ``sigma``.
        sigma: noise level, > 0.
        mask: `[h w]` in 0..1, or None for everything.
        layer: where h is read.
        k: directions wanted, 1..64.
        iterations: upper limit: blocks of the first stage of ``block_krylov``, or steps of the other solvers.
        size, outside_k, widen, tau, tol, seed, start: see ``block_krylov``; the other solvers use tol and seed alone.
        solver: ``krylov``, or as the papers have it ``subspace`` or ``power`` (see ``solved_basis``; about 50 iterations).
        chunk: Jacobian vectors at a time; None by free memory.
        callback: see ``DecoderJacobian``.

    Raises:
        ValueError: the input is refused, with the reason.
        RuntimeError: the Jacobian is degenerate, or memory ran out.
    """
    if not 1 <= k <= MAX_K:
        raise ValueError(f"k must lie in 1..{MAX_K}, got {k}")
    if iterations < 1:
        raise ValueError(f"iterations must be at least 1, got {iterations}")
    if not (tau > 0 and math.isfinite(tau)):
        raise ValueError(f"tau must be above 0, got {tau}; 0.01 is the default, smaller is more local")
    if solver not in SOLVERS:
        raise ValueError(f"solver must be one of {', '.join(SOLVERS)}, got {solver!r}")
    started = time.perf_counter()
    J, weights = _operator(model, x, sigma, mask, layer, chunk, callback)
    if k > J.shape[1] // 2:
        raise ValueError(f"k must be at most half of the {J.shape[1]} numbers of h at this layer, got {k}")
    J.check(seed)
    if solver == "krylov":
        krylov = block_krylov(
            J, weights, k, blocks=iterations, size=size, outside_k=outside_k, widen=widen, tau=tau, tol=tol, seed=seed, start=start
        )  # fmt: skip
    else:
        krylov = solved_basis(J, weights, k, solver=solver, iterations=iterations, tol=tol, seed=seed)
    seconds = time.perf_counter() - started
    painted = None if mask is None else mask.float().cpu()
    return RegionBasis(krylov, _sides(J.h0), _sides(J.y0), float(sigma), layer, model.fingerprint, painted, seconds)


def region_result(
    basis: RegionBasis, *, mode: str = "generalized", k: int = 5, rank: int = 20, tau: float = 0.01, mask: Tensor | None = None
) -> Directions:
    """Directions of a basis in one mode; no network calls. See ``region_directions`` for the other arguments and errors.

    Args:
        basis: from :func:`krylov_basis`.
        mask: another region than the basis was built for, `[h w]`; what it holds that the first one lacks is found only in part.
    """
    weights = basis.krylov.weights if mask is None else output_weights(mask, basis.image)
    full = is_full(weights) and mode in MODES
    found = region_directions(basis.krylov, k, "none" if full else mode, rank=rank, tau=tau, weights=weights)
    detail = {"generalized": f" tau {tau:g}", "constrained": f" rank {rank}", "post": f" rank {rank}"}.get(mode, "")
    return Directions(
        vectors=found.vectors.float().reshape(1, k, *basis.shape).cpu(),
        sigmas=torch.tensor([basis.sigma], dtype=torch.float64),
        gain=found.gain[None].float().cpu(),
        leak=found.leak[None].float().cpu(),
        layer=basis.layer,
        fingerprint=basis.fingerprint.partition("+")[0],
        mask=basis.mask if mask is None else mask.float().cpu(),
        method="none (the mask covers everything)" if full and mode != "none" else f"{mode}{detail}",
        spectrum=found.spectrum.float().cpu(),
    )


def true_response(
    model: Denoiser, x: Tensor, directions: Directions, *, chunk: int | None = None, callback: Callback | None = None
) -> tuple[Tensor, Tensor]:
    """Gain and leak `[k]` of directions at a state, by one Jacobian product each: theirs, or that of another picture.

    Args:
        model: the model they were found on.
        x: one state `[1 c h w]` at the sigma of the first set.
        directions: with the mask that tells inside from outside.
        chunk: Jacobian vectors at a time; None by free memory.
        callback: see ``DecoderJacobian``.

    Raises:
        ValueError: the directions belong to another model, or the state is refused.
    """
    directions.check_model(model.fingerprint, model.layers)
    J, weights = _operator(model, x, float(directions.sigmas[0]), directions.mask, directions.layer, chunk, callback)
    y, weights = J.jvp(directions.vectors[0].flatten(1).to(J.algebra)).double().square(), weights.to(J.algebra).double()
    return (y @ weights).sqrt().float().cpu(), (y @ (1 - weights)).sqrt().float().cpu()


def discover(
    model: Denoiser, x: Tensor, sigma: float, mask: Tensor | None = None, *, mode: str = "generalized", k: int = 5, rank: int = 20,
    tau: float = 0.01, chunk: int | None = None, callback: Callback | None = None, **options,
) -> tuple[Directions, dict]:  # fmt: skip
    """Directions of h that change the masked region of one state and leave the rest.

    Args:
        model, x, sigma, mask, k, tau, chunk, callback, options: see :func:`krylov_basis`; each mode gets what it needs.
        mode: one of ``MODES``.
        rank: outside directions of ``post`` and ``constrained``.

    Returns:
        The directions, their gain and leak measured by a true Jacobian product each, and a report: ``products``, ``passes``,
        ``seconds``, ``residual`` (of the subspace), ``shortfall`` (estimated share of the quotients still missing, or None),
        ``basis`` (its size), ``gain``, ``leak``, ``spectrum``, ``note`` (what the user should know, or empty), ``text`` for people.

    Raises:
        ValueError: the input is refused, with the reason.
        RuntimeError: the Jacobian is degenerate or differs from one call to the next, or memory ran out.
    """
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
    if rank < 0:
        raise ValueError(f"rank must be 0 or more, got {rank}; 20 is the default")
    if mode != "generalized":
        options.setdefault("widen", 0)
    if mode in ("post", "constrained"):
        options.setdefault("size", 2 * rank + k)
    if mode == "single":
        options.setdefault("outside_k", k)
    basis = krylov_basis(model, x, sigma, mask, k=k, tau=tau, chunk=chunk, callback=callback, **options)
    guess = region_result(basis, mode=mode, k=k, rank=rank, tau=tau)
    gain, leak = true_response(model, x, guess, chunk=chunk)
    if not torch.allclose(gain, guess.gain[0], rtol=0, atol=_REPRODUCED * float(guess.gain.max())):
        raise RuntimeError(
            "the model answers differently from one call to the next, so its directions mean nothing; bypass nodes upstream that add "
            "noise or dropout inside the model"
        )
    found = replace(guess, gain=gain[None], leak=leak[None])
    return found, _report(found, basis, k, _FULL_NOTE if is_full(basis.krylov.weights) and mode != "none" else "")


def _sides(x: Tensor) -> tuple[int, int, int]:
    channels, height, width = x.shape[1:]
    return channels, height, width


def _report(found: Directions, basis: RegionBasis, verified: int, note: str) -> dict:
    kr = basis.krylov
    report = {
        "products": kr.products + verified, "passes": kr.passes + 1, "seconds": basis.seconds, "residual": kr.residual,
        "shortfall": kr.shortfall, "basis": len(kr.q), "gain": found.gain[0].tolist(), "leak": found.leak[0].tolist(),
        "spectrum": found.spectrum.tolist(), "note": note,
    }  # fmt: skip
    lines = [
        f"{found.method}, layer {basis.layer}, sigma {basis.sigma:.3g}: {len(found)} directions out of a basis of {len(kr.q)}",
        f"{report['products']} Jacobian products in {report['passes']} passes, {basis.seconds:.1f} s; subspace angle {kr.residual:.1e}"
        + (f", quotients within {kr.shortfall:.1%} of their limit" if kr.shortfall is not None else ""),
        *(f"#{i + 1}: gain {g:.4f}, leak {v:.4f}" for i, (g, v) in enumerate(zip(report["gain"], report["leak"], strict=True))),
        *([note] if note else []),
    ]
    return {**report, "text": "\n".join(lines)}


def _operator(
    model: Denoiser, x: Tensor, sigma: float, mask: Tensor | None, layer: str, chunk: int | None, callback: Callback | None
) -> tuple[DecoderJacobian, Tensor]:
    if layer not in model.layers:
        raise ValueError(f"this model has no layer {layer!r}; choose one of {', '.join(model.layers)}")
    if x.dim() != 4 or len(x) != 1:
        raise ValueError(f"discovery looks at one state [1 c h w], got {list(x.shape)}; pick one image of the trajectory")
    if not torch.isfinite(x).all():
        raise ValueError("the state holds NaN or infinite values; invert the image again")
    if not (sigma > 0 and math.isfinite(sigma)):
        raise ValueError(f"sigma must be above 0, got {sigma}; a clean image has no noise level to look at")
    weights = output_weights(mask, _sides(x))
    J = DecoderJacobian(model.split(x, x.new_full((1,), sigma), layer), chunk, callback)
    return J, weights if J.y0.shape[1:] == x.shape[1:] else output_weights(mask, _sides(J.y0))


__all__ = ["MODES", "RegionBasis", "discover", "krylov_basis", "output_weights", "region_result", "true_response"]
