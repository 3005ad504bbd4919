"""Perceptual reschedule of a morph (DiffMorpher, Zhang et al. 2024, arXiv 2312.07409): even steps to the eye, not in alpha."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..train.levels import Distance, structural_distance
from .interpolate import check_alphas


def rescheduled(distances: Sequence[float], alphas: Sequence[float]) -> list[float]:
    """Alphas at which the distance travelled grows evenly, if it grows evenly between neighbouring frames.

    The travelled distance ``c_j = sum d / total`` is taken as piecewise linear over the alphas of the first pass and inverted at k / (n-1).
    Frames that do not differ from their neighbour leave no room to divide: such a stretch is jumped over.

    Args:
        distances: `n-1` distances of neighbouring frames, >= 0.
        alphas: `n`, of those frames, ascending. Evenly spaced in the paper; any will do, so that it can be repeated.

    Returns:
        `n` alphas, ascending, the ends as they were. If no frame differs from the next, ``alphas`` as they are.

    Raises:
        ValueError: numbers that do not belong together, or are not distances or ascending alphas.
    """
    check_alphas(alphas)
    if len(alphas) < 2 or any(b <= a for a, b in itertools.pairwise(alphas)):
        raise ValueError("alphas must be two or more and ascend; give those that the frames were rendered with")
    if len(distances) != len(alphas) - 1:
        raise ValueError(f"{len(alphas)} alphas need {len(alphas) - 1} distances between neighbours, got {len(distances)}")
    if not all(math.isfinite(d) and d >= 0 for d in distances):
        raise ValueError("distances must be finite numbers of 0 or more; check that no frame holds NaN")
    total = sum(distances)
    if total <= 0:
        return list(alphas)
    travelled = torch.tensor([0.0, *distances], dtype=torch.float64).cumsum(0) / total
    n, at = len(alphas), torch.tensor(list(alphas), dtype=torch.float64)
    aims = torch.arange(n, dtype=torch.float64) / (n - 1)
    j = torch.searchsorted(travelled, aims[1:-1].contiguous(), right=True).clamp(1, n - 1) - 1
    share = (aims[1:-1] - travelled[j]) / (travelled[j + 1] - travelled[j])  # the segment is never empty: it holds c_j <= y < c_{j+1}
    inner = at[j] + share * (at[j + 1] - at[j])
    return [alphas[0], *inner.tolist(), alphas[-1]]


@torch.no_grad()
def neighbour_distances(frames: Tensor, distance: Distance | None = None) -> list[float]:
    """How far each frame is from the next.

    Args:
        frames: `[n 3 h w]` in -1..1.
        distance: LPIPS, or None for the stand-in 1 - SSIM.

    Raises:
        ValueError: fewer than two frames.
    """
    if len(frames) < 2:
        raise ValueError(f"distances are between neighbours: at least two frames are needed, got {len(frames)}")
    measure = distance or structural_distance
    return [max(float(measure(frames[i : i + 1], frames[i + 1 : i + 2])), 0.0) for i in range(len(frames) - 1)]
