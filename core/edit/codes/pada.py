"""PADA: diverse ageing of a code, guided by a text or a reference picture.

Li et al. 2023, arXiv 2303.11086, section 3.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...codes import CodeSpace
from ...files.code_edits import TrainedCodeEdit
from ...networks.pada import drawn, spread
from ...noise import drawn_rows


@torch.no_grad()
def pada_edit(
    trained: TrainedCodeEdit,
    code: Tensor,
    space: CodeSpace,
    guide: Tensor,
    *,
    strength: float = 1.0,
    tau: float = 1.0,
    variants: int = 1,
    seed: int = 0,
) -> Tensor:
    """Age codes in ``variants`` of each picture, one picture's after another's.

    Args:
        trained: of a :class:`core.networks.pada.PADA`.
        code: `[b z]` or `[b l z]`, not normalised.
        space: what came with the code.
        guide: unit embeddings of a text or of reference pictures, `[e]`, `[1 e]` for all or `[b e]`.
        strength: 0 is the code bit for bit, 1 what was trained.
        tau: spread of the variants, in deviations of the trained distribution; at 0 they are equal.
        variants: of each picture.
        seed: of the variants, which are drawn one after another; every picture gets the same draws.

    Returns:
        `[b*variants ...]`.

    Raises:
        ValueError: a code of another model, embeddings of another space, or dials out of range.
    """
    trained.check(code, space)
    if not -3 <= strength <= 3 or not 0 <= tau <= 10 or variants < 1:
        raise ValueError(
            f"strength must lie in -3..3, tau in 0..10 and variants be 1 or more, got {strength:g}, {tau:g} and"
            f" {variants}"
        )
    rows = trained.one_each(guide, code, "'reference' picture")
    net = trained.net.to(code.device)
    repeated = code.repeat_interleave(variants, 0)
    if strength == 0:
        return repeated
    mean, log_variance = net.distribution(spread(rows).repeat_interleave(variants, 0))
    noise = drawn_rows(variants, (net.embedding,), torch.Generator().manual_seed(seed)).to(mean).repeat(len(code), 1)
    normal = trained.space.normalise(repeated)
    return trained.space.moved(repeated, strength * (net(normal, drawn(mean, log_variance, noise, tau)) - normal))


def varied_noise(noise: Tensor, amount: float, variants: int = 1, seed: int = 0) -> Tensor:
    """Vary noises, ``sqrt(1 - amount^2) x_T + amount xi``: low-level variety.

    ``variants`` of each picture, one picture's after another's.

    Args:
        noise: x_T of pictures, `[b c h w]` or with further axes, in whatever scale: xi gets the root mean square of
            each.
        amount: 0..1; 0 is x_T bit for bit.
        variants: of each picture.
        seed: of the variants, which are drawn one after another; every picture gets the same draws.

    Raises:
        ValueError: dials out of range, or noise that is empty or not finite.
    """
    if not 0 <= amount <= 1 or variants < 1:
        raise ValueError(f"amount must lie in 0..1 and variants be 1 or more, got {amount:g} and {variants}")
    if not noise.numel() or not bool(torch.isfinite(noise).all()):
        raise ValueError("the noise latent is empty or holds NaN; connect the noise latent of Invert Image")
    repeated = noise.repeat_interleave(variants, 0)
    if amount == 0:
        return repeated
    # Its own stream of numbers: x_T itself may have been drawn with this seed.
    drawn_noise = drawn_rows(variants, noise.shape[1:], torch.Generator().manual_seed(seed * 1_000_003 + 1)).to(noise)
    deviation = noise.flatten(1).float().square().mean(1).sqrt()
    scale = deviation.to(noise).reshape(-1, *(1,) * (noise.dim() - 1))
    fresh = drawn_noise.repeat(len(noise), *(1,) * (noise.dim() - 1)) * scale.repeat_interleave(variants, 0)
    return math.sqrt(1 - amount**2) * repeated + amount * fresh


def ageing_text(trained: TrainedCodeEdit, code: Tensor, aged: Tensor, variants: int) -> str:
    """Tell people how far codes `[b ...]` moved, and how far their variants, `[b*variants ...]`, are apart."""
    normal = trained.space.normalise(aged).unflatten(0, (len(code), variants))
    moved = float((normal - trained.space.normalise(code)[:, None]).norm(dim=2).mean())
    apart = float((normal - normal.roll(1, 1)).norm(dim=2).mean())
    return f"{trained.label}; {len(aged)} codes, moved by {moved:.2f}, variants {apart:.2f} apart"
