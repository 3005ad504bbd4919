"""The metrics of PIE-Bench as its code computes them, and variants without its quirks.

PnP Inversion, arXiv 2310.01506, section 5.1.

Its background figures multiply both pictures by ``1 - mask`` and then measure the whole canvas, zeros included: the
larger the mask, the better they look. The variants named ``..._outside`` count the pixels outside the mask and nothing
else. A picture whose mask covers everything has no background: NaN, left out of every mean.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..embedder import Embedder
from ..float64 import widen
from .image import PSNR_CAP, ssim_map
from .lpips import LPIPS
from .structure import Features, structure_distance

Scores = dict[str, Tensor]
"""Name -> `[b]`, NaN where a figure does not exist. The names without ``_outside`` are those of the benchmark's own
tables."""

SCALES = {"structure_distance": 1e3, "lpips": 1e3, "mse": 1e4, "ssim": 1e2}
"""What the benchmark multiplies a figure by when it prints one."""
_WINDOW = 11


@dataclass(frozen=True)
class Instruments:
    """What sees pictures for the benchmark; a figure without its instrument is not measured.

    Attributes:
        features: for the structure distance.
        lpips: for LPIPS.
        embedder: for the similarity to prompts.
    """

    features: Features | None = None
    lpips: LPIPS | None = None
    embedder: Embedder | None = None


@dataclass(frozen=True)
class Prompts:
    """What pictures are said to show, one prompt or one a picture; none: not measured.

    Attributes:
        source: of the source pictures.
        target: of the edited pictures.
    """

    source: Sequence[str] = ()
    target: Sequence[str] = ()


def measure_pie(
    source: Tensor,
    edited: Tensor,
    mask: Tensor | None = None,
    instruments: Instruments | None = None,
    prompts: Prompts | None = None,
) -> Scores:
    """Measure everything that can be measured with what is given.

    Args:
        source: `[b 3 h w]` in -1..1.
        edited: the same shape.
        mask: `[h w]`, `[1 h w]` or `[b h w]` in 0..1, the region that was meant to change; None: the whole picture is
            background.
        instruments: what sees the pictures.
        prompts: of both.

    Raises:
        ValueError: sizes, masks or numbers of prompts that do not fit.
    """
    if source.dim() != 4 or source.shape[1] != 3 or 0 in source.shape or source.shape != edited.shape:
        raise ValueError(
            f"source and edited pictures must both be [b 3 h w] of one size, got {list(source.shape)} and"
            f" {list(edited.shape)}"
        )
    instruments, prompts = instruments or Instruments(), prompts or Prompts()
    inside = _mask(mask, source)
    a, b = ((widen(v).clamp(-1, 1) + 1) / 2 for v in (source, edited))
    scores: Scores = {}
    if instruments.features is not None:
        scores["structure_distance"] = structure_distance(instruments.features, a.float(), b.float())
    scores |= background(a, b, inside, instruments.lpips)
    embedder = instruments.embedder
    for name, picture, said in (("source", source, prompts.source), ("target", edited, prompts.target)):
        if embedder is not None and len(said):
            scores[f"clip_similarity_{name}_image"] = clip_similarity(embedder, picture, said)
            if name == "target" and mask is not None:
                part = clip_similarity(embedder, (b * inside[:, None]).float() * 2 - 1, said)
                empty = inside.flatten(1).amax(1).cpu() == 0
                scores["clip_similarity_target_image_edit_part"] = torch.where(empty, torch.nan, part)
    return {name: value.detach().float().cpu() for name, value in scores.items()}


def background(source: Tensor, edited: Tensor, mask: Tensor, lpips: LPIPS | None = None) -> Scores:
    """Measure how well what lies outside the mask was kept.

    Args:
        source: `[b 3 h w]` in 0..1.
        edited: the same shape.
        mask: `[b h w]` in 0..1.
        lpips: for LPIPS.

    Returns:
        For PSNR (dB, at most 120), MSE, SSIM (of pictures of at least 11x11) and LPIPS: ``<name>_unedit_part`` as the
        benchmark has it, and ``<name>_outside``. The latter: MSE and PSNR over the pixels outside; SSIM by windows in
        which only those count, averaged over the positions outside; LPIPS with the source pasted into the mask, over
        the share of the picture that lies outside.
    """
    keep = (1 - mask.to(source))[:, None]
    share = keep.flatten(1).mean(1)
    x = source * keep
    y = edited * keep
    error = ((edited - source).square() * keep).flatten(1).mean(1) / share
    whole = (y - x).square().flatten(1).mean(1)
    scores = {
        "psnr_unedit_part": _psnr(whole),
        "mse_unedit_part": whole,
        "psnr_outside": _psnr(error),
        "mse_outside": error,
    }
    if min(source.shape[-2:]) >= _WINDOW:
        # Over the positions where the window fits, as torchmetrics did until September 2024 (its pull request 2721).
        scores["ssim_unedit_part"] = _each(lambda p, q: ssim_map(p, q, span=1.0).flatten(1).mean(1), x, y)
        scores["ssim_outside"] = _each(_ssim_outside, source, edited, keep)
    if lpips is not None:
        scores["lpips_unedit_part"] = _each(lpips, x * 2 - 1, y * 2 - 1)
        pasted = edited * keep + source * (1 - keep)
        scores["lpips_outside"] = _each(lpips, source * 2 - 1, pasted * 2 - 1).to(share) / share
    empty = share.cpu() == 0
    return {name: torch.where(empty, torch.nan, value.cpu().double()) for name, value in scores.items()}


def clip_similarity(embedder: Embedder, images: Tensor, prompts: Sequence[str]) -> Tensor:
    """Score by CLIP (arXiv 2104.08718): 100 times the cosine of each picture and its prompt, at least 0, `[b]`.

    Raises:
        ValueError: neither one prompt nor one a picture.
    """
    if len(prompts) not in (1, len(images)):
        raise ValueError(f"give one prompt, or one for each of the {len(images)} pictures, got {len(prompts)}")
    pictures = embedder.embed_image(images.float()).cpu().float()
    texts = embedder.embed_text(list(prompts)).cpu().float()
    cosines = (pictures * texts).sum(1)
    return (100 * cosines).clamp_min(0)


def means(scores: Mapping[str, Tensor]) -> dict[str, float | None]:
    """Average each figure over the pictures where it exists; None where it exists nowhere."""
    averages: dict[str, float | None] = {}
    for name, values in scores.items():
        known = values[torch.isfinite(values)]
        averages[name] = float(known.double().mean()) if len(known) else None
    return averages


def to_json(scores: Mapping[str, Tensor], facts: Mapping[str, object] | None = None) -> str:
    """Write means and figures of every picture, unscaled, as JSON; what does not exist is null."""
    each = {name: [v if math.isfinite(v) else None for v in values.tolist()] for name, values in scores.items()}
    return json.dumps({**(facts or {}), "mean": means(scores), "each": each}, indent=1, allow_nan=False)


def table(scores: Mapping[str, Tensor], note: str = "") -> str:
    """Write means as Markdown, on the benchmark's scales; ``note`` says what the structure was seen with."""
    lines = ["| metric | mean | pictures |", "|---|---:|---:|"]
    for name, mean in means(scores).items():
        scale = next((v for key, v in SCALES.items() if name.startswith(key)), 1.0)
        shown = "-" if mean is None else f"{mean * scale:.2f}"
        factor = f" x1e{round(math.log10(scale))}" if scale != 1 else " dB" if name.startswith("psnr") else ""
        lines.append(f"| {name}{factor} | {shown} | {int(torch.isfinite(scores[name]).sum())} |")
    return "\n".join([*lines, *(["", note] if note else [])])


