"""LOCO Edit: directions of x itself, by the masked Jacobian of the posterior mean.

Chen et al. 2024, arXiv 2409.02374, alg. 1.

Top singular vectors of ``M d denoised / d x``, the top ``rank`` of the complement projected away. The projection is the
paper's; it is weak, because a handful of vectors out of all of x-space hardly meet the region's own (see ``region.py``
for what does).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..denoiser import Callback, Denoiser
from ..directions import Directions
from ..fingerprint import without_patches
from .jacobian import DecoderJacobian
from .krylov import SolverSettings, block_krylov, is_full
from .mask import output_weights
from .parts import combined
from .rows import refuse_few_rows


class Preset(NamedTuple):
    """What the paper's unsupervised script uses on one data set.

    Level t (share of T), k, rank, and the length of the whole step.
    """

    t: float
    k: int
    rank: int
    strength: float


PRESETS = {
    "CelebA-HQ": Preset(0.6, 1, 5, 16 * 0.5),
    "AFHQ": Preset(0.7, 1, 10, 16 * 0.2),
    "FFHQ": Preset(0.2, 3, 5, 12.0),
    "Flower": Preset(0.7, 5, 5, 16 * 0.5),
    "MetFaces": Preset(0.7, 1, 0, 3 * 2.0),
    "LSUN Church": Preset(0.6, 5, 5, 4.0),
    "Stable Diffusion": Preset(0.7, 5, 5, 16 * 0.2),
    "LCM": Preset(0.519, 5, 5, 24 * 0.4),  # step 2 of 4
    "DeepFloyd IF": Preset(0.75, 5, 5, 64 * 0.2),  # the host has no loader for it; kept for workflows that name it
}
STATE = "x"
"""The layer name of directions that live in the state rather than in h."""


def loco(
    model: Denoiser,
    x: Tensor,
    sigma: float,
    mask: Tensor | None,
    *,
    k: int = 1,
    rank: int = 5,
    iterations: int = 12,
    seed: int = 0,
    chunk: int | None = None,
    callback: Callback | None = None,
) -> Directions:
    """Directions of the state.

    Args:
        model: any denoiser.
        x: one state `[1 c h w]`.
        sigma: its noise level (the paper: t = 0.6 T on CelebA-HQ).
        mask: `[h w]` in 0..1, or None for everything.
        k: how many (1 to 5 in the paper).
        rank: vectors of the complement that are projected away (5 or 10).
        iterations: upper limit of Krylov blocks; converged earlier as a rule.
        seed, chunk, callback: as in ``core.discover.find``.

    Returns:
        Unit directions with layer ``x``; gain and leak are responses of the denoised picture per unit step in x.

    Raises:
        ValueError: k or rank out of range, or a mask that is refused or holds fewer than k numbers.
    """
    if k < 1 or rank < 0:
        raise ValueError(f"k must be at least 1 and rank at least 0, got {k} and {rank}")
    channels, height, width = x.shape[1:]
    output_weights(mask, (channels, height, width))  # refused before the network is asked
    J = DecoderJacobian(model.split(x, x.new_full((1,), sigma), STATE), chunk, callback)
    channels, height, width = J.y0.shape[1:]
    weights = output_weights(mask, (channels, height, width)).to(J.algebra, J.h0.dtype)
    refuse_few_rows(weights, k)
    J.check(seed, weights)
    v, spectrum = _top(J, weights, k, iterations, seed)
    if rank and not is_full(weights):
        away, _ = _top(J, 1 - weights, rank, iterations, seed + 1)
        v = v - (v @ away.T) @ away
        v = v / v.norm(dim=1, keepdim=True)
    y = J.jvp(v).double()
    v = v * torch.where(y @ weights.double() < 0, -1.0, 1.0)[:, None]
    w = weights.double()
    inside = (y.square() @ w).sqrt()
    outside = (y.square() @ (1 - w)).sqrt()
    return Directions(
        vectors=v.float().reshape(1, k, *x.shape[1:]).cpu(),
        sigmas=torch.tensor([sigma], dtype=torch.float64),
        gain=inside[None].float().cpu(),
        leak=outside[None].float().cpu(),
        layer=STATE,
        fingerprint=without_patches(model.fingerprint),
        mask=None if mask is None else mask.float().cpu(),
        method=f"LOCO rank {rank}",
        spectrum=spectrum.float().cpu(),
    )


def _top(J: DecoderJacobian, weights: Tensor, k: int, iterations: int, seed: int) -> tuple[Tensor, Tensor]:
    """Top right singular vectors `[k d]` of the masked Jacobian and all singular values of the basis."""
    basis = block_krylov(
        J,
        weights,
        SolverSettings(
            k=k,
            iterations=iterations,
            widen=0,
            seed=seed,
        ),
    )
    values, turn = torch.linalg.eigh(basis.gram()[0])
    return combined(turn.flip(1)[:, :k].T, basis.q), values.flip(0).clamp_min(0).sqrt()
