"""Guidance by several concepts at once, each within a region that it finds itself.

LEDITS++, Brack et al. 2024, arXiv 2311.16711, sec. 3.

``eps = eps_u + sum_k dir_k s_k M_k (eps_k - eps_u)``. Since eps is ``(x - denoised) / sigma``, the same line holds for
denoised pictures, and the mask, a quantile, does not feel the factor in between. ``M_k`` is the paper's M2, from the
prediction itself, already limited to the user's mask, so that the quantile is of what may change at all; and times M1,
from cross-attention, where it is known which tokens say the concept, which CONDITIONING does not tell. Without M1 for a
concept M2 acts alone.

``HSPACE_CONCEPTS``: ``format`` "hspace.concepts", ``version`` 1, ``concepts``: a list of dicts with ``conditioning``, a
    CONDITIONING list
of the host, and the fields of :class:`Concept`.
"""

from __future__ import annotations

import dataclasses
import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ...foreign import check_conditioning, shown
from ...payload import check_format

CONCEPTS = "HSPACE_CONCEPTS"
FORMAT = "hspace.concepts"
VERSION = 1
# of the smoothing of maps, in their pixels, as the released code writes it: exp(-(x / 2 sigma)^2), in truth a Gaussian
# of 0.71
_SIGMA = 0.5


@dataclass(frozen=True)
class Concept:
    """How one concept acts.

    Attributes:
        scale: guidance scale, >= 0; 0 is off (paper: 5 to 10).
        threshold: quantile of the change below which a pixel stays, 0..1: 0.9 lets the tenth with the largest change
            through, 0 all.
        warm_up: share of the steps before the concept sets in, 0..1.
        cool_down: share of the steps after which it no longer acts, 0..1.
        reverse: away from the concept instead of towards it.
        tokens: positions, in the concept's prompt, of the tokens that say it; () leaves out M1.
    """

    scale: float = 5.0
    threshold: float = 0.9
    warm_up: float = 0.0
    cool_down: float = 1.0
    reverse: bool = False
    tokens: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and self.scale >= 0):
            raise ValueError(
                f"scale must be a number of 0 or more, got {self.scale}; to go away from a concept set 'reverse'"
            )
        if not 0 <= self.threshold <= 1:
            raise ValueError(
                f"threshold must lie in 0..1 (0.9: the tenth of the picture that changes most), got {self.threshold}"
            )
        if not 0 <= self.warm_up <= self.cool_down <= 1:
            raise ValueError(
                "warm_up and cool_down must be shares of the steps with 0 <= warm_up <= cool_down <= 1, "
                f"got {self.warm_up} and {self.cool_down}"
            )

    def acts(self, done: float) -> bool:
        """Say whether it acts in a step before which the share ``done`` of all steps, 0..1, has been taken."""
        return self.scale > 0 and self.warm_up <= done < self.cool_down


def share_done(sigma: float, sigmas: Sequence[float]) -> float:
    """Tell the share of the steps of a grid that lie above ``sigma``, 0..1.

    It is the same whichever solver asks and whether or not it stops between levels.
    """
    rising = sorted(-s * (1 - 1e-5) for s in sigmas[:-1])  # hosts round levels to float32
    return bisect_left(rising, -sigma) / max(len(rising), 1)


def change_mask(delta: Tensor, threshold: float) -> Tensor:
    """Mark the pixels (M2) whose change, summed over channels, reaches the quantile ``threshold`` of each sample.

    `[b c h w]` -> `[b 1 h w]`.
    """
    size = delta.abs().sum(1, keepdim=True)
    limit = torch.quantile(size.flatten(1).float(), threshold, dim=1)
    return (size.float() >= limit[:, None, None, None]).to(delta.dtype)


