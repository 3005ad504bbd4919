"""The measuring instrument of the face world: a small network that reads all factors off a 64x64 picture.

Its own error on held-out faces is stored in the metadata of its file and repeated in every report.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..own_file import read_own
from .factors import FACTORS, Factor, Factors

SIZE, MAX_BYTES = 64, 8 * 2**20
WIDTHS = (24, 48, 64, 96)


def _outputs(f: Factor) -> int:
    return 2 if f.circular else f.classes if f.classes > 2 else 1


SLICES: dict[str, slice] = {}
for _f in FACTORS:
    _start = max((s.stop for s in SLICES.values()), default=0)
    SLICES[_f.name] = slice(_start, _start + _outputs(_f))
OUTPUTS = max(s.stop for s in SLICES.values())


class Regressor(nn.Module):
    """Picture `[b 3 64 64]` in 0..1 -> scores `[b o]`: continuous factors in -1..1, hues as cosine and sine, classes one-hot in -1..1."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i, (inp, out) in enumerate(zip((3, *WIDTHS), WIDTHS, strict=False)):
            layers += [nn.Conv2d(inp, out, 5 if i == 0 else 3, 2, 2 if i == 0 else 1), nn.GroupNorm(8, out), nn.SiLU()]
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(WIDTHS[-1] * 16, 160), nn.SiLU(), nn.Linear(160, OUTPUTS))
        self.error: dict[str, float] = {}

    def forward(self, x: Tensor) -> Tensor:
        """Scores of ``x``."""
        return self.head(self.features(x * 2 - 1))


def encode(factors: Factors) -> Tensor:
    """Factors -> the scores that a perfect regressor gives, `[b o]`."""
    columns = []
    for f in FACTORS:
        v = factors[f.name].float()
        unit = (v - f.low) / (f.high - f.low)
        if f.circular:
            columns += [torch.cos(2 * math.pi * unit), torch.sin(2 * math.pi * unit)]
        elif f.classes > 2:
            columns += list((F.one_hot(v.long(), f.classes).float() * 2 - 1).unbind(1))
        else:
            columns.append(unit * 2 - 1)
    return torch.stack(columns, 1)


def load_regressor(path: str | Path, device: torch.device | str = "cpu") -> Regressor:
    """The shipped regressor.

    Raises:
        ValueError: the file is missing or is not a regressor of this version.
    """
    net = Regressor()
    try:
        state, info = read_own(path, "hspace_face_regressor", 1, MAX_BYTES)
        net.load_state_dict(state)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{path} is not the face regressor of this version ({error}); restore it from the repository") from error
    net.error = info.get("error", {})
    return net.to(device).eval().requires_grad_(False)


@torch.no_grad()
def measure_scores(regressor: Regressor, images: Tensor) -> dict[str, Tensor]:
    """Readings of pictures `[b 3 64 64]` in 0..1, clamped to what a face can have.

    Returns:
        name -> `[b]` in factor units; glasses as opacity 0..1; hair and eye colour as class shares `[b classes]`; hues 0..1.

    Raises:
        ValueError: another size.
    """
    if images.shape[1:] != (3, SIZE, SIZE):
        raise ValueError(f"the face regressor reads pictures [b 3 {SIZE} {SIZE}], got {list(images.shape)}; scale them first")
    scores = torch.cat([regressor(part) for part in images.clamp(0, 1).split(256)])
    found = {}
    for f in FACTORS:
        s = scores[:, SLICES[f.name]]
        if f.circular:
            found[f.name] = torch.atan2(s[:, 1], s[:, 0]) / (2 * math.pi) % 1.0
        elif f.classes > 2:
            share = ((s + 1) / 2).clamp(0, 1) + 1e-6
            found[f.name] = share / share.sum(1, keepdim=True)
        else:
            found[f.name] = f.low + ((s[:, 0] + 1) / 2).clamp(0, 1) * (f.high - f.low)
    return found


def measure(regressor: Regressor, images: Tensor) -> Factors:
    """Like :func:`measure_scores`, with the most likely class for the colours and glasses as 0 or 1."""
    found = measure_scores(regressor, images)
    for f in FACTORS:
        if f.classes > 2:
            found[f.name] = found[f.name].argmax(1).float()
        elif f.classes == 2:
            found[f.name] = (found[f.name] > 0.5).float()
    return found


def factor_change(regressor: Regressor, before: Tensor, after: Tensor) -> dict[str, Tensor]:
    """How far each factor moved, in fractions of its full range. Pictures `[b 3 64 64]` in 0..1 -> name -> `[b]`.

    Signed; hues the shorter way round (half a turn is 1); colours unsigned, the share of the class distribution that moved.
    """
    a, b = measure_scores(regressor, before), measure_scores(regressor, after)
    moved = {}
    for f in FACTORS:
        d = b[f.name] - a[f.name]
        if f.circular:
            moved[f.name] = ((d + 0.5) % 1.0 - 0.5) * 2
        elif f.classes > 2:
            moved[f.name] = d.abs().sum(1) / 2
        else:
            moved[f.name] = d / (f.high - f.low)
    return moved


@torch.no_grad()
def own_error(regressor: Regressor, factors: Factors, images: Tensor) -> dict[str, float]:
    """Quality on faces whose factors are known: R2 of each continuous factor (hues: of cosine and sine), accuracy of each discrete one."""
    wanted = encode(factors).to(images.device)
    scores = torch.cat([regressor(part) for part in images.split(256)])
    read, found = measure(regressor, images), {}
    for f in FACTORS:
        s = SLICES[f.name]
        if f.classes:
            found[f.name] = float((read[f.name] == factors[f.name].to(images.device)).float().mean())
        else:
            error = (scores[:, s] - wanted[:, s]).square().mean()
            found[f.name] = float(1 - error / wanted[:, s].var(0).mean())
    return {k: round(v, 3) for k, v in found.items()}
