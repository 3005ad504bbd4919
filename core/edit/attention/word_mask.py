"""Maps of words become a mask (Otsu 1979, A threshold selection method from gray-level histograms, eq. 18)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ...measure.heatmap import colorize
from ...measure.sheet import strip

_BINS = 256
_DIM = 0.25  # how much of the picture is seen outside of the mask


def parse_phrases(text: str, name: str = "words") -> list[list[str]]:
    """Read ``"hair, closed eyes / open eyes"`` as words, each with its alternatives.

    Args:
        text: words between commas or on lines of their own; alternatives of one between slashes.
        name: of the input, for messages.

    Raises:
        ValueError: a slash without a phrase on both sides, or one phrase twice.
    """
    words = []
    for entry in text.replace("\n", ",").split(","):
        phrases = [" ".join(phrase.split()) for phrase in entry.split("/")]
        if phrases == [""]:
            continue
        if not all(phrases) or len(set(phrases)) < len(phrases):
            raise ValueError(
                f"{name}: alternatives must read like 'closed eyes / open eyes', got {entry.strip()!r:.100}"
            )
        words.append(phrases)
    if len({tuple(phrases) for phrases in words}) < len(words):
        raise ValueError(f"{name}: each word may stand there once, got {text.strip()!r:.100}")
    return words


def unit_map(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring a map `[h' w']` to the size of the picture, its lowest value to 0 and its highest to 1, `[h w]`."""
    grown = F.interpolate(values[None, None].float(), size, mode="bicubic", align_corners=False)[0, 0]
    low = grown.min()
    return (grown - low) / (grown.max() - low).clamp_min(1e-12)


def otsu(values: Tensor) -> float:
    """Find the threshold that separates the values of a map in 0..1 best: the largest variance between both sides."""
    counts = torch.histc(values.double(), _BINS, 0, 1)
    middles = (torch.arange(_BINS, dtype=torch.float64) + 0.5) / _BINS
    below = (counts / counts.sum()).cumsum(0)
    moment = (counts / counts.sum() * middles).cumsum(0)
    between = (moment[-1] * below - moment) ** 2 / (below * (1 - below)).clamp_min(1e-12)
    return float(between.argmax() + 1) / _BINS


def mask_of_words(maps: Sequence[Tensor], rivals: Sequence[Tensor], threshold: float = 0.0) -> Tensor:
    """Unite the places of words, without those where a rival is stronger, `[h w]` of 0 and 1.

    Args:
        maps: one `[h w]` in 0..1 for each word.
        rivals: of words whose places are left out.
        threshold: above which a place belongs to a word; 0 finds one for each map (:func:`otsu`).
    """
    masks = [values > (threshold or otsu(values)) for values in maps]
    if rivals:
        strongest = torch.stack(list(rivals)).amax(0)
        masks = [mask & (values >= strongest) for mask, values in zip(masks, maps, strict=True)]
    return torch.stack(masks).any(0).float()


def map_sheet(picture: Tensor, names: Sequence[str], maps: Sequence[Tensor], mask: Tensor) -> Tensor:
    """Draw the picture `[3 h w]` in -1..1, the map of each word, and what the mask marks, `[1 H W 3]` in 0..1."""
    marked = (picture + 1) * (_DIM + (1 - _DIM) * mask) - 1
    cells = [picture, *(colorize(values) * 2 - 1 for values in maps), marked]
    return strip([("", cells)], ["picture", *names, "mask"])
