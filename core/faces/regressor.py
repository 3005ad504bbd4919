"""The measuring instrument of the face world: a small network that reads all factors off a 64x64 picture.

Its own error on held-out faces is stored in the metadata of its file and repeated in every report.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..files.kinds import FACE_REGRESSOR
from .factors import FACTORS, Factor, Factors
from .render import render
from .shipped import convolutions, load_shipped

SIZE = 64
WIDTHS = (24, 48, 64, 96)


def _outputs(f: Factor) -> int:
    return 2 if f.circular else f.classes if f.classes > 2 else 1


SLICES: dict[str, slice] = {}
for _f in FACTORS:
    _start = max((s.stop for s in SLICES.values()), default=0)
    SLICES[_f.name] = slice(_start, _start + _outputs(_f))
OUTPUTS = max(s.stop for s in SLICES.values())


class Regressor(nn.Module):
    """Picture `[b 3 64 64]` in 0..1 -> scores `[b o]`.

    Continuous factors in -1..1, hues as cosine and sine, classes one-hot in -1..1.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = convolutions(WIDTHS)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(WIDTHS[-1] * 16, 160), nn.SiLU(), nn.Linear(160, OUTPUTS))
        self.error: dict[str, float] = {}

    def forward(self, x: Tensor) -> Tensor:
        """Score ``x``."""
        return self.head(self.features(x * 2 - 1))


def encode(factors: Factors) -> Tensor:
    """Encode factors as the scores that a perfect regressor gives, `[b o]`."""
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
    """Load the shipped regressor.

    Raises:
        ValueError: the file is missing or is not a regressor of this version.
    """
    net, facts = load_shipped(Regressor(), path, FACE_REGRESSOR, "face regressor")
    net.error = facts.get("error", {})
    return net.to(device)


@torch.no_grad()
def measure_scores(regressor: Regressor, images: Tensor) -> dict[str, Tensor]:
    """Read factors off pictures `[b 3 64 64]` in 0..1, clamped to what a face can have.

    Returns:
        name -> `[b]` in factor units; glasses as opacity 0..1; hair and eye colour as class shares `[b classes]`; hues
        0..1.

    Raises:
        ValueError: another size.
    """
    if images.shape[1:] != (3, SIZE, SIZE):
        raise ValueError(
            f"the face regressor reads pictures [b 3 {SIZE} {SIZE}], got {list(images.shape)}; scale them first"
        )
    scores = torch.cat([regressor(part) for part in images.clamp(0, 1).split(256)])
    scores_of = {}
    for f in FACTORS:
        s = scores[:, SLICES[f.name]]
        if f.circular:
            scores_of[f.name] = torch.atan2(s[:, 1], s[:, 0]) / (2 * math.pi) % 1.0
        elif f.classes > 2:
            share = ((s + 1) / 2).clamp(0, 1) + 1e-6
            scores_of[f.name] = share / share.sum(1, keepdim=True)
        else:
            scores_of[f.name] = f.low + ((s[:, 0] + 1) / 2).clamp(0, 1) * (f.high - f.low)
    return scores_of


def measure(regressor: Regressor, images: Tensor) -> Factors:
    """Measure as :func:`measure_scores`, with the most likely class for the colours and glasses as 0 or 1."""
    readings = measure_scores(regressor, images)
    for f in FACTORS:
        if f.classes > 2:
            readings[f.name] = readings[f.name].argmax(1).float()
        elif f.classes == 2:
            readings[f.name] = (readings[f.name] > 0.5).float()
    return readings


def factor_change(regressor: Regressor, before: Tensor, after: Tensor) -> dict[str, Tensor]:
    """Measure how far each factor moved, in fractions of its full range.

    Pictures `[b 3 64 64]` in 0..1 -> name -> `[b]`.

    Signed; hues the shorter way round (half a turn is 1); colours unsigned, the share of the class distribution that
    moved.
    """
    a = measure_scores(regressor, before)
    b = measure_scores(regressor, after)
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


FOREIGN = 0.11
"""A picture further than this from its drawn double is no face of this world. Of 500 held-out faces the furthest lies
at 0.049, blurred or noisy ones and the model's own samples reach 0.092; portraits and noise of other statistics begin
at 0.19."""


@torch.no_grad()
def misfit(regressor: Regressor, images: Tensor) -> Tensor:
    """Measure how far pictures `[b 3 64 64]` in 0..1 are from the faces drawn with what is read off them.

    Root mean square, `[b]`.
    """
    drawn = render(measure(regressor, images), SIZE, device=images.device)[0]
    return (images.clamp(0, 1) - drawn).square().mean((1, 2, 3)).sqrt()


def regressor_for(path: str | Path, pictures: Tensor) -> tuple[Regressor | None, str]:
    """Load what reads the factors of pictures, if they are faces of this world.

    Args:
        path: of the regressor.
        pictures: `[b 3 h w]` in -1..1, before an edit.

    Returns:
        The regressor and "", or None and why the pictures have no factors.
    """
    height, width = pictures.shape[-2:]
    if (height, width) != (SIZE, SIZE):
        faces = f"the faces of the face world are {SIZE}x{SIZE}"
        return None, f"factors are off: {faces}, these pictures {width}x{height}"
    regressor = load_regressor(path)
    far = float(misfit(regressor, pictures.cpu() / 2 + 0.5).max())
    if far <= FOREIGN:
        return regressor, ""
    distance = f"{far:.2f} from the nearest one drawn, those of this world within {FOREIGN}"
    return None, f"factors are off: 'before' is not a face of the face world ({distance})"


@torch.no_grad()
def own_error(regressor: Regressor, factors: Factors, images: Tensor) -> dict[str, float]:
    """Measure the quality on faces whose factors are known.

    R2 of each continuous factor (hues: of cosine and sine), accuracy of each discrete one.
    """
    wanted = encode(factors).to(images.device)
    scores = torch.cat([regressor(part) for part in images.split(256)])
    read = measure(regressor, images)
    accuracy = {}
    for f in FACTORS:
        s = SLICES[f.name]
        if f.classes:
            accuracy[f.name] = float((read[f.name] == factors[f.name].to(images.device)).float().mean())
        else:
            error = (scores[:, s] - wanted[:, s]).square().mean()
            accuracy[f.name] = float(1 - error / wanted[:, s].var(0).mean())
    return {k: round(v, 3) for k, v in accuracy.items()}
