"""A mask with few numbers in it: its Jacobian has as many rows, and one reverse product for each gives it whole."""

from __future__ import annotations

import torch
from torch import Tensor

from .jacobian import DecoderJacobian
from .parts import combined, products

_FEW = 60  # products that the block engine takes for five directions
_FEW_EACH = 6  # and for every further one
_RANK = 1e-10  # of the largest squared singular value: what is below is rounding


def has_few_rows(weights: Tensor, k: int) -> bool:
    """Whether the rows of a mask, `[m]`, take no more products than the block engine does for ``k`` directions."""
    return int((weights > 0).sum()) <= max(_FEW, _FEW_EACH * (k + 2))


def refuse_few_rows(weights: Tensor, k: int) -> None:
    """Refuse more directions than a masked Jacobian has rows.

    Args:
        weights: the mask on the output, `[m]`.
        k: directions wanted.

    Raises:
        ValueError: there are fewer numbers under the mask.
    """
    count = int((weights > 0).sum())
    if k > count:
        raise ValueError(
            f"k must be at most {count}, got {k}: the mask holds {count} numbers at the size of the image, and no more"
            " directions can change them; paint a larger region or ask for fewer"
        )


def exact_directions(J: DecoderJacobian, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Singular values `[r]` of ``diag(weights)^1/2 J`` descending, and right singular vectors `[r d]`, float64.

    Takes a reverse product for every weight above zero.
    """
    at = (weights > 0).nonzero()[:, 0]
    u = weights.new_zeros(len(at), len(weights))
    u[torch.arange(len(at), device=at.device), at] = weights[at].sqrt()
    rows = J.vjp(u)
    squares, turn = torch.linalg.eigh(products(rows, rows))
    squares, turn = squares.flip(0).clamp_min(0), turn.flip(1)
    independent = squares > squares[0] * _RANK
    values = squares[independent].sqrt()
    return values, combined((turn[:, independent] / values).T, rows)
