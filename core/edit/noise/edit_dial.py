"""Edit Dial: the strength of an instruct-edit model's own edit (VeloEdit, arXiv 2603.13388), in denoised form.

The velocity that leads straight back to the source z0 is (x - z0) / sigma. VeloEdit compares it with the predicted one,
keeps it where the two agree, and mixes them elsewhere. In denoised form sigma cancels: where the prediction D is nearer
to z0 than a share of the present distance |x - z0|, it becomes z0; elsewhere it becomes D + (1 - strength)(z0 - D).

With nothing kept this is the controlled guidance of RF-Inversion (arXiv 2410.10792), whose eta is 1 - strength.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ...denoiser import Noising

PER_ELEMENT, PER_CELL, SMOOTH = "element", "cell", "3x3"
DECIDED_PER = (PER_ELEMENT, PER_CELL, SMOOTH)
"""What decides alone whether it is kept: a number (the paper), a cell with all its channels, or nine cells."""


def keep_share(similarity: float) -> float:
    """Turn the paper's threshold of similarity, 0..1, into the share of the distance below which a place is kept."""
    return 1 / similarity - 1


def flow_state(x: Tensor, sigma: Tensor, noising: Noising) -> Tensor:
    """Turn a state `[b ...]` at ``sigma`` `[b]` into that of a flow model with as much noise for its signal.

    Distances from the source are compared there: with ``x0 + sigma n`` they grow with sigma, and all would be kept.
    """
    if noising == "flow":
        return x
    return x / (1 + sigma.reshape(-1, *(1,) * (x.dim() - 1)).to(x))


def dial_edit(
    denoised: Tensor, x: Tensor, source: Tensor, strength: float, keep: float, decided_per: str = PER_ELEMENT
) -> tuple[Tensor, Tensor]:
    """Hold a prediction at the source where it hardly edits, and scale the edit elsewhere.

    Args:
        denoised: guided prediction, `[b c ... h w]`.
        x: state of a flow model (see :func:`flow_state`), the same shape.
        source: clean source in the model's latents, `[1 or b c ... h w]`.
        strength: 0 is the source everywhere, 1 the edit as predicted.
        keep: share of the present distance from the source within which a place is kept, 0 or more; 0 keeps none, 0.25
            is the paper's similarity of 0.8.
        decided_per: one of :data:`DECIDED_PER`.

    Returns:
        The prediction, and what is kept of it, `[b ...]` booleans that fit its shape. With strength 1 and keep 0 it is
        ``denoised`` itself.

    Raises:
        ValueError: an option out of range.
    """
    _check(strength, keep, decided_per)
    if not keep:
        kept = torch.zeros_like(denoised, dtype=torch.bool)
        return (denoised if strength == 1 else torch.lerp(source, denoised, strength)), kept
    change, distance = (_seen((value - source).abs(), decided_per) for value in (denoised, x))
    kept = change <= keep * distance
    edited = denoised if strength == 1 else torch.lerp(source.expand_as(denoised), denoised, strength)
    return torch.where(kept, source, edited), kept


def _seen(size: Tensor, decided_per: str) -> Tensor:
    """Magnitudes as they are compared: one a number, or one a cell."""
    if decided_per == PER_ELEMENT:
        return size
    cells = size.mean(1, keepdim=True)
    if decided_per == PER_CELL:
        return cells
    flat = cells.reshape(-1, 1, *cells.shape[-2:])
    return F.avg_pool2d(flat, 3, 1, 1, count_include_pad=False).reshape(cells.shape)


def _check(strength: float, keep: float, decided_per: str) -> None:
    if not 0 <= strength <= 1:
        raise ValueError(f"strength must lie in 0..1 (0 the source, 1 the edit in full), got {strength}")
    if not keep >= 0:
        raise ValueError(f"keep must be 0 (keeps nothing) or more, got {keep}; 0.25 is the paper's")
    if decided_per not in DECIDED_PER:
        raise ValueError(f"decided_per must be one of {', '.join(DECIDED_PER)}, got {decided_per!r}")
