"""Two pictures to be compared: brought to one size, with masks and prompts for each."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from .drawing import with_notes
from .image import middle, psnr
from .sheet import strip

_UNITS = (8, 16, 32, 64)  # a VAE crops the sides to multiples of one of these
_ASPECT = 0.02
_SHOWN = 4  # pictures of a batch


def crop_alike(
    before: Tensor, after: Tensor, mask: Tensor | None, names: tuple[str, str] = ("before", "after")
) -> tuple[Tensor, Tensor | None, str]:
    """Cut ``before`` and its mask to the middle that a VAE has left in ``after``.

    Args:
        before: `[b c h w]`.
        after: the same, or a little smaller.
        mask: `[h w]` or `[b h w]` at the size of ``before``, or None.
        names: of the inputs, for errors.

    Returns:
        ``before`` and the mask at the size of ``after``, and what to tell if something was cut off, or "".

    Raises:
        ValueError: sizes that no VAE makes of each other, or another number of pictures.
    """
    (n, _, h, w), (m, _, high, wide) = before.shape, after.shape
    first, second = names
    if n != m:
        raise ValueError(
            f"'{first}' holds {n} pictures, '{second}' {m}; connect as many, or repeat one with RepeatImageBatch"
        )
    if (h, w) == (high, wide):
        return before, mask, ""
    sizes = f"'{first}' is {w}x{h}, '{second}' {wide}x{high}"
    if not any((high, wide) == (h - h % unit, w - w % unit) for unit in _UNITS):
        raise ValueError(f"{sizes}; scale '{first}' to {wide}x{high} with Upscale Image")
    note = f"{sizes}, as a VAE crops it: the middle of that size is compared"
    return middle(before, high, wide), None if mask is None else middle(mask, high, wide), note


def masks_for(mask: Tensor | None, pictures: Tensor) -> Tensor | None:
    """Bring one mask, or one a picture, to the size of pictures, hard edges kept hard.

    Args:
        mask: `[... h' w']` in 0..1, or None.
        pictures: `[b c h w]`.

    Returns:
        `[1 h w]` or `[b h w]` on the CPU, or None.

    Raises:
        ValueError: another number of masks, or another aspect.
    """
    if mask is None:
        return None
    masks = mask.reshape(-1, *mask.shape[-2:]).float().cpu()
    (b, _, h, w), (n, high, wide) = pictures.shape, masks.shape
    if n not in (1, b):
        raise ValueError(f"'mask' must be one mask, or one for each of the {b} pictures, got {n}")
    if abs(high * w - wide * h) > max(high * h, wide * w) * _ASPECT:
        raise ValueError(
            f"'mask' must have the aspect of source ({w}x{h}), got {wide}x{high}; make the mask from the same picture"
        )
    return masks if (high, wide) == (h, w) else F.interpolate(masks[:, None], (h, w), mode="nearest-exact")[:, 0]


def lines_for(text: str, count: int, name: str) -> list[str]:
    """Read one prompt for all pictures, or a line for each; none from an empty text.

    Raises:
        ValueError: another number of lines; the input is named.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) not in (0, 1, count):
        raise ValueError(f"'{name}' must have one line, or one for each of the {count} pictures, got {len(lines)}")
    return lines


def reconstruction_sheet(original: Tensor, rebuilt: Tensor, notes: Sequence[str] = ()) -> tuple[float, Tensor]:
    """Measure how well pictures came back, and show some of both.

    Args:
        original: `[b 3 h w]` in -1..1.
        rebuilt: the same shape.
        notes: written below.

    Returns:
        The mean PSNR in dB, and a labelled sheet, `[1 H W 3]` in 0..1.
    """
    quality = psnr(rebuilt, original)
    low, high = float(quality.min()), float(quality.max())
    label = f"{low:.1f} dB" if len(quality) == 1 else f"{low:.1f} to {high:.1f} dB"
    first = original[:_SHOWN]
    pictures = [*first, *rebuilt[:_SHOWN]]
    sheet = strip([("", pictures)], ["original"] * len(first) + [label] * len(first))
    return float(quality.mean()), with_notes(sheet, notes)
