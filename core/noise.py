"""Noise that does not depend on company: what a picture is given in a batch is what it would be given alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def fresh_noise(x: Tensor, generator: torch.Generator) -> Tensor:
    """Draw standard normal noise like ``x`` `[b ...]`, the same for every row.

    A picture gets in a batch what it would get alone.

    A picture and its edits, which are sampled side by side, need one noise as well. It is the same on every device,
    because it is drawn on the CPU in float32.
    """
    return drawn_rows(1, x.shape[1:], generator).to(x).expand_as(x)


def drawn_rows(count: int, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Draw standard normal rows that differ, `[count *shape]` float32 on the CPU, one after another.

    The first do not depend on ``count``.

    One call for all would not do: torch fills a tensor in blocks of 16 numbers and draws the last block anew.
    """
    return torch.cat([torch.randn((1, *shape), generator=generator, dtype=torch.float32) for _ in range(count)])
