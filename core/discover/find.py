"""Region discovery in one call, state and mask -> directions (RBE, arXiv 2412.12912, section 3)."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..denoiser import Callback, Denoiser
from ..directions import Directions
from ..fingerprint import without_patches
from .jacobian import DecoderJacobian
from .krylov import KrylovBasis, SolverSettings, block_krylov, is_full, solved_basis
from .mask import output_weights
from .region import MODES, region_directions
from .rows import refuse_few_rows

_REPRODUCED = 1e-2  # relative, of the strongest gain; float32 rounding gives 1e-5
_FULL_NOTE = (
    "the mask covers the whole picture, so there is no outside to protect: these are the strongest directions of all"
)


@dataclass(frozen=True)
class RegionBasis:
    """A Krylov basis with where it was taken.

    :func:`region_result` turns it into directions, in any mode, at no cost.

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
    model: Denoiser,
    x: Tensor,
    sigma: float,
    mask: Tensor | None = None,
    settings: SolverSettings | None = None,
    *,
    layer: str = "middle",
    start: Tensor | None = None,
    chunk: int | None = None,
    callback: Callback | None = None,
) -> RegionBasis:
    """Run the part of discovery that calls the network.

    Args:
        model: any denoiser with the layer.
        x: one state `[1 c h w]` at ``sigma``.
        sigma: noise level, > 0.
        mask: `[h w]` in 0..1, or None for everything.
        settings: how many directions, and how hard to look for them.
        layer: where h is read.
        start: rows to begin with, see ``block_krylov``.
        chunk: Jacobian vectors at a time; None by free memory.
        callback: see ``DecoderJacobian``.

    Raises:
        ValueError: the input is refused, with the reason.
        RuntimeError: the Jacobian is degenerate, or memory ran out.
    """
    settings = settings or SolverSettings()
    return _basis_and_operator(
        model, x, sigma, mask, settings, layer=layer, start=start, chunk=chunk, callback=callback
    )[0]


def _basis_and_operator(
    model: Denoiser,
    x: Tensor,
    sigma: float,
    mask: Tensor | None,
    settings: SolverSettings,
    *,
    layer: str,
    start: Tensor | None,
    chunk: int | None,
    callback: Callback | None,
) -> tuple[RegionBasis, DecoderJacobian]:
    started = time.perf_counter()
    J, weights = _operator(model, x, sigma, mask, layer, chunk, callback)
    basis = RegionBasis(
        krylov=_checked_basis(J, weights, settings, start),
        shape=_sides(J.h0),
        image=_sides(J.y0),
        sigma=float(sigma),
        layer=layer,
        fingerprint=model.fingerprint,
        mask=None if mask is None else mask.float().cpu(),
        seconds=time.perf_counter() - started,
    )
    return basis, J


def _checked_basis(J: DecoderJacobian, weights: Tensor, settings: SolverSettings, start: Tensor | None) -> KrylovBasis:
    if settings.k > J.shape[1] // 2:
        raise ValueError(f"k must be at most half of the {J.shape[1]} numbers of h at this layer, got {settings.k}")
    refuse_few_rows(weights, settings.k)
    J.check(settings.seed, weights)
    if settings.solver == "krylov":
        return block_krylov(J, weights, settings, start)
    return solved_basis(J, weights, settings)


