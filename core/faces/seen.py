"""What networks see in rendered faces."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .factors import Factors
from .render import render

SIZE = 64


@torch.no_grad()
def seen(
    factors: Factors, *eyes: Callable[[Tensor], Tensor], device: torch.device | str = "cpu", batch: int = 100
) -> list[Tensor]:
    """Render faces in batches, so that no more than these are ever there.

    Args:
        factors: of the faces.
        eyes: networks, called with pictures `[b 3 h w]` in -1..1.
        device: of the networks.
        batch: faces at a time.

    Returns:
        What each of ``eyes`` gives `[n ...]`, on the CPU.
    """
    parts = []
    for start in range(0, len(factors["smile"]), batch):
        pictures = render({k: v[start : start + batch] for k, v in factors.items()}, SIZE, device=device)[0] * 2 - 1
        parts.append([eye(pictures).cpu() for eye in eyes])
    return [torch.cat(part) for part in zip(*parts, strict=True)]