def _ssim_outside(source: Tensor, edited: Tensor, keep: Tensor) -> Tensor:
    edge = _WINDOW // 2
    here = keep[..., edge : keep.shape[-2] - edge, edge : keep.shape[-1] - edge]
    local = ssim_map(source, edited, span=1.0, weight=keep[:, 0]).mean(1, keepdim=True)
    return (local * here).flatten(1).sum(1) / here.flatten(1).sum(1)


def _each(measure: Callable[..., Tensor], *pictures: Tensor) -> Tensor:
    """Measure picture by picture, so that memory does not grow with the batch."""
    return torch.cat([measure(*one) for one in zip(*(p.split(1) for p in pictures), strict=True)])


def _psnr(error: Tensor) -> Tensor:
    return (-10 * torch.log10(error.clamp_min(1e-30))).clamp(max=PSNR_CAP)


def _mask(mask: Tensor | None, images: Tensor) -> Tensor:
    b, _, h, w = images.shape
    if mask is None:
        return widen(images.new_zeros(b, h, w))
    whole = mask[None] if mask.dim() == 2 else mask
    if whole.dim() != 3 or whole.shape[1:] != (h, w) or len(whole) not in (1, b):
        raise ValueError(
            f"mask must be [h w] or [b h w] at the size of the pictures ({h} {w}), got {list(mask.shape)}; resize it"
            " first"
        )
    if not (float(mask.min()) >= 0 and float(mask.max()) <= 1):
        raise ValueError(
            f"mask must have finite values in 0..1, got {float(mask.min()):g}..{float(mask.max()):g}; normalise it"
            " first"
        )
    return widen(whole.to(images.device)).expand(b, -1, -1)
