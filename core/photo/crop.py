"""The square of a photograph at the size that a model works at, and a picture of that square back in the photograph."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from .placement import Placement

_ROUNDING = 1e-6


def crop(pictures: Tensor, placement: Placement, i: int, size: int) -> Tensor:
    """Cut square ``i`` out of a photograph. Beyond the photograph its edge goes on.

    Args:
        pictures: the photograph, `[1 c h w]`, values 0..1.
        placement: where the square lies.
        i: which square.
        size: side of the result, in pixels.

    Returns:
        `[1 c size size]`, averaged over what a pixel covers (antialiased bicubic) where it shrinks.
    """
    box = placement.box(i)
    if box is None:
        square = _turned(pictures, placement, i)
    else:
        square = cut_box(pictures, box)
    return resized(square, size).clamp(0, 1)


def resized(square: Tensor, size: int) -> Tensor:
    """A square `[b c s s]` at another size, antialiased bicubic."""
    if square.shape[-1] == size:
        return square
    return F.interpolate(
        square,
        (size, size),
        mode="bicubic",
        antialias=True,
        align_corners=False,
    )


def place_back(square: Tensor, placement: Placement, i: int) -> tuple[Tensor, int, int]:
    """Bring a picture of square ``i`` to where it lies in the photograph.

    Args:
        square: `[b c s s]`.
        placement: where the square lies.
        i: which square.

    Returns:
        `[b c h w]`, the smallest upright part of the photograph that holds the square, 0 outside of it, and the top and
        left edge of that part. It has no pixels where the square lies beyond the photograph.
    """
    box = placement.box(i)
    part = _bounds(placement, i)
    top, left, bottom, right = part
    if bottom <= top or right <= left:
        return square.new_zeros(*square.shape[:2], 0, 0), top, left
    if box is not None:
        whole = resized(square, placement.side(i))
        rows = slice(top - box[1], bottom - box[1])
        columns = slice(left - box[0], right - box[0])
        return whole[..., rows, columns], top, left
    # Four times as fine, bilinear steps between its pixels are smooth enough.
    side = min(placement.side(i), 4 * square.shape[-1])
    fine = resized(square, side)
    grid = _coordinates(placement, i, part).to(square.dtype)
    grid = grid.expand(len(fine), -1, -1, -1)
    sampled = F.grid_sample(fine, grid, mode="bilinear", align_corners=False)
    return sampled, top, left


def cut_box(pictures: Tensor, box: tuple[int, int, int, int]) -> Tensor:
    """Cut left, top, right and bottom out of pictures `[b c h w]`; beyond a picture its edge goes on."""
    left, top, right, bottom = box
    height, width = pictures.shape[-2:]
    rows = torch.arange(top, bottom, device=pictures.device)
    columns = torch.arange(left, right, device=pictures.device)
    picture = pictures[:, :, rows.clamp(0, height - 1)]
    return picture[:, :, :, columns.clamp(0, width - 1)]


def _turned(pictures: Tensor, placement: Placement, i: int) -> Tensor:
    """A turned square at the photograph's own resolution."""
    side = placement.side(i)
    height, width = placement.size
    x, y, dx, dy = placement.squares[i].tolist()
    centres = torch.arange(side, dtype=torch.float64) + 0.5
    steps = centres / side * 2 - 1  # -1..1 in the square
    across = steps[None, :]
    down = steps[:, None]
    columns = x + across * dx - down * dy
    rows = y + across * dy + down * dx
    shares = torch.stack([columns / width, rows / height], -1)
    grid = shares[None] * 2 - 1
    return F.grid_sample(pictures, grid.to(pictures), mode="bicubic", padding_mode="border", align_corners=False)


def _bounds(placement: Placement, i: int) -> tuple[int, int, int, int]:
    """Top, left, bottom and right of the part of the photograph that square ``i`` touches."""
    x, y, dx, dy = placement.squares[i].tolist()
    reach = abs(dx) + abs(dy)
    height, width = placement.size
    top = math.floor(y - reach + _ROUNDING)
    left = math.floor(x - reach + _ROUNDING)
    bottom = math.ceil(y + reach - _ROUNDING)
    right = math.ceil(x + reach - _ROUNDING)
    return (
        max(0, top),
        max(0, left),
        min(height, bottom),
        min(width, right),
    )


def _coordinates(placement: Placement, i: int, part: tuple[int, int, int, int]) -> Tensor:
    """Where the pixel centres of a part of the photograph lie in square ``i``, `[1 h w 2]` in -1..1."""
    top, left, bottom, right = part
    x, y, dx, dy = placement.squares[i].tolist()
    columns = torch.arange(left, right, dtype=torch.float64) + 0.5 - x
    rows = torch.arange(top, bottom, dtype=torch.float64) + 0.5 - y
    columns = columns[None, :]
    rows = rows[:, None]
    length = dx * dx + dy * dy
    across = (columns * dx + rows * dy) / length
    down = (rows * dx - columns * dy) / length
    return torch.stack([across, down], -1)[None]
