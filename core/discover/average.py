"""Directions of many images as one set: the Frechet mean of subspaces (Park et al. 2023, arXiv 2307.12868, section 3.4), or matched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..directions import Directions
from ..edit.combine import aligned
from .match import match
from .subspace import orthonormal

WAYS = ("match", "subspace")
_ROUNDS = 50
_STILL = 1e-8


def average(sets: Sequence[Directions], how: str = "match") -> tuple[Directions, Tensor]:
    """Global directions out of those of single images.

    Args:
        sets: of one model, layer, size and number of directions; masks may differ.
        how: ``match`` pairs the directions of every set with those of the mean, whatever their order and sign, and averages them.
            ``subspace`` averages what each set spans, whatever basis it was given in (the Procrustes form of the Frechet mean), and
            takes as directions the axes of the largest mean squared gain.

    Returns:
        The mean, unit directions, and how well each image agrees, `[n k]`: the cosine of its matched direction with the mean (of its
        projection, for ``subspace``).

    Raises:
        ValueError: the sets do not belong together, or cancel each other.
    """
    if how not in WAYS:
        raise ValueError(f"how must be one of {', '.join(WAYS)}, got {how!r}")
    if not sets:
        raise ValueError("there are no directions to average; connect at least one set")
    vectors, base = aligned(sets)
    if any(len(s) != len(base) for s in sets):
        raise ValueError(f"all sets must hold as many directions, got {', '.join(str(len(s)) for s in sets)}; discover with one k")
    rows = [v.transpose(0, 1).flatten(1).double() for v in vectors]  # [k t*d]: one order and one sign for all steps
    rows = [r / r.norm(dim=1, keepdim=True) for r in rows]
    gains = torch.stack([s.gain.mean(0).double().cpu() for s in sets])
    leaks = torch.stack([s.leak.mean(0).double().cpu() for s in sets])
    mean, agreement, gain, leak = (_matched if how == "match" else _spanned)(rows, gains, leaks)
    t, (c, h, w) = base.vectors.shape[0], base.vectors.shape[2:]
    out = mean.reshape(len(base), t, c, h, w).transpose(0, 1)
    out = out / out.flatten(2).norm(dim=2)[..., None, None, None].clamp_min(1e-12)
    return (
        replace(
            base,
            vectors=out.float().cpu(),
            gain=gain.float().expand(t, -1).clone(),
            leak=leak.float().expand(t, -1).clone(),
            labels=(),
            mask=base.mask if all(_same(s.mask, base.mask) for s in sets) else None,
            method=f"mean of {len(sets)} ({how})",
            spectrum=torch.zeros(0),
        ),
        agreement,
    )


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.shape == b.shape and torch.equal(a, b)


def _matched(rows: list[Tensor], gains: Tensor, leaks: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    mean = rows[0]
    for _ in range(_ROUNDS):
        found = [match(mean, r) for r in rows]
        total = torch.stack([s.to(r)[:, None] * r[o.to(r.device)] for r, (o, s, _) in zip(rows, found, strict=True)]).mean(0)
        length = total.norm(dim=1, keepdim=True)
        if float(length.min()) < 1e-6:
            raise ValueError(
                "the directions of these images cancel each other: they have nothing in common; use fewer or more similar images"
            )
        turned = float((total / length - mean).norm(dim=1).max())
        mean = total / length
        if turned < _STILL:
            break
    found = [match(mean, r) for r in rows]
    order = [o for o, _, _ in found]
    gain, leak = (torch.stack([v[i][o] for i, o in enumerate(order)]).mean(0) for v in (gains, leaks))
    ranked = gain.argsort(descending=True)
    return mean[ranked.to(mean.device)], torch.stack([c for _, _, c in found])[:, ranked], gain[ranked], leak[ranked]


def _spanned(rows: list[Tensor], gains: Tensor, leaks: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    spans = [orthonormal(r) for r in rows]
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
    inside, outside = (
        torch.stack([(mean @ r.T) @ torch.diag(v[i].to(r).square()) @ (r @ mean.T) for i, r in enumerate(rows)]).mean(0)
        for v in (gains, leaks)
    )
    turn = torch.linalg.eigh((inside + inside.T) / 2)[1].flip(1).T
    axes = turn @ mean
    sign = torch.where(torch.stack(rows).sum((0, 1)) @ axes.T < 0, -1.0, 1.0)
    axes = axes * sign[:, None]
    gain, leak = (((turn @ g) * turn).sum(1).clamp_min(0).sqrt().cpu() for g in (inside, outside))
    agreement = torch.stack([(axes @ s.T).norm(dim=1).cpu() for s in spans])
    return axes, agreement, gain, leak
