"""Perceptual reschedule of a morph: even steps to the eye, not in alpha.

DiffMorpher, Zhang et al. 2024, arXiv 2312.07409.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ...measure.image import Distance, structural_distance
from ...measure.plots import lines_plot
from .interpolate import check_alphas, even_alphas

_LABELS = 12  # numbers that fit below a plot


def rescheduled(distances: Sequence[float], alphas: Sequence[float]) -> list[float]:
    """Choose alphas at which the distance travelled grows evenly, if it does between neighbouring frames.

    The travelled distance ``c_j = sum d / total`` is taken as piecewise linear over the alphas of the first pass and
    inverted at k / (n-1). Frames that do not differ from their neighbour leave no room to divide: such a stretch is
    jumped over.

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
        raise ValueError(
            f"{len(alphas)} alphas need {len(alphas) - 1} distances between neighbours, got {len(distances)}"
        )
    if not all(math.isfinite(d) and d >= 0 for d in distances):
        raise ValueError("distances must be finite numbers of 0 or more; check that no frame holds NaN")
    total = sum(distances)
    if total <= 0:
        return list(alphas)
    travelled = torch.tensor([0.0, *distances], dtype=torch.float64).cumsum(0) / total
    n = len(alphas)
    at = torch.tensor(list(alphas), dtype=torch.float64)
    aims = torch.arange(n, dtype=torch.float64) / (n - 1)
    j = torch.searchsorted(travelled, aims[1:-1].contiguous(), right=True).clamp(1, n - 1) - 1
    share = (aims[1:-1] - travelled[j]) / (
        travelled[j + 1] - travelled[j]
    )  # the segment is never empty: it holds c_j <= y < c_{j+1}
    inner = at[j] + share * (at[j + 1] - at[j])
    return [alphas[0], *inner.tolist(), alphas[-1]]


@torch.no_grad()
def neighbour_distances(
    frames: Tensor, distance: Distance | None = None, callback: Callable[[dict], None] = lambda _: None
) -> list[float]:
    """Measure how far each frame is from the next.

    Args:
        frames: `[n 3 h w]` in -1..1.
        distance: LPIPS, or None for the stand-in 1 - SSIM.
        callback: called after each with ``i``, how many are done, of ``n``; may raise to stop.

    Raises:
        ValueError: fewer than two frames.
    """
    if len(frames) < 2:
        raise ValueError(f"distances are between neighbours: at least two frames are needed, got {len(frames)}")
    measure = distance or structural_distance
    distances: list[float] = []
    for a, b in itertools.pairwise(frames.split(1)):
        distances.append(max(float(measure(a, b)), 0.0))
        callback({"i": len(distances), "n": len(frames) - 1})
    return distances


def reschedule_plot(apart: Sequence[float], before: Sequence[float], after: Sequence[float], measure: str) -> Tensor:
    """Draw the distance travelled and the alphas before and after, `[1 H W 3]` in 0..1.

    Args:
        apart: `n-1` distances of neighbouring frames.
        before: `n` alphas of those frames.
        after: from :func:`rescheduled`.
        measure: name of the distance.
    """
    n = len(before)
    total = sum(apart)
    every = -(-n // _LABELS)
    names = [str(i + 1) if i % every == 0 else "" for i in range(n)]
    travelled = [c / total if total else 0.0 for c in itertools.accumulate([0.0, *apart])]
    panels = {
        f"distance travelled ({measure})": {"measured": travelled, "even": even_alphas(n)},
        "alpha": {"before": before, "after": after},
    }
    return lines_plot(names, panels, "frame")


def reschedule_text(apart: Sequence[float], measure: str) -> str:
    """Tell people how far frames are apart; ``measure`` says in what."""
    total = sum(apart)
    text = f"{measure}: {total:.3f} in all, neighbours {min(apart):.4f} to {max(apart):.4f} apart"
    return text if total else f"{text}; all frames are equal, alphas are left as they are"