def region_result(
    basis: RegionBasis,
    *,
    mode: str = "generalized",
    k: int = 5,
    rank: int = 20,
    tau: float = 0.01,
    mask: Tensor | None = None,
) -> Directions:
    """Directions of a basis in one mode; no network calls.

    See ``region_directions`` for the other arguments and errors.

    Args:
        basis: from :func:`krylov_basis`.
        mask: another region than the basis was built for, `[h w]`; what it holds that the first one lacks is found only
            in part.
    """
    weights = basis.krylov.weights if mask is None else output_weights(mask, basis.image)
    full = is_full(weights) and mode in MODES
    region = region_directions(basis.krylov, k, "none" if full else mode, rank=rank, tau=tau, weights=weights)
    if full and mode != "none":
        method = "none (the mask covers everything)"
    else:
        settings = {"generalized": f" tau {tau:g}", "constrained": f" rank {rank}", "post": f" rank {rank}"}
        method = f"{mode}{settings.get(mode, '')}"
    return Directions(
        vectors=region.vectors.float().reshape(1, k, *basis.shape).cpu(),
        sigmas=torch.tensor([basis.sigma], dtype=torch.float64),
        gain=region.gain[None].float().cpu(),
        leak=region.leak[None].float().cpu(),
        layer=basis.layer,
        fingerprint=without_patches(basis.fingerprint),
        mask=basis.mask if mask is None else mask.float().cpu(),
        method=method,
        spectrum=region.spectrum.float().cpu(),
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
    return _responses(J, weights, directions)


def _reproduced(J: DecoderJacobian) -> float:
    """How far a gain may be off the one that was found, relative to the strongest."""
    # Differences are off by about half of their spread on a typical direction, and by more on the strongest.
    return _REPRODUCED + (2 * J.step.spread if J.step else 0.0)


def _responses(J: DecoderJacobian, weights: Tensor, directions: Directions) -> tuple[Tensor, Tensor]:
    y = J.responses(directions.vectors[0].flatten(1).to(J.algebra), weights).double().square()
    weights = weights.to(J.algebra).double()
    return (y @ weights).sqrt().float().cpu(), (y @ (1 - weights)).sqrt().float().cpu()


def solver_settings(mode: str, rank: int = 20, **settings: Any) -> SolverSettings:
    """The settings that a mode needs where nothing else is asked for.

    Args:
        mode: one of ``MODES``.
        rank: outside directions of ``post`` and ``constrained``.
        settings: fields of :class:`SolverSettings`.

    Raises:
        ValueError: an unknown mode, or a value out of range.
    """
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
    if rank < 0:
        raise ValueError(f"rank must be 0 or more, got {rank}; 20 is the default")
    k = settings.get("k", SolverSettings.k)
    if mode != "generalized":
        settings.setdefault("widen", 0)
    if mode in ("post", "constrained"):
        settings.setdefault("size", 2 * rank + k)
    if mode == "single":
        settings.setdefault("outside_k", k)
    return SolverSettings(**settings)


def discover(
    model: Denoiser,
    x: Tensor,
    sigma: float,
    mask: Tensor | None = None,
    *,
    mode: str = "generalized",
    rank: int = 20,
    layer: str = "middle",
    start: Tensor | None = None,
    chunk: int | None = None,
    callback: Callback | None = None,
    **settings: Any,
) -> tuple[Directions, dict]:
    """Find directions of h that change the masked region of one state and leave the rest.

    Args:
        model, x, sigma, mask, layer, start, chunk, callback: see :func:`krylov_basis`.
        mode: one of ``MODES``.
        rank: outside directions of ``post`` and ``constrained``.
        settings: fields of :class:`SolverSettings`; each mode gets what it needs.

    Returns:
        The directions, their gain and leak measured by a true Jacobian product each, and a report: ``products``,
        ``passes``, ``seconds``, ``residual`` (of the subspace), ``shortfall`` (estimated share of the quotients still
        missing, or None), ``basis`` (its size), ``gain``, ``leak``, ``spectrum``, ``note`` (what the user should know,
        or empty), ``how`` products were made, ``text`` for people.

    Raises:
        ValueError: the input is refused, with the reason.
        RuntimeError: the Jacobian is degenerate or differs from one call to the next, or memory ran out.
    """
    solver = solver_settings(mode, rank, **settings)
    basis, J = _basis_and_operator(
        model, x, sigma, mask, solver, layer=layer, start=start, chunk=chunk, callback=callback
    )
    guess = region_result(
        basis,
        mode=mode,
        k=solver.k,
        rank=rank,
        tau=solver.tau,
    )
    gain, leak = _responses(J, basis.krylov.weights, guess)
    if not torch.allclose(gain, guess.gain[0], rtol=0, atol=_reproduced(J) * float(guess.gain.max())):
        raise RuntimeError(
            "the model answers differently from one call to the next, so its directions mean nothing; bypass nodes"
            " upstream that add noise or dropout inside the model"
        )
    directions = replace(guess, gain=gain[None], leak=leak[None])
    full = is_full(basis.krylov.weights) and mode != "none"
    return directions, _report(directions, basis, _FULL_NOTE if full else "", J.summary())


def _sides(x: Tensor) -> tuple[int, int, int]:
    channels, height, width = x.shape[1:]
    return channels, height, width


def _report(directions: Directions, basis: RegionBasis, note: str, how: str) -> dict:
    krylov = basis.krylov
    report = {
        "products": krylov.products + len(directions),  # one more each for the true gain and leak
        "passes": krylov.passes + 1,
        "seconds": basis.seconds,
        "residual": krylov.residual,
        "shortfall": krylov.shortfall,
        "basis": len(krylov.q),
        "gain": directions.gain[0].tolist(),
        "leak": directions.leak[0].tolist(),
        "spectrum": directions.spectrum.tolist(),
        "note": note,
        "how": how,
    }
    return {**report, "text": _report_text(directions, basis, report)}


def _report_text(directions: Directions, basis: RegionBasis, report: dict) -> str:
    where = f"{directions.method}, layer {basis.layer}, sigma {basis.sigma:.3g}"
    lines = [f"{where}: {len(directions)} directions out of a basis of {report['basis']}"]
    cost = f"{report['products']} Jacobian products in {report['passes']} passes, {basis.seconds:.1f} s"
    accuracy = f"subspace angle {report['residual']:.1e}"
    if report["shortfall"] is not None:
        accuracy += f", quotients within {report['shortfall']:.1%} of their limit"
    lines += [f"{cost}; {accuracy}", report["how"]]
    for i, (gain, leak) in enumerate(zip(report["gain"], report["leak"], strict=True)):
        lines.append(f"#{i + 1}: gain {gain:.4f}, leak {leak:.4f}")
    if report["note"]:
        lines.append(report["note"])
    return "\n".join(lines)


def _operator(
    model: Denoiser,
    x: Tensor,
    sigma: float,
    mask: Tensor | None,
    layer: str,
    chunk: int | None,
    callback: Callback | None,
) -> tuple[DecoderJacobian, Tensor]:
    if layer not in model.layers:
        raise ValueError(f"this model has no layer {layer!r}; choose one of {', '.join(model.layers)}")
    if x.dim() != 4 or len(x) != 1:
        raise ValueError(
            f"discovery looks at one state [1 c h w], got {list(x.shape)}; pick one image of the trajectory"
        )
    if not torch.isfinite(x).all():
        raise ValueError("the state holds NaN or infinite values; invert the image again")
    if not (sigma > 0 and math.isfinite(sigma)):
        raise ValueError(f"sigma must be above 0, got {sigma}; a clean image has no noise level to look at")
    weights = output_weights(mask, _sides(x))
    J = DecoderJacobian(model.split(x, x.new_full((1,), sigma), layer), chunk, callback)
    return J, weights if J.y0.shape[1:] == x.shape[1:] else output_weights(mask, _sides(J.y0))


__all__ = [
    "MODES",
    "RegionBasis",
    "discover",
    "krylov_basis",
    "output_weights",
    "region_result",
    "solver_settings",
    "true_response",
]
