"""Measure one edit: change by region, and in the face world how far each known factor moved.

There is no paper: its factors are our own.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor

from ..float64 import widen
from ..measure.image import leak_ratio, psnr, region_change, ssim
from .regressor import Regressor, factor_change

_SSIM_WINDOW = 11


@dataclass(frozen=True)
class EditReport:
    """One edit in numbers, means over the batch.

    Changes of pixels are on the -1..1 scale, changes of factors in fractions of their full range.

    Attributes:
        images: number of pairs.
        change: mean absolute change of the whole picture.
        inside: the same inside the mask; None without one.
        outside: the same outside it; None without a mask or if it covers everything.
        leak_ratio: outside / inside; None where it is undefined.
        psnr: dB, after against before, at most 120.
        ssim: None for pictures smaller than its window.
        target: factor that was meant to move, or else the one that moved most; None without a regressor.
        moved: signed change of the target.
        leaked: mean absolute change of all other factors.
        identity: ``1 - leaked``: 1 if everything but the target stayed.
        largest_other: name of the factor that leaked most.
        factors: signed change of every factor (colours: unsigned share of the classes that moved).
        sizes: absolute change of every factor; larger than ``|factors|`` where the images of a batch disagree in sign.
        regressor_quality: how well each factor is read on held-out faces: R2, or accuracy for discrete ones.
    """

    images: int
    change: float
    inside: float | None
    outside: float | None
    leak_ratio: float | None
    psnr: float
    ssim: float | None
    target: str | None = None
    moved: float | None = None
    leaked: float | None = None
    identity: float | None = None
    largest_other: str | None = None
    factors: dict[str, float] = field(default_factory=dict)
    sizes: dict[str, float] = field(default_factory=dict)
    regressor_quality: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict:
        """Convert to plain numbers, text and None: ready for JSON."""
        return asdict(self)

    def to_json(self) -> str:
        """Write the report as JSON."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)

    def figures(self, factors: int = 4) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """Choose what fits under a picture: (name, value) of the pixels, and of the factors that changed most."""
        pixels = [("change inside", self.inside), ("change outside", self.outside), ("leak ratio", self.leak_ratio)]
        known = [(name, _number(value)) for name, value in pixels if value is not None]
        most = sorted(self.sizes, key=lambda name: -self.sizes[name])[:factors]
        return [*known, ("PSNR", f"{self.psnr:.1f} dB")], [(name, f"{self.factors[name]:+.3f}") for name in most]

    def table(self) -> str:
        """Write the report as Markdown: pixels, then factors, the largest change first."""
        rows = [
            ("change inside the mask", _number(self.inside)),
            ("change outside the mask", _number(self.outside)),
            ("leak ratio (outside / inside)", _number(self.leak_ratio)),
            ("change of the whole picture", _number(self.change)),
            ("PSNR", f"{self.psnr:.1f} dB"),
            ("SSIM", _number(self.ssim)),
        ]
        lines = ["| pixels (scale -1..1) | value |", "|---|---:|", *(f"| {name} | {value} |" for name, value in rows)]
        if self.factors:
            lines += [
                "",
                "| factor | change, of its range | size | read with (R2 or accuracy) |",
                "|---|---:|---:|---:|",
            ]
            for name in sorted(self.sizes, key=lambda n: -self.sizes[n]):
                shown = f"**{name}**" if name == self.target else name
                quality = _number(self.regressor_quality.get(name))
                lines.append(f"| {shown} | {self.factors[name]:+.3f} | {self.sizes[name]:.3f} | {quality} |")
            lines += [
                "",
                (
                    f"{self.target} moved {self.moved:+.3f}; the others {self.leaked:.3f} on average, most of all"
                    f" {self.largest_other}."
                ),
            ]
        return "\n".join(lines)


def measure_edit(
    before: Tensor,
    after: Tensor,
    mask: Tensor | None = None,
    regressor: Regressor | None = None,
    target: str | None = None,
) -> EditReport:
    """Compare an edited picture with the unedited reconstruction.

    Args:
        before: `[b 3 h w]` in -1..1.
        after: the same shape.
        mask: `[h w]` or `[b h w]` in 0..1, the region that was meant to change; None for no regional figures.
        regressor: reads the factors of 64x64 pictures of the face world; None for any other picture.
        target: the factor that was meant to move; default the one that moved most.

    Raises:
        ValueError: shapes that do not fit, an empty mask, pictures that the regressor cannot read, or an unknown
            target.
    """
    whole = psnr(before, after)
    inside = outside = ratio = None
    if mask is not None:
        within, without = region_change(before, after, mask)
        inside = _mean(within)
        outside = _mean(without)
        ratio = _mean(leak_ratio(within, without))
    pixels = {
        "images": len(before),
        "change": float((widen(after) - widen(before)).abs().mean()),
        "inside": inside,
        "outside": outside,
        "leak_ratio": ratio,
        "psnr": float(whole.mean()),
        "ssim": float(ssim(before, after).mean()) if min(before.shape[-2:]) >= _SSIM_WINDOW else None,
    }
    if regressor is None:
        if target is not None:
            raise ValueError(
                f"the target factor {target!r} needs a regressor to be read with; give one, or leave the target out"
            )
        return EditReport(**pixels)
    device = next(regressor.parameters()).device
    moved = factor_change(regressor, *(v.to(device, torch.float32).clamp(-1, 1) / 2 + 0.5 for v in (before, after)))
    factors = {name: float(v.mean()) for name, v in moved.items()}
    sizes = {name: float(v.abs().mean()) for name, v in moved.items()}
    target = target or max(factors, key=lambda n: abs(factors[n]))
    if target not in factors:
        raise ValueError(f"unknown factor {target!r}; the face world has {', '.join(factors)}")
    others = {n: v for n, v in sizes.items() if n != target}
    leaked = sum(others.values()) / len(others)
    return EditReport(
        **pixels,
        target=target,
        moved=factors[target],
        leaked=leaked,
        identity=1 - leaked,
        largest_other=max(others, key=others.__getitem__),
        factors=factors,
        sizes=sizes,
        regressor_quality={n: float(v) for n, v in regressor.error.items() if n in factors},
    )


def _mean(values: Tensor) -> float | None:
    """Average over the samples where the figure exists; None if it exists nowhere."""
    known = values[torch.isfinite(values)]
    return float(known.mean()) if len(known) else None


def _number(value: float | None) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:.4f}"
