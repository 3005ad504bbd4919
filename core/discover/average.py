"""Directions of many images as one set: the Frechet mean of subspaces, or matched.

Park et al. 2023, arXiv 2307.12868, section 3.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from ..directions import Directions, aligned
from .match import match
from .subspace import orthonormal

WAYS = ("match", "subspace")
_ROUNDS = 50
_STILL = 1e-8


def average(sets: Sequence[Directions], how: str = "match") -> tuple[Directions, Tensor]:
    """Global directions out of those of single images.

    Args:
        sets: of one model, layer, size and number of directions; masks may differ.
        how: ``match`` pairs the directions of every set with those of the mean, whatever their order and sign, and
            averages them. ``subspace`` averages what each set spans, whatever basis it was given in (the Procrustes
            form of the Frechet mean), and takes as directions the axes of the largest mean squared gain.

    Returns:
        The mean, unit directions, and how well each image agrees, `[n k]`: the cosine of its matched direction with the
        mean (of its projection, for ``subspace``).

    Raises:
        ValueError: the sets do not belong together, or cancel each other.
    """
    if how not in WAYS:
        raise ValueError(f"how must be one of {', '.join(WAYS)}, got {how!r}")
    if not sets:
        raise ValueError("there are no directions to average; connect at least one set")
    vectors, base = aligned(sets)
    if any(len(s) != len(base) for s in sets):
        raise ValueError(
            f"all sets must hold as many directions, got {', '.join(str(len(s)) for s in sets)}; discover with one k"
        )
    rows = [v.transpose(0, 1).flatten(1).double() for v in vectors]  # [k t*d]: one order and one sign for all steps
    rows = [r / r.norm(dim=1, keepdim=True) for r in rows]
    gains = torch.stack([s.gain.mean(0).cpu().double() for s in sets])
    leaks = torch.stack([s.leak.mean(0).cpu().double() for s in sets])
    mean = (_matched if how == "match" else _spanned)(rows, gains, leaks)
    t = base.vectors.shape[0]
    directions = mean.rows.reshape(len(base), t, *base.vectors.shape[2:]).transpose(0, 1)
    length = directions.flatten(2).norm(dim=2).clamp_min(1e-12)
    directions = directions / length.reshape(len(length), -1, *(1,) * (directions.dim() - 2))
    average_set = replace(
        base,
        vectors=directions.float().cpu(),
        gain=mean.gain.float().expand(t, -1).clone(),
        leak=mean.leak.float().expand(t, -1).clone(),
        labels=(),
        mask=base.mask if all(_same(s.mask, base.mask) for s in sets) else None,
        method=f"mean of {len(sets)} ({how})",
        spectrum=torch.zeros(0),
    )
    return average_set, mean.agreement


def agreement_text(agreement: Tensor) -> str:
    """Tell people how well each image agrees with the mean, from the cosines `[n k]` of :func:`average`."""
    return "\n".join(
        f"#{i + 1}: mean cosine with a picture's own {cosine.mean():.2f}, least {cosine.min():.2f}"
        for i, cosine in enumerate(agreement.T)
    )


class _Mean(NamedTuple):
    """Mean directions, unit rows `[k d]`, how well each image agrees `[n k]`, and their gain and leak `[k]`."""

    rows: Tensor
    agreement: Tensor
    gain: Tensor
    leak: Tensor


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.shape == b.shape and torch.equal(a, b)


def _matched(rows: list[Tensor], gains: Tensor, leaks: Tensor) -> _Mean:
    mean = rows[0]
    for _ in range(_ROUNDS):
        new = _mean_of_matched(mean, rows)
        turned = float((new - mean).norm(dim=1).max())
        mean = new
        if turned < _STILL:
            break
    matches = [match(mean, r) for r in rows]
    order = [o for o, _, _ in matches]
    agreement = torch.stack([cosine for _, _, cosine in matches])
    gain = torch.stack([gains[i][o] for i, o in enumerate(order)]).mean(0)
    leak = torch.stack([leaks[i][o] for i, o in enumerate(order)]).mean(0)
    ranked = gain.argsort(descending=True)
    return _Mean(mean[ranked.to(mean.device)], agreement[:, ranked], gain[ranked], leak[ranked])


def _mean_of_matched(mean: Tensor, rows: list[Tensor]) -> Tensor:
    """Mean of the directions of every image, brought into the order and to the signs of ``mean``; unit rows."""
    turned = []
    for r in rows:
        order, sign, _ = match(mean, r)
        turned.append(sign.to(r)[:, None] * r[order.to(r.device)])
    total = torch.stack(turned).mean(0)
    length = total.norm(dim=1, keepdim=True)
    if float(length.min()) < 1e-6:
        raise ValueError(
            "the directions of these images cancel each other: they have nothing in common; use fewer or more"
            " similar images"
        )
    return total / length


def _spanned(rows: list[Tensor], gains: Tensor, leaks: Tensor) -> _Mean:
    spans = [orthonormal(r) for r in rows]
    mean = _mean_span(spans)
    inside = _mean_response(mean, rows, gains)
    outside = _mean_response(mean, rows, leaks)
    turn = torch.linalg.eigh((inside + inside.T) / 2)[1].flip(1).T
    axes = turn @ mean
    # an axis has no sign of its own: it takes that of the directions it stands for
    sign = torch.where(torch.stack(rows).sum((0, 1)) @ axes.T < 0, -1.0, 1.0)
    axes = axes * sign[:, None]
    gain = ((turn @ inside) * turn).sum(1).clamp_min(0).sqrt()
    leak = ((turn @ outside) * turn).sum(1).clamp_min(0).sqrt()
    agreement = torch.stack([(axes @ s.T).norm(dim=1).cpu() for s in spans])
    return _Mean(axes, agreement, gain.cpu(), leak.cpu())


def _mean_span(spans: list[Tensor]) -> Tensor:
    """The subspace nearest to all, orthonormal rows: each is turned to fit the mean (Procrustes), then averaged."""
    mean = spans[0]
    for _ in range(_ROUNDS):
        turned = []
        for span in spans:
            u, _, v = torch.linalg.svd(mean @ span.T)
            turned.append(u @ v @ span)
        new = orthonormal(torch.stack(turned).mean(0))
        moved = float(torch.linalg.matrix_norm(new - (new @ mean.T) @ mean, 2))
        mean = new
        if moved < _STILL:
            break
    return mean


def _mean_response(mean: Tensor, rows: list[Tensor], lengths: Tensor) -> Tensor:
    """Mean squared response within the span of ``mean``, `[k k]`, each direction weighted by its own, `[n k]`."""
    parts = []
    for r, length in zip(rows, lengths, strict=True):
        parts.append((mean @ r.T) @ torch.diag(length.to(r).square()) @ (r @ mean.T))
    return torch.stack(parts).mean(0)
