"""How much each pixel of a face counts while a model of the face world learns to draw it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from core.faces.factors import sample
from core.faces.render import render

FINE = {"smile": (-0.8, 0.8), "glasses": (0.0, 1.0), "eye_open": (0.1, 0.8), "mouth_open": (0.0, 0.9)}
"""Factors that few pixels show, and two values that are told apart."""
EYE_COLOR = {"eye_color": (0.0, 1.0)}


def pixel_weights(fine: dict[str, tuple[float, float]], size: int, faces: int = 512) -> Tensor:
    """Weigh pixels `[1 1 h w]`, mean 1, highest where ``fine`` show.

    A fixed map leaves the best prediction what it is.
    """
    chosen = sample(faces, torch.Generator().manual_seed(1))
    change = torch.zeros(1, 1, size, size)
    for name, ends in fine.items():
        low, high = (render({**chosen, name: torch.full_like(chosen[name], end)}, size)[0] for end in ends)
        moved = (low - high).square().mean((0, 1), keepdim=True)
        change += moved / moved.mean() / len(fine)
    change = F.avg_pool2d(change, 5, 1, 2).sqrt() + 0.15
    return change / change.mean()
