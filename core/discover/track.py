"""A direction for every step, followed down the noise levels by warm start.

Haas et al. 2024, arXiv 2303.11073, section 4.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..denoiser import Callback, Denoiser
from ..directions import Directions, scaled
from ..trajectory import Trajectory
from .find import krylov_basis, region_result, solver_settings
from .match import match


def track(
    model: Denoiser,
    trajectory: Trajectory,
    mask: Tensor | None,
    steps: Sequence[int],
    *,
    mode: str = "generalized",
    rank: int = 20,
    layer: str = "middle",
    warm: bool = True,
    callback: Callback | None = None,
    **settings: Any,
) -> tuple[Directions, dict]:
    """Follow the directions of a region through several steps of one image, in one order and with one sign.

    Args:
        model: the denoiser that was inverted.
        trajectory: of one image.
        mask: `[h w]` or None.
        steps: indices into ``trajectory.sigmas``, noisiest first.
        mode, rank, layer, settings: as in ``core.discover.find.discover``.
        warm: start each level with the directions of the one before it; False starts anew, to compare.
        callback: see ``DecoderJacobian``.

    Returns:
        Directions ``[t k c h w]`` and a report: ``products`` of every level, ``cosines`` `[t-1 k]` of each direction
        with its successor.

    Raises:
        ValueError: no steps, or an input that discovery refuses.
    """
    if not steps:
        raise ValueError("there is no noise level to look at; widen the window")
    solver = solver_settings(mode, rank, **settings)
    sets: list[Directions] = []
    products = []
    cosines = []
    for i in steps:
        basis = krylov_basis(
            model,
            trajectory.states[i],
            float(trajectory.sigmas[i]),
            mask,
            solver,
            layer=layer,
            start=sets[-1].vectors[0].flatten(1) if sets and warm else None,
            callback=callback,
        )
        directions = region_result(
            basis,
            mode=mode,
            k=solver.k,
            rank=rank,
            tau=solver.tau,
        )
        products.append(basis.products)
        if sets:
            directions, cosine = _in_order_of(sets[-1], directions)
            cosines.append(cosine)
        sets.append(directions)
    parts = {name: torch.cat([getattr(s, name) for s in sets]) for name in ("vectors", "sigmas", "gain", "leak")}
    report = {"products": products, "cosines": torch.stack(cosines) if cosines else torch.zeros(0, solver.k)}
    return replace(sets[0], **parts, method=f"{sets[0].method}, {len(sets)} steps"), report


def levels_down(high: float, low: float, count: int) -> list[float]:
    """Space noise levels evenly in their logarithm, both ends included; one alone is the higher end.

    Raises:
        ValueError: ``low`` lies above ``high``.
    """
    if low > high:
        raise ValueError(
            f"sigma_start must be at least sigma_end, got {high:g} and {low:g}; sigma_start is the noisy end"
        )
    return [high * (low / high) ** (i / max(count - 1, 1)) for i in range(count)]


def track_text(directions: Directions, report: dict) -> str:
    """Tell people what :func:`track` spent at every level, and how far each direction turned."""
    lines = [
        f"sigma {float(level):.3g}: {products} Jacobian products"
        for level, products in zip(directions.sigmas, report["products"], strict=True)
    ]
    if len(report["cosines"]):
        for i, cosine in enumerate(report["cosines"].T):
            lines.append(f"#{i + 1} turns least to most: cosine {cosine.min():.2f} to {cosine.max():.2f}")
    return "\n".join(lines)


def _in_order_of(before: Directions, directions: Directions) -> tuple[Directions, Tensor]:
    """``directions`` in the order and with the signs of those ``before``, and the cosine of each pair, `[k]`."""
    order, sign, cosine = match(before.vectors[0].flatten(1), directions.vectors[0].flatten(1))
    sorted_ = directions.select(order.tolist())
    return replace(sorted_, vectors=scaled(sorted_.vectors, sign.to(sorted_.vectors)), labels=()), cosine
