"""An edit of a small square back in the photograph at full size: what changed is added, so grain and pores stay."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .crop import crop, place_back
from .placement import Placement

_COARSE = 512  # pixels along a side on which the smooth edge of the region is drawn


def paste_difference(
    photographs: Tensor, edited: Tensor, reconstruction: Tensor, placement: Placement, feather: float = 0.06
) -> Tensor:
    """Add ``edited - reconstruction``, at the photograph's size, inside of the region.

    What the model cannot draw is in neither picture, so it stays as it is in the photograph; where they agree the
    photograph comes back bit for bit.

    Args:
        photographs: `[b c h w]` in 0..1, or one for all squares, `[1 c h w]`.
        edited: `[n*b c s s]` in 0..1; row i belongs to square i mod b.
        reconstruction: `[n*b c s s]` or `[b c s s]`, the same squares without the edit.
        placement: where the squares lie.
        feather: width of the smooth edge around the region, over the side of the square, 0 or more.

    Returns:
        `[n*b c h w]`.

    Raises:
        ValueError: sizes or numbers of pictures that do not belong together.
    """
    _check(photographs, edited, reconstruction, placement)
    regions: dict[int, Tensor] = {}
    result = []
    for row, picture in enumerate(edited):
        i = row % len(placement)
        if i not in regions:
            regions[i] = region_of(placement, i, feather)
        before = reconstruction[row % len(reconstruction)]
        photograph = photographs[i % len(photographs)]
        difference = (picture - before)[None].to(photograph)
        region = regions[i].to(photograph)
        result.append(_added(photograph, difference, region, placement, i))
    return torch.stack(result)


def region_of(placement: Placement, i: int, feather: float) -> Tensor:
    """Share of the change that each part of square ``i`` takes on, `[1 1 q q]` in 0..1.

    It is 1 where the mask is, falls to 0 within twice the feather around it, and to 0 towards those sides of the square
    that lie inside of the photograph.
    """
    side = min(placement.side(i), _COARSE)
    width = max(0, round(feather * side))
    if placement.mask is None:
        region = torch.ones(1, 1, side, side)
    else:
        mask = placement.mask[i % len(placement.mask)].float()
        region = _softened(crop(mask[None, None], placement, i, side), width)
    return region * _border(placement, i, side, width)


def _added(photograph: Tensor, difference: Tensor, region: Tensor, placement: Placement, i: int) -> Tensor:
    change, top, left = place_back(difference, placement, i)
    share, _, _ = place_back(region, placement, i)
    change = change[0] * share[0].clamp(0, 1)
    rows = slice(top, top + change.shape[1])
    columns = slice(left, left + change.shape[2])
    result = photograph.clone()
    part = result[:, rows, columns]
    # A photograph may lie outside of 0..1 by a resampling filter; where nothing changes it stays so.
    changed = (part + change).clamp(0, 1)
    result[:, rows, columns] = torch.where(change == 0, part, changed)
    return result


def _softened(mask: Tensor, width: int) -> Tensor:
    """A mask `[1 1 q q]` grown by ``width`` pixels and smoothed over as many."""
    if width == 0:
        return mask
    across = 2 * width + 1
    grown = F.max_pool2d(mask, (across, 1), 1, (width, 0))
    grown = F.max_pool2d(grown, (1, across), 1, (0, width))
    steps = torch.arange(-width, width + 1, dtype=mask.dtype)
    kernel = torch.exp(-0.5 * (steps / (width / 2)) ** 2)
    kernel /= kernel.sum()
    padded = F.pad(grown, (width, width, width, width), mode="replicate")
    smooth = F.conv2d(padded, kernel.view(1, 1, -1, 1))
    smooth = F.conv2d(smooth, kernel.view(1, 1, 1, -1))
    reached = F.max_pool2d(padded, across, 1) > 0
    return smooth.clamp(0, 1).where(reached, torch.zeros(()))


def _border(placement: Placement, i: int, side: int, width: int) -> Tensor:
    """1 in a square `[1 1 side side]`, falling to 0 towards its sides, but for those at or beyond the photograph's."""
    flat = torch.ones(side)
    ramp = flat
    if width:
        ramp = ((torch.arange(side) + 0.5) / width).clamp(0, 1)
        ramp = ramp * ramp * (3 - 2 * ramp)
    left = top = right = bottom = ramp
    box = placement.box(i)
    if box is not None:
        height, wide = placement.size
        left = ramp if box[0] > 0 else flat
        top = ramp if box[1] > 0 else flat
        right = ramp if box[2] < wide else flat
        bottom = ramp if box[3] < height else flat
    columns = left * right.flip(0)
    rows = top * bottom.flip(0)
    return (rows[:, None] * columns)[None, None]


def _check(photographs: Tensor, edited: Tensor, reconstruction: Tensor, placement: Placement) -> None:
    count = len(placement)
    if tuple(photographs.shape[-2:]) != tuple(placement.size):
        raise ValueError(
            f"the original is {photographs.shape[-1]}x{photographs.shape[-2]}, but the placement is of photographs of"
            f" {placement.size[1]}x{placement.size[0]}; connect the picture that went into Fit Photo"
        )
    if len(photographs) not in (1, count):
        raise ValueError(f"there must be 1 original or {count}, one for each square, got {len(photographs)}")
    if edited.shape[1:] != reconstruction.shape[1:]:
        raise ValueError(
            f"edited is {edited.shape[-1]}x{edited.shape[-2]}, reconstruction is"
            f" {reconstruction.shape[-1]}x{reconstruction.shape[-2]}; connect both outputs of one Render Trajectory"
        )
    if edited.shape[-1] != edited.shape[-2]:
        raise ValueError(f"edited must be square, as Fit Photo made it, got {edited.shape[-1]}x{edited.shape[-2]}")
    if len(edited) % count or len(reconstruction) not in (count, len(edited)):
        raise ValueError(
            f"the placement has {count} squares: edited must have that many pictures or a multiple, reconstruction that"
            f" many or as many as edited; got {len(edited)} and {len(reconstruction)}"
        )
