"""The square of a photograph at the size that a model works at, and a picture of that square back in the photograph."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .placement import Placement


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
    square = _cut(pictures, box) if box else _turned(pictures, placement, i)
    return resized(square, size).clamp(0, 1)


def resized(square: Tensor, size: int) -> Tensor:
    """A square `[b c s s]` at another size, antialiased bicubic."""
    if square.shape[-1] == size:
        return square
    return F.interpolate(square, (size, size), mode="bicubic", antialias=True, align_corners=False)


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
    top, left, bottom, right = _bounds(placement, i)
    if bottom <= top or right <= left:
        return square.new_zeros(*square.shape[:2], 0, 0), top, left
    if box:
        whole = resized(square, placement.side(i))
        return whole[..., top - box[1] : bottom - box[1], left - box[0] : right - box[0]], top, left
    fine = resized(square, min(placement.side(i), _largest(square)))
    grid = _coordinates(placement, i, top, left, bottom, right).to(square.dtype)
    sampled = F.grid_sample(fine, grid.expand(len(fine), -1, -1, -1), mode="bilinear", align_corners=False)
    return sampled, top, left


def _largest(square: Tensor) -> int:
    """A square is not made finer than this before it is turned: bilinear steps between its pixels are smooth enough."""
    return 4 * square.shape[-1]


def _cut(pictures: Tensor, box: tuple[int, int, int, int]) -> Tensor:
    left, top, right, bottom = box
    height, width = pictures.shape[-2:]
    rows = torch.arange(top, bottom, device=pictures.device).clamp(0, height - 1)
    columns = torch.arange(left, right, device=pictures.device).clamp(0, width - 1)
    return pictures[:, :, rows][:, :, :, columns]


def _turned(pictures: Tensor, placement: Placement, i: int) -> Tensor:
    """A turned square at the photograph's own resolution."""
    side = placement.side(i)
    height, width = placement.size
    steps = (torch.arange(side, dtype=torch.float64) + 0.5) / side * 2 - 1  # of pixel centres, -1..1 in the square
    x, y, dx, dy = placement.squares[i].tolist()
    across, down = steps[None, :], steps[:, None]
    columns, rows = x + across * dx - down * dy, y + across * dy + down * dx
    grid = torch.stack([columns / width, rows / height], -1)[None] * 2 - 1
    return F.grid_sample(pictures, grid.to(pictures), mode="bicubic", padding_mode="border", align_corners=False)


def _bounds(placement: Placement, i: int) -> tuple[int, int, int, int]:
    """Top, left, bottom and right of the part of the photograph that square ``i`` touches."""
    x, y, dx, dy = placement.squares[i].tolist()
    reach = abs(dx) + abs(dy)
    height, width = placement.size
    low = torch.tensor([y - reach, x - reach]).add(1e-6).floor().long().tolist()
    high = torch.tensor([y + reach, x + reach]).sub(1e-6).ceil().long().tolist()
    return max(0, low[0]), max(0, low[1]), min(height, high[0]), min(width, high[1])


def _coordinates(placement: Placement, i: int, top: int, left: int, bottom: int, right: int) -> Tensor:
    """Where the pixel centres of a part of the photograph lie in square ``i``, `[1 h w 2]` in -1..1."""
    x, y, dx, dy = placement.squares[i].tolist()
    columns = torch.arange(left, right, dtype=torch.float64)[None, :] + 0.5 - x
    rows = torch.arange(top, bottom, dtype=torch.float64)[:, None] + 0.5 - y
    length = dx * dx + dy * dy
    across, down = (columns * dx + rows * dy) / length, (rows * dx - columns * dy) / length
    return torch.stack([across, down], -1)[None]
