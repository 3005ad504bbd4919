"""A direction for every step, followed down the noise levels by warm start (Haas et al. 2024, arXiv 2303.11073, section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..denoiser import Callback, Denoiser
from ..directions import Directions
from ..trajectory import Trajectory
from .find import krylov_basis, region_result
from .match import match


def track(
    model: Denoiser, trajectory: Trajectory, mask: Tensor | None, steps: Sequence[int], *, k: int = 5, mode: str = "generalized",
    rank: int = 20, tau: float = 0.01, warm: bool = True, callback: Callback | None = None, **options,
) -> tuple[Directions, dict]:  # fmt: skip
    """Directions of a region at several steps of one image, in one order and with one sign.

    Args:
        model: the denoiser that was inverted.
        trajectory: of one image.
        mask: `[h w]` or None.
        steps: indices into ``trajectory.sigmas``, noisiest first.
        k, mode, rank, tau, options: as in ``core.discover.find.discover``.
        warm: start each level with the directions of the one before it; False starts anew, to compare.
        callback: see ``DecoderJacobian``.

    Returns:
        Directions ``[t k c h w]`` and a report: ``products`` of every level, ``cosines`` `[t-1 k]` of each direction with its successor.

    Raises:
        ValueError: no steps, or an input that discovery refuses.
    """
    if not steps:
        raise ValueError("there is no noise level to look at; widen the window")
    needs = {"size": 2 * rank + k} if mode in ("post", "constrained") else {"outside_k": k} if mode == "single" else {}
    needs |= {} if mode == "generalized" else {"widen": 0}
    sets: list[Directions] = []
    products, cosines = [], []
    for i in steps:
        before = sets[-1].vectors[0].flatten(1) if sets and warm else None
        basis = krylov_basis(
            model,
            trajectory.states[i],
            float(trajectory.sigmas[i]),
            mask,
            k=k,
            tau=tau,
            start=before,
            callback=callback,
            **{**needs, **options},
        )
        found = region_result(basis, mode=mode, k=k, rank=rank, tau=tau)
        products.append(basis.products)
        if sets:
            order, sign, cosine = match(sets[-1].vectors[0].flatten(1), found.vectors[0].flatten(1))
            found = found.select(order.tolist())
            found = replace(found, vectors=found.vectors * sign.to(found.vectors)[None, :, None, None, None], labels=())
            cosines.append(cosine)
        sets.append(found)
    parts = {name: torch.cat([getattr(s, name) for s in sets]) for name in ("vectors", "sigmas", "gain", "leak")}
    report = {"products": products, "cosines": torch.stack(cosines) if cosines else torch.zeros(0, k)}
    return replace(sets[0], **parts, method=f"{sets[0].method}, {len(sets)} steps"), report
