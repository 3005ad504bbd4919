"""The named factors of the face world: ranges, sampling, and the faces that training never sees."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

Factors = dict[str, Tensor]
"""Name -> values `[b]`, in the units of :data:`FACTORS`."""

HAIR_COLORS = ("black", "brown", "blond", "red", "grey")
EYE_COLORS = ("brown", "blue", "green")


@dataclass(frozen=True)
class Factor:
    """One factor: ``classes`` is 0 for a continuous one, otherwise the number of classes ``0 .. classes-1``.

    ``regions`` are the parts of the picture that it draws; moving it leaves the others as they were.
    """

    name: str
    low: float
    high: float
    neutral: float
    classes: int = 0
    regions: tuple[str, ...] = ()
    circular: bool = False


FACTORS = (
    Factor("smile", -1, 1, 0, regions=("mouth",)),
    Factor("mouth_open", 0, 1, 0, regions=("mouth",)),
    Factor("eye_open", 0.15, 1, 0.75, regions=("eyes",)),
    Factor("gaze", -1, 1, 0, regions=("eyes",)),
    Factor("brow_height", -1, 1, 0, regions=("brows",)),
    Factor("brow_tilt", -1, 1, 0, regions=("brows",)),
    Factor("nose_size", 0, 1, 0.4, regions=("nose",)),
    Factor("face_width", -1, 1, 0, regions=("skin", "hair", "background")),
    Factor("yaw", -1, 1, 0, regions=("skin", "hair", "eyes", "mouth", "nose", "brows", "glasses", "background")),
    Factor("light", -1, 1, 0, regions=("skin", "hair", "shirt", "nose")),
    Factor("skin", 0, 1, 0.3, regions=("skin", "nose", "mouth")),
    Factor("hair_length", 0, 1, 0.4, regions=("hair", "background")),
    Factor("hair_shade", -1, 1, 0, regions=("hair", "brows")),
    Factor("bg_hue", 0, 1, 0.6, regions=("background",), circular=True),
    Factor("shirt_hue", 0, 1, 0, regions=("shirt",), circular=True),
    Factor("glasses", 0, 1, 0, classes=2, regions=("glasses", "eyes")),
    Factor("hair_color", 0, 4, 1, classes=5, regions=("hair", "brows")),
    Factor("eye_color", 0, 2, 0, classes=3, regions=("eyes",)),
)
NAMES = tuple(f.name for f in FACTORS)
BY_NAME = {f.name: f for f in FACTORS}

_BINS = 8
_FOLDS = 16


def sample(n: int, generator: torch.Generator, held_out: bool = False) -> Factors:
    """Draw ``n`` faces with independent factors; glasses on 35 %, mouth closed on 40 %.

    Every face belongs to one of two disjoint sets (:func:`is_held_out`): the training stream draws from one
    (``held_out=False``), measurements from the other. The same generator state gives the same faces on every device.

    Args:
        n: number of faces, >= 1.
        generator: a CPU generator.
        held_out: which of the two sets.
    """
    parts: list[Tensor] = []
    while sum(len(k) for k in parts) < n:
        m = max(64, 2 * n) if not held_out else 32 * max(n, 8)
        u = torch.rand(m, len(FACTORS), generator=generator)
        columns = []
        for f, v in zip(FACTORS, u.unbind(1), strict=True):
            if f.name == "mouth_open":
                columns.append(((v - 0.4) / 0.6).clamp(0, 1))
            elif f.name == "glasses":
                columns.append((v < 0.35).float())
            elif f.classes:
                columns.append((v * f.classes).floor().clamp(max=f.classes - 1))
            else:
                columns.append(f.low + v * (f.high - f.low))
        rows = torch.stack(columns, 1)
        parts.append(rows[is_held_out(from_matrix(rows)) == held_out])
    return from_matrix(torch.cat(parts)[:n])


def is_held_out(factors: Factors) -> Tensor:
    """Mark held-out faces, `[b]` bool: one cell in 16 of an 8-bin lattice over all factors.

    A property of the face itself, so no seed, shard or resumed run can train on one.
    """
    total = torch.zeros_like(factors[NAMES[0]])
    for f in FACTORS:
        unit = (factors[f.name] - f.low) / (f.high - f.low)
        total = total + (unit * _BINS).floor().clamp(0, _BINS - 1)
    return total % _FOLDS == 0


def neutral(n: int = 1, **values: float | Tensor) -> Factors:
    """Copy the neutral face ``n`` times, with some factors set.

    Raises:
        ValueError: an unknown factor name.
    """
    unknown = set(values) - set(NAMES)
    if unknown:
        raise ValueError(f"unknown factor {sorted(unknown)}; the face world has {', '.join(NAMES)}")
    return {
        f.name: torch.as_tensor(values.get(f.name, f.neutral), dtype=torch.float32).expand(n).clone() for f in FACTORS
    }


def to_matrix(factors: Factors) -> Tensor:
    """Stack factors as one `[b 18]` tensor in the order of ``NAMES``."""
    return torch.stack([factors[n] for n in NAMES], 1)


def from_matrix(rows: Tensor) -> Factors:
    """Invert :func:`to_matrix`."""
    return {n: rows[:, i] for i, n in enumerate(NAMES)}
