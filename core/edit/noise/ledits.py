"""Guidance by several concepts at once, each within a region that it finds itself (LEDITS++, Brack et al. 2024, arXiv 2311.16711, sec. 3).

``eps = eps_u + sum_k dir_k s_k M_k (eps_k - eps_u)``. Since eps is ``(x - denoised) / sigma``, the same line holds for denoised
pictures, and the mask, a quantile, does not feel the factor in between. ``M_k`` is the paper's M2, from the prediction itself, times
the user's mask; and times M1, from cross-attention, where it is known which tokens say the concept, which CONDITIONING does not tell.

``HSPACE_CONCEPTS``: ``format`` "hspace.concepts", ``version`` 1, ``concepts``: a list of dicts with ``conditioning``, a CONDITIONING list
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

CONCEPTS, FORMAT, VERSION = "HSPACE_CONCEPTS", "hspace.concepts", 1
_SIGMA = 0.5  # of the smoothing of maps, in their pixels


@dataclass(frozen=True)
class Concept:
    """How one concept acts.

    Attributes:
        scale: guidance scale, >= 0; 0 is off (paper: 5 to 10).
        threshold: quantile of the change below which a pixel stays, 0..1: 0.9 lets the tenth with the largest change through, 0 all.
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
            raise ValueError(f"scale must be a number of 0 or more, got {self.scale}; to go away from a concept set 'reverse'")
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold must lie in 0..1 (0.9: the tenth of the picture that changes most), got {self.threshold}")
        if not 0 <= self.warm_up <= self.cool_down <= 1:
            raise ValueError(
                "warm_up and cool_down must be shares of the steps with 0 <= warm_up <= cool_down <= 1, "
                f"got {self.warm_up} and {self.cool_down}"
            )

    def acts(self, done: float) -> bool:
        """Whether it acts in a step before which the share ``done`` of all steps, 0..1, has been taken."""
        return self.scale > 0 and self.warm_up <= done < self.cool_down


def share_done(sigma: float, sigmas: Sequence[float]) -> float:
    """Share of the steps of a grid that lie above ``sigma``, 0..1, whichever solver asks and whether or not it stops between levels."""
    rising = sorted(-s * (1 - 1e-5) for s in sigmas[:-1])  # hosts round levels to float32
    return bisect_left(rising, -sigma) / max(len(rising), 1)


def change_mask(delta: Tensor, threshold: float) -> Tensor:
    """M2: pixels whose change, summed over channels, reaches the quantile ``threshold`` of each sample. `[b c h w]` -> `[b 1 h w]`."""
    size = delta.abs().sum(1, keepdim=True)
    limit = torch.quantile(size.flatten(1).float(), threshold, dim=1)
    return (size.float() >= limit[:, None, None, None]).to(delta.dtype)


def attention_mask(maps: Tensor, size: tuple[int, int], threshold: float) -> Tensor:
    """M1: where the attention to a concept, smoothed by a Gaussian (3x3, sigma 0.5), reaches the quantile of each sample.

    Args:
        maps: attention summed over the concept's tokens, averaged over heads and layers, `[b h' w']`.
        size: height and width of the state.
        threshold: of the concept.

    Returns:
        `[b 1 h w]` of 0 and 1.
    """
    bell = torch.tensor([-1.0, 0.0, 1.0], device=maps.device).square().mul(-1 / (2 * _SIGMA**2)).softmax(0)
    smooth = F.conv2d(F.pad(maps.float()[:, None], (1, 1, 1, 1), "reflect"), (bell[:, None] * bell)[None, None])
    limit = torch.quantile(smooth.flatten(1), threshold, dim=1)
    return F.interpolate((smooth >= limit[:, None, None, None]).float(), size)


def guided(
    base: Tensor, seen: Sequence[Tensor], concepts: Sequence[Concept], mask: Tensor | None = None, places: Sequence[Tensor | None] = ()
) -> Tensor:  # fmt: skip
    """The guided prediction; works on denoised pictures and on eps alike.

    Args:
        base: prediction without any concept, `[b c h w]`.
        seen: prediction of each concept, `[b c h w]`.
        concepts: as many.
        mask: the user's region 0..1, broadcasting to `[b 1 h w]`, or None.
        places: M1 of each concept, `[b 1 h w]`, or None.

    Returns:
        `[b c h w]`; without concepts ``base`` itself.
    """
    result = base
    for prediction, concept, place in zip(seen, concepts, places or [None] * len(concepts), strict=True):
        delta = prediction - base
        region = change_mask(delta, concept.threshold)
        for further in (mask, place):
            region = region if further is None else region * further.to(region)
        result = result + (-concept.scale if concept.reverse else concept.scale) * region * delta
    return result


def concepts_to_payload(concepts: Sequence[tuple[list, Concept]]) -> dict[str, Any]:
    """What goes onto an ``HSPACE_CONCEPTS`` socket."""
    return {"format": FORMAT, "version": VERSION, "concepts": [{"conditioning": c, **dataclasses.asdict(k)} for c, k in concepts]}


def concepts_from_payload(payload: object) -> list[tuple[list, Concept]]:
    """CONDITIONING and dials of each concept that came in on a socket.

    Raises:
        ValueError: anything else, or damaged.
    """
    if not isinstance(payload, dict) or payload.get("format") != FORMAT or payload.get("version") != VERSION:
        raise ValueError(f"{CONCEPTS} must carry a dict of format {FORMAT!r}, version {VERSION}; connect an Edit Concept node")
    found = []
    for entry in payload.get("concepts", ()):
        dials = {k: v for k, v in entry.items() if k != "conditioning"}
        if "conditioning" not in entry or set(dials) - {f.name for f in dataclasses.fields(Concept)}:
            raise ValueError(f"{CONCEPTS} is damaged: {sorted(entry)}; make it again with an Edit Concept node")
        found.append((entry["conditioning"], Concept(**dials)))
    return found
