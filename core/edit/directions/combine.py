"""Directions out of directions: a part of a set, several sets behind each other, or their sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ...calibration import joined
from ...directions import Directions, aligned


def select(directions: Directions, first: int, count: int = 1, flip: bool = False, label: str = "") -> Directions:
    """Select ``count`` directions from ``first`` (0-based) on.

    Args:
        directions: the set.
        first: index of the first one.
        count: how many.
        flip: turn them round.
        label: a new name; numbered if there are several. Empty keeps the old ones.

    Raises:
        ValueError: the set has no such directions.
    """
    part = directions.select(list(range(first, first + count)))
    if flip:
        calibration = part.calibration and part.calibration.flipped()
        part = replace(part, vectors=-part.vectors, calibration=calibration)
    if label:
        part = replace(part, labels=(label,) if count == 1 else tuple(f"{label} {i + 1}" for i in range(count)))
    return part


def combine(sets: Sequence[Directions], how: str = "append", weights: Sequence[float] | None = None) -> Directions:
    """Combine several sets of one model and layer into one.

    Args:
        sets: at least one.
        how: ``append``, one set after the other, or ``add``, the weighted sum of the first direction of each at unit
            length.
        weights: for ``add``, one a set; default 1 each.

    Returns:
        The new set. Sets made for single steps keep them; gain and leak of a sum are unknown and set to 0, and it has
        no calibration.

    Raises:
        ValueError: sets of another model, layer, size or steps, wrong weights, or a sum that vanishes.
    """
    if not sets:
        raise ValueError("there are no directions to combine; connect at least one set")
    vectors, base = aligned(sets)
    mask = united_mask([s.mask for s in sets])
    if how == "append":
        t = base.vectors.shape[0]
        return replace(
            base,
            vectors=torch.cat(vectors, 1),
            gain=torch.cat([s.gain.to(base.gain.device).expand(t, -1) for s in sets], 1),
            leak=torch.cat([s.leak.to(base.leak.device).expand(t, -1) for s in sets], 1),
            labels=_names(sets),
            mask=mask,
            method=" | ".join(dict.fromkeys(s.method for s in sets if s.method))[:200],
            spectrum=torch.zeros(0),
            calibration=joined([s.calibration for s in sets]),
        )
    if how != "add":
        raise ValueError(f"how must be 'append' or 'add', got {how!r}")
    factors = [1.0] * len(sets) if weights is None else list(weights)
    if len(factors) != len(sets):
        raise ValueError(f"adding {len(sets)} sets needs {len(sets)} weights, got {len(factors)}")
    total = torch.stack([f * v[:, :1] for f, v in zip(factors, vectors, strict=True)]).sum(0)
    norm = total.flatten(2).norm(dim=2)
    if float(norm.min()) < 1e-4:
        raise ValueError(f"the directions cancel each other with weights {factors}; change a weight")
    unknown = torch.zeros(total.shape[:2])
    label = " ".join(f"{f:+g} {s.label(0)}" for f, s in zip(factors, sets, strict=True))
    return replace(
        base,
        vectors=total / norm.reshape(*norm.shape, *(1,) * (total.dim() - 2)),
        gain=unknown,
        leak=unknown.clone(),
        labels=(label[:60],),
        mask=mask,
        method="sum",
        spectrum=torch.zeros(0),
        calibration=None,
    )


def _names(sets: Sequence[Directions]) -> tuple[str, ...]:
    """Collect the labels of all sets; unnamed directions of later sets go on counting."""
    if not any(s.labels for s in sets):
        return ()
    names: list[str] = []
    for s in sets:
        names += [s.labels[i] if s.labels else f"#{len(names) + i + 1}" for i in range(len(s))]
    return tuple(names)


def united_mask(masks: Sequence[Tensor | None]) -> Tensor | None:
    """Unite regions `[h w]` of several sets; None if one is the whole picture or the sizes differ."""
    known = [m for m in masks if m is not None]
    if len(known) < len(masks) or any(m.shape != known[0].shape for m in known):
        return None
    return torch.stack([m.float().cpu() for m in known]).amax(0)
