"""Local basis of the pullback metric: the directions of x that move h most.

Park et al. 2023, arXiv 2307.12868, section 3.2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..denoiser import Bottleneck, Callback, Denoiser
from ..directions import Directions
from ..fingerprint import without_patches
from .jacobian import DecoderJacobian
from .krylov import SolverSettings, block_krylov
from .loco import STATE
from .parts import combined


def pullback(
    model: Denoiser,
    x: Tensor,
    sigma: float,
    *,
    k: int = 5,
    layer: str = "middle",
    iterations: int = 12,
    seed: int = 0,
    chunk: int | None = None,
    callback: Callback | None = None,
) -> tuple[Directions, Tensor]:
    """Top right singular vectors of ``d h / d x``.

    No mask enters: the method has none, and picks a direction by its index.

    Args:
        model: any denoiser whose split is smooth in x.
        x: one state `[1 c h w]` at ``sigma``.
        sigma: noise level (the paper edits at t = T, 0.8 T or 0.6 T).
        k: how many (50 in the paper).
        layer: where h is read.
        iterations, seed, chunk, callback: as in :func:`core.discover.loco.loco`.

    Returns:
        Unit directions of x with layer ``x`` (gain: how far h moves per unit step), and the images of each in h, unit
        rows `[k d]`.
    """
    rows = x.new_full((1,), sigma)
    J = DecoderJacobian(
        Bottleneck(x, lambda y: model.split(y, rows.expand(len(y)), layer, smooth=True).h, STATE), chunk, callback
    )
    J.check(seed)
    basis = block_krylov(
        J,
        torch.ones(J.shape[0]),
        SolverSettings(
            k=k,
            iterations=iterations,
            widen=0,
            seed=seed,
        ),
    )
    values, turn = torch.linalg.eigh(basis.gram()[0])
    top = turn.flip(1)[:, :k].T
    u = combined(top, basis.b)
    size = u.norm(dim=1)
    directions = Directions(
        vectors=combined(top, basis.q).float().reshape(1, k, *x.shape[1:]).cpu(),
        sigmas=torch.tensor([sigma], dtype=torch.float64),
        gain=size[None].float().cpu(),
        leak=torch.zeros(1, k),
        layer=STATE,
        fingerprint=without_patches(model.fingerprint),
        method=f"pullback of {layer}",
        spectrum=values.flip(0).clamp_min(0).sqrt().float().cpu(),
    )
    return directions, (u / size[:, None]).cpu()
