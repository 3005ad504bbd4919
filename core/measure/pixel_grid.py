"""How strongly a grid of a fixed period is printed over pictures: its frequencies beside the ones around them.

There is no paper. A network that folds blocks of pixels into channels draws each block by itself, and what the blocks
have in common shows as such a grid.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..float64 import widen

_AROUND = (-2, -1, 1, 2)


def grid_strength(images: Tensor, period: int = 4) -> Tensor:
    """Measure the grid of each picture as a ratio of amplitudes.

    The amplitude at the grid's own frequencies (across, down, and both diagonals) over the amplitude at the four bins
    beside each; means over frequencies and channels.

    Args:
        images: `[b c h w]`, any scale; sides are multiples of ``period``.
        period: of the grid in pixels, >= 2.

    Returns:
        `[b]`: 1 without a grid, more with one. NaN for a flat picture.

    Raises:
        ValueError: sides that the period does not divide, or too short for bins beside the grid's.
    """
    height, width = images.shape[-2:]
    if height % period or width % period or min(height, width) < 5 * period:
        raise ValueError(
            f"a grid of {period} pixels needs sides that are multiples of it and at least {5 * period} pixels long, "
            f"got {width}x{height}; crop the pictures"
        )
    spectrum = torch.fft.fft2(widen(images)).abs().mean(1)
    across, down = width // period, height // period
    lines = [(0, across), (down, 0), (down, across), (down, -across)]
    own = torch.stack([spectrum[:, v, u] for v, u in lines], 1)
    beside = torch.stack([_mean_beside(spectrum, v, u) for v, u in lines], 1)
    return own.mean(1) / beside.mean(1)


def _mean_beside(spectrum: Tensor, v: int, u: int) -> Tensor:
    """Average the bins on the same line as a bin: along u if it lies off the vertical axis, else along v."""
    near = [(v, u + step) if u else (v + step, u) for step in _AROUND]
    height, width = spectrum.shape[-2:]
    return torch.stack([spectrum[:, row % height, column % width] for row, column in near], 1).mean(1)