def smoothed(maps: Tensor) -> Tensor:
    """Smooth by the released code's 3x3 kernel, ``exp(-(x / 2s)^2)`` with s 0.5, on a reflected border.

    `[b h w]` -> `[b 1 h w]` float32.
    """
    steps = torch.tensor([-1.0, 0.0, 1.0], device=maps.device)
    bell = steps.div(2 * _SIGMA).square().neg().softmax(0)
    kernel = bell[:, None] * bell
    bordered = F.pad(maps.float()[:, None], (1, 1, 1, 1), "reflect")
    return F.conv2d(bordered, kernel[None, None])


def attention_mask(maps: Tensor, size: tuple[int, int], threshold: float) -> Tensor:
    """Mark (M1) where the attention to a concept, :func:`smoothed`, reaches the quantile of each sample.

    Args:
        maps: attention summed over the concept's tokens, averaged over heads and layers, `[b h' w']`.
        size: height and width of the state.
        threshold: of the concept.

    Returns:
        `[b 1 h w]` of 0 and 1.
    """
    smooth = smoothed(maps)
    limit = torch.quantile(smooth.flatten(1), threshold, dim=1)
    return F.interpolate((smooth >= limit[:, None, None, None]).float(), size)


def guided(
    base: Tensor,
    predictions: Sequence[Tensor],
    concepts: Sequence[Concept],
    mask: Tensor | None = None,
    places: Sequence[Tensor | None] = (),
) -> Tensor:
    """Guide a prediction; works on denoised pictures and on eps alike.

    Args:
        base: prediction without any concept, `[b c h w]`.
        predictions: prediction of each concept, `[b c h w]`.
        concepts: as many.
        mask: the user's region 0..1, broadcasting to `[b 1 h w]`, or None. It weakens the change before its quantile is
            taken.
        places: M1 of each concept, `[b 1 h w]`, or None.

    Returns:
        `[b c h w]`; without concepts ``base`` itself.
    """
    result = base
    for prediction, concept, place in zip(predictions, concepts, places or [None] * len(concepts), strict=True):
        delta = prediction - base
        delta = delta if mask is None else delta * mask.to(delta)
        region = change_mask(delta, concept.threshold)
        region = region if place is None else region * place.to(region)
        result = result + (-concept.scale if concept.reverse else concept.scale) * region * delta
    return result


def concepts_to_payload(concepts: Sequence[tuple[list, Concept]]) -> dict[str, Any]:
    """Make what goes onto an ``HSPACE_CONCEPTS`` socket."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "concepts": [{"conditioning": c, **dataclasses.asdict(k)} for c, k in concepts],
    }


def concepts_from_payload(payload: object) -> list[tuple[list, Concept]]:
    """Read CONDITIONING and dials of each concept that came in on a socket.

    Raises:
        ValueError: anything else, or damaged.
    """
    entries = check_format(CONCEPTS, FORMAT, payload, VERSION, "an Edit Concept node").get("concepts")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(
            f"{CONCEPTS}: concepts must be a list of dicts, got {shown(entries)}; make it again with an Edit Concept"
            " node"
        )
    return [_concept(entry) for entry in entries]


def _concept(entry: dict) -> tuple[list, Concept]:
    dials = {k: v for k, v in entry.items() if k != "conditioning"}
    known = {f.name: type(f.default) for f in dataclasses.fields(Concept)}
    odd = next((k for k, v in dials.items() if k not in known or not _fits(v, known[k])), None)
    if odd is not None:
        raise ValueError(
            f"{CONCEPTS}: {shown(odd)} is {shown(dials[odd])}, which is damaged; make it again with an Edit Concept"
            " node"
        )
    check_conditioning(entry.get("conditioning"), f"{CONCEPTS}, conditioning")
    return entry["conditioning"], Concept(**dials)


def _fits(value: object, kind: type) -> bool:
    """Say whether a dial of a concept is of its kind."""
    if kind is tuple:
        return isinstance(value, (tuple, list)) and all(type(v) is int and v >= 0 for v in value)
    return isinstance(value, (int, float)) and isinstance(value, bool) == (kind is bool)
