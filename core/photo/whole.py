"""A whole picture at the size that a model works at: what is cut off or filled up, and how it is scaled."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from ..picture_facts import PictureFit
from .crop import cut_box

How = Literal["crop", "pad"]
FACTOR = 1.5
"""The longer side of a picture may be so many times the model's side, or the model's side so many times it."""
_LONGEST = 2.0  # width over height, or the other way round, of what a model that takes any aspect is given
_COARSE = 64  # pixels: sides of a picture that a latent model was trained on are multiples of it


def is_near(size: tuple[int, int], side: int) -> bool:
    """Say whether height and width of a picture lie within :data:`FACTOR` of the side that a model works at."""
    longer = max(size)
    return longer <= FACTOR * side and longer * FACTOR >= side


def plan_fit(size: tuple[int, int], side: int, unit: int, how: How, square: bool) -> PictureFit | None:
    """Decide what to do with a picture.

    Args:
        size: its height and width.
        side: of the square pictures that the model was trained on.
        unit: what height and width must be multiples of.
        how: ``crop`` cuts off what is too much of one side, ``pad`` fills up the other.
        square: the model knows square pictures only; another keeps the aspect, up to 2 to 1.

    Returns:
        What to cut and to scale; None where the picture fits as it is.
    """
    height, width = size
    fits = height % unit == 0 and width % unit == 0
    near = is_near(size, side)
    if near and fits:
        return None
    if near and not square:
        return _to_multiples(size, unit, how)
    target = (side, side)
    if not square:
        target = _sides(width / height, side, unit)
    box = _box(size, target, how)
    return PictureFit(size, box, target)


def fit_picture(pictures: Tensor, fit: PictureFit) -> Tensor:
    """Cut and scale pictures `[b c h w]`; `[b c *fit.size]`, averaged over what a pixel covers where it shrinks."""
    cut = cut_box(pictures, fit.box)
    if cut.shape[-2:] == fit.size:
        return cut
    scaled = F.interpolate(
        cut,
        fit.size,
        mode="bicubic",
        antialias=True,
        align_corners=False,
    )
    darkest = float(pictures.min())
    brightest = float(pictures.max())
    return scaled.clamp(darkest, brightest)


def fit_region(mask: Tensor, fit: PictureFit) -> Tensor:
    """Cut and scale a mask `[h w]` of the pictures as they were; `[*fit.size]`, 0 beyond the pictures.

    It may have another resolution than the pictures, and their aspect.
    """
    height, width = fit.source
    full = mask[None, None].float()
    if mask.shape != fit.source:
        full = F.interpolate(full, fit.source, mode="nearest-exact")
    left, top, right, bottom = fit.box
    rows = slice(max(top, 0), bottom)
    columns = slice(max(left, 0), right)
    around = (
        max(-left, 0),
        max(right - width, 0),
        max(-top, 0),
        max(bottom - height, 0),
    )
    cut = F.pad(full[..., rows, columns], around)
    if cut.shape[-2:] == fit.size:
        return cut[0, 0]
    scaled = F.interpolate(
        cut,
        fit.size,
        mode="bilinear",
        antialias=True,
        align_corners=False,
    )
    return scaled[0, 0].clamp(0, 1)


def spread_region(mask: Tensor, fit: PictureFit) -> Tensor:
    """Undo :func:`fit_region`: a mask `[*fit.size]` of what was taken, for the pictures as they were.

    Returns:
        `[*fit.source]` of 0 and 1; 0 where nothing was taken.
    """
    left, top, right, bottom = fit.box
    taken = F.interpolate(mask[None, None].float(), (bottom - top, right - left), mode="bilinear")[0, 0]
    height, width = fit.source
    inside = taken[max(-top, 0) : height - top, max(-left, 0) : width - left]
    around = (
        max(left, 0),
        max(width - right, 0),
        max(top, 0),
        max(height - bottom, 0),
    )
    return (F.pad(inside, around) >= 0.5).float()


def fit_text(fit: PictureFit) -> str:
    """Tell people what was done."""
    left, top, right, bottom = fit.box
    height, width = fit.source
    across = right - left
    down = bottom - top
    whole = across >= width and down >= height
    kept = "all of it" if whole else "the middle"
    filled = ""
    if across > width or down > height:
        filled = f", filled up to {across}x{down},"
    result = f"{fit.size[1]}x{fit.size[0]} (scaled by {fit.scale:.3g})"
    return f"{width}x{height}: {kept}{filled} taken at {result}"


def _to_multiples(size: tuple[int, int], unit: int, how: How) -> PictureFit:
    """Cut the middle at multiples of ``unit``, or fill up to them, without scaling."""
    turn = math.floor if how == "crop" else math.ceil
    height = max(1, turn(size[0] / unit)) * unit
    width = max(1, turn(size[1] / unit)) * unit
    target = (height, width)
    return PictureFit(size, _middle(size, target), target)


def _sides(aspect: float, side: int, unit: int) -> tuple[int, int]:
    """Height and width of about ``side * side`` pixels and of an aspect (width over height) up to 2 to 1."""
    aspect = min(max(aspect, 1 / _LONGEST), _LONGEST)
    coarse = side % _COARSE == 0 and side >= 4 * _COARSE
    step = math.lcm(unit, _COARSE) if coarse else unit
    stretch = math.sqrt(aspect)
    height = max(1, round(side / stretch / step)) * step
    width = max(1, round(side * stretch / step)) * step
    return height, width


def _box(size: tuple[int, int], target: tuple[int, int], how: How) -> tuple[int, int, int, int]:
    """The middle of the target's aspect: inside of the picture, or around it."""
    height, width = size
    choose = min if how == "crop" else max
    scale = choose(height / target[0], width / target[1])
    tall = max(1, round(target[0] * scale))
    wide = max(1, round(target[1] * scale))
    return _middle(size, (tall, wide))


def _middle(size: tuple[int, int], box: tuple[int, int]) -> tuple[int, int, int, int]:
    top = (size[0] - box[0]) // 2
    left = (size[1] - box[1]) // 2
    return left, top, left + box[1], top + box[0]
