"""Edits of semantic codes, and of single levels or coordinates (HDAE, arXiv 2304.11829).

DiffAE, arXiv 2111.15640, sections 5.2, 5.3.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ...codes import CodeSpace
from ...networks.heads import Heads
from ..weights.interpolate import slerp

CAP = 6.0
"""Furthest that a coordinate is moved, in standard deviations: a short direction would put all of the strength into few
of them."""


def direction(
    heads: Heads,
    name: str,
    *,
    keep: float = 1.0,
    per_level: bool = False,
    levels: Iterable[int] | None = None,
    against: Sequence[str] = (),
) -> Tensor:
    """Find the unit direction `[d]` of an attribute in normalised coordinates, float32.

    Args:
        heads: of the model.
        name: of the attribute.
        keep: share of the coordinates to keep, those of largest weight; the others become 0 (HDAE's truncation; paper:
            most are near 0).
        per_level: keep that share of every level, instead of over all of them.
        levels: which levels may change, 0 the finest; None for all.
        against: attributes whose heads are not to react: ``w - W W^+ w``, within the coordinates that are kept.

    Raises:
        ValueError: an unknown attribute or level, a share outside 0..1, or nothing left.
    """
    if not 0 < keep <= 1:
        raise ValueError(f"the share of coordinates to keep must lie above 0 and up to 1, got {keep}")
    space = heads.space
    w = heads.weight[heads.index(name)].double()
    allowed = level_mask(space, levels).expand(-1, space.shape[-1])
    size = torch.where(allowed, w.abs().reshape(allowed.shape), -1.0)
    support = torch.zeros_like(allowed)
    groups = zip(size, support, strict=True) if per_level else ((size.view(-1), support.view(-1)),)
    for row, kept in groups:
        kept[row.topk(math.ceil(keep * int((row >= 0).sum()))).indices] = True
    support = support.reshape(-1)
    w = torch.where(support, w, 0.0)
    before = float(w.norm())
    others = [heads.index(n) for n in against]
    if others:
        if heads.index(name) in others:
            raise ValueError(f"attribute {name!r:.60} cannot be held while it is changed; take it off the list")
        fixed = torch.where(support, heads.weight[others].double(), 0.0)
        w = torch.where(support, w - fixed.T @ (torch.linalg.pinv(fixed.T) @ w), 0.0)
    if not float(w.norm()) > 1e-6 * before:
        raise ValueError(
            f"nothing is left of the direction of {name!r:.60}: on these levels and coordinates its weight is 0, or all"
            " of it belongs to the attributes that are held; keep more coordinates, or hold fewer attributes"
        )
    return (w / w.norm()).float()


def manipulate(
    code: Tensor, space: CodeSpace, unit: Tensor, strength: float | Tensor, scale: float | None = None, cap: float = CAP
) -> Tensor:
    """Move codes along a direction: normalise, add ``strength * scale * unit``, and restore.

    Args:
        code: `[b z]` or `[b l z]`.
        space: of the codes, with statistics: ``heads.space``.
        unit: `[d]`, of :func:`direction`.
        strength: one number, or `[b]`; 0 gives the code bit for bit. Usual: 0.3 to 0.5; negative takes the attribute
            away.
        scale: length at strength 1; None is ``sqrt(width of one code)``, so that strengths compare between numbers of
            levels.
        cap: see :data:`CAP`.

    Raises:
        ValueError: other codes, a direction of another size, a strength that is not finite, or missing statistics.
    """
    if unit.shape != (space.size,):
        raise ValueError(f"a direction of these codes is [{space.size}], got {list(unit.shape)}")
    amount = torch.as_tensor(strength, dtype=torch.float32, device=code.device).reshape(-1, 1)
    if len(amount) not in (1, len(code)) or not bool(torch.isfinite(amount).all()):
        raise ValueError(
            f"strength must be one finite number, or one a code ({len(code)}), got {amount.flatten().tolist()[:8]}"
        )
    scale = math.sqrt(space.shape[-1]) if scale is None else scale
    change = (amount * scale * unit.to(code.device)).clamp(-cap, cap)
    still = (amount == 0).reshape(-1, *(1,) * (code.dim() - 1))
    return torch.where(still, code, space.moved(code, change))


def interpolate(a: Tensor, b: Tensor, alpha: float | Sequence[float] | Tensor) -> Tensor:
    """Interpolate between two codes; 0 is ``a`` and 1 is ``b``, both bit for bit.

    Their noises go along an arc: :func:`core.edit.weights.interpolate.slerp`.

    Args:
        a: `[b z]` or `[b l z]`.
        b: the same shape.
        alpha: one number, or for codes with levels `[l]`, finest first.

    Raises:
        ValueError: other shapes, or an alpha outside 0..1.
    """
    weight = torch.as_tensor(alpha, dtype=a.dtype, device=a.device)
    if a.shape != b.shape:
        raise ValueError(f"both codes must be of one model and number, got {list(a.shape)} and {list(b.shape)}")
    if weight.dim() and (a.dim() != 3 or weight.shape != (a.shape[1],)):
        levels = a.shape[1] if a.dim() == 3 else 1
        raise ValueError(f"alpha must be one number, or one for each of {levels} levels, got {list(weight.shape)}")
    if not bool(((weight >= 0) & (weight <= 1)).all()):
        raise ValueError(f"alpha must lie between 0 (first) and 1 (second), got {weight.tolist()}")
    weight = weight[:, None] if weight.dim() else weight
    return torch.where(weight == 0, a, torch.where(weight == 1, b, torch.lerp(a, b, weight.expand_as(a))))


def interpolated_frames(
    a: Tensor, b: Tensor, space: CodeSpace, places: Sequence[float], levels: Iterable[int] | None = None
) -> Tensor:
    """Codes at places on the way from one to another, `[n z]` or `[n l z]`; other levels stay at the first.

    Args:
        a: `[1 z]` or `[1 l z]`.
        b: the same shape.
        space: of both.
        places: n numbers in 0..1.
        levels: that move, 0 the finest; None for all.

    Raises:
        ValueError: a level that there is not.
    """
    moving = level_mask(space, levels)[:, 0].float()
    return torch.cat([interpolate(a, b, moving * place if a.dim() == 3 else place) for place in places])


def noise_frames(a: Tensor, b: Tensor, places: Sequence[float]) -> Tensor:
    """Noises at places on the arc from one to another, `[n c h w]`; of one noise twice, that noise.

    Args:
        a: `[1 c h w]`.
        b: the same shape.
        places: n numbers in 0..1.

    Raises:
        ValueError: other shapes.
    """
    if a.dim() != 4 or a.shape != b.shape:
        raise ValueError(
            f"first_noise and second_noise must be latents of one size [1 c h w], got {list(a.shape)} and"
            f" {list(b.shape)}; invert both pictures at one size"
        )
    b = b.to(a)
    return a.repeat(len(places), 1, 1, 1) if torch.equal(a, b) else slerp(a[0], b[0], places)


def mix(a: Tensor, b: Tensor, space: CodeSpace, levels: Iterable[int]) -> Tensor:
    """Take some levels of ``a`` from ``b`` (style mixing, HDAE); no level is ``a``, all are ``b``.

    Args:
        a: `[b z]` or `[b l z]`.
        b: the same shape.
        space: of both.
        levels: which, 0 the finest.

    Raises:
        ValueError: other shapes, or an unknown level.
    """
    space.check(a)
    if a.shape != space.check(b).shape:
        raise ValueError(f"both codes must be of one number, got {len(a)} and {len(b)}")
    chosen = level_mask(space, levels).to(a.device)
    return torch.where(chosen if a.dim() == 3 else chosen[0], b, a)


def level_mask(space: CodeSpace, levels: Iterable[int] | None) -> Tensor:
    """Mark ``levels`` in `[l 1]` bool; None marks all.

    Raises:
        ValueError: a level that there is not.
    """
    chosen = range(space.levels) if levels is None else list(levels)
    wrong = [n for n in chosen if not 0 <= n < space.levels]
    if wrong:
        raise ValueError(f"these codes have levels 0 (finest) to {space.levels - 1}, got {wrong[0]}")
    return torch.tensor([[n in chosen] for n in range(space.levels)])
