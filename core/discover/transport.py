"""A direction of one image carried over to another: its part inside what the other's region answers to.

ArXiv 2307.12868, section 3.4.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..directions import Directions
from .find import RegionBasis
from .parts import combined, products


def transport(directions: Directions, basis: RegionBasis) -> tuple[Directions, torch.Tensor]:
    """Directions projected onto the Krylov space of another image's region, at unit length.

    h is one space for all images, so a direction can be used on another as it is; what its region does not answer to
    there only leaks. Gain and leak are those at the other image.

    Args:
        directions: shared by all steps (t = 1).
        basis: of the other image, from ``krylov_basis``.

    Returns:
        The carried directions, and the share of each that was kept, `[k]` in 0..1 (its length before it was scaled
        back).

    Raises:
        ValueError: another model, layer or size, directions for single steps, or nothing of a direction left.
    """
    directions.check_model(basis.fingerprint, (basis.layer,))
    if len(directions.sigmas) > 1:
        raise ValueError(
            "directions for single steps cannot be carried over at one noise level; select a set that all steps share"
        )
    if directions.vectors.shape[2:] != basis.shape:
        raise ValueError(
            f"these directions are {list(directions.vectors.shape[2:])}, the other picture's h is {list(basis.shape)};"
            " use one size"
        )
    q = basis.krylov.q
    inside = products(directions.vectors[0].flatten(1).to(q.device), q)
    length = inside.norm(dim=1)
    if float(length.min()) < 1e-6:
        raise ValueError("nothing of a direction acts on the other picture's region; discover directions there")
    s = inside / length[:, None]
    gain, leak = (((s @ g) * s).sum(1).clamp_min(0).sqrt() for g in basis.krylov.gram())
    moved = replace(
        directions,
        vectors=combined(s, q).reshape(1, -1, *basis.shape).float().cpu(),
        gain=gain[None].float().cpu(),
        leak=leak[None].float().cpu(),
        sigmas=torch.tensor([basis.sigma], dtype=torch.float64),
        mask=basis.mask,
        method=f"{directions.method}, carried over"[:200],
        calibration=None,
    )
    return moved, length.cpu()


def transport_text(moved: Directions, shares: Tensor) -> str:
    """Tell people what is left of each direction, from the result of :func:`transport`."""
    return "\n".join(
        f"{moved.label(i)}: {float(share):.0%} of its length kept, gain {moved.gain[0, i]:.3g},"
        f" leak {moved.leak[0, i]:.3g}"
        for i, share in enumerate(shares)
    )
