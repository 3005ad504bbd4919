"""Compute the area under the ROC curve by ranks (Hanley and McNeil 1982).

It is the chance that a yes scores above a no, ties counting half.
"""

from __future__ import annotations

import torch
from torch import Tensor


def auroc(scores: Tensor, labels: Tensor) -> float:
    """Compute the area under the ROC curve, within 0..1; 0.5 is chance.

    Args:
        scores: `[n]`.
        labels: `[n]`, True or 1 for a yes.

    Raises:
        ValueError: shapes differ, scores are not finite, or one of the two classes is empty.
    """
    if scores.dim() != 1 or scores.shape != labels.shape:
        raise ValueError(f"scores and labels must be [n], got {list(scores.shape)} and {list(labels.shape)}")
    yes = labels.bool()
    ones = int(yes.sum())
    if not bool(torch.isfinite(scores).all()) or not 0 < ones < len(yes):
        raise ValueError(f"an AUROC needs finite scores, and at least one yes and one no; got {ones} yes of {len(yes)}")
    _, place, count = torch.unique(scores.double(), return_inverse=True, return_counts=True)
    last = count.cumsum(0).double()
    rank = (last - (count - 1) / 2)[place]
    return float((rank[yes].sum() - ones * (ones + 1) / 2) / (ones * (len(yes) - ones)))
