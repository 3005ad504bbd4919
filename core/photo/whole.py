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
    return max(size) <= FACTOR * side and max(size) * FACTOR >= side


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
    target = (side, side) if square else _sides(width / height, side, unit)
    return PictureFit(size, _box(size, target, how), target)


def fit_picture(pictures: Tensor, fit: PictureFit) -> Tensor:
    """Cut and scale pictures `[b c h w]`; `[b c *fit.size]`, averaged over what a pixel covers where it shrinks."""
    cut = cut_box(pictures, fit.box)
    if cut.shape[-2:] == fit.size:
        return cut
    scaled = F.interpolate(cut, fit.size, mode="bicubic", antialias=True, align_corners=False)
    return scaled.clamp(float(pictures.min()), float(pictures.max()))


def fit_region(mask: Tensor, fit: PictureFit) -> Tensor:
    """Cut and scale a mask `[h w]` of the pictures as they were; `[*fit.size]`, 0 beyond the pictures.

    It may have another resolution than the pictures, and their aspect.
    """
    height, width = fit.source
    full = F.interpolate(mask[None, None].float(), (height, width), mode="nearest-exact")
    if mask.shape == fit.source:
        full = mask[None, None].float()
    left, top, right, bottom = fit.box
    around = (max(-left, 0), max(right - width, 0), max(-top, 0), max(bottom - height, 0))
    inside = full[..., max(top, 0) : bottom, max(left, 0) : right]
    cut = F.pad(inside, around)
    if cut.shape[-2:] == fit.size:
        return cut[0, 0]
    return F.interpolate(cut, fit.size, mode="bilinear", antialias=True, align_corners=False)[0, 0].clamp(0, 1)


def fit_text(fit: PictureFit) -> str:
    """Tell people what was done."""
    left, top, right, bottom = fit.box
    height, width = fit.source
    cut = (right - left, bottom - top)
    kept = "all of it" if left <= 0 and top <= 0 and right >= width and bottom >= height else "the middle"
    filled = "" if cut[0] <= width and cut[1] <= height else f", filled up to {cut[0]}x{cut[1]},"
    return f"{width}x{height}: {kept}{filled} taken at {fit.size[1]}x{fit.size[0]} (scaled by {fit.scale:.3g})"


def _to_multiples(size: tuple[int, int], unit: int, how: How) -> PictureFit:
    """Cut the middle at multiples of ``unit``, or fill up to them, without scaling."""
    turn = math.floor if how == "crop" else math.ceil
    height, width = (max(1, turn(n / unit)) * unit for n in size)
    return PictureFit(size, _middle(size, (height, width)), (height, width))


def _sides(aspect: float, side: int, unit: int) -> tuple[int, int]:
    """Height and width of about ``side * side`` pixels and of an aspect (width over height) up to 2 to 1."""
    aspect = min(max(aspect, 1 / _LONGEST), _LONGEST)
    step = math.lcm(unit, _COARSE) if side % _COARSE == 0 and side >= 4 * _COARSE else unit
    height, width = (max(1, round(n / step)) * step for n in (side / aspect**0.5, side * aspect**0.5))
    return height, width


def _box(size: tuple[int, int], target: tuple[int, int], how: How) -> tuple[int, int, int, int]:
    """The middle of the target's aspect: inside of the picture, or around it."""
    height, width = size
    choose = min if how == "crop" else max
    scale = choose(height / target[0], width / target[1])
    box = (max(1, round(target[0] * scale)), max(1, round(target[1] * scale)))
    return _middle(size, box)


def _middle(size: tuple[int, int], box: tuple[int, int]) -> tuple[int, int, int, int]:
    top = (size[0] - box[0]) // 2
    left = (size[1] - box[1]) // 2
    return left, top, left + box[1], top + box[0]
