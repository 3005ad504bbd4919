"""What lies behind a cut of a network, for one prompt of one call."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .own_attention import Attention
from .unet_decoder import Stage


@dataclass(frozen=True, eq=False)
class Half:
    """The decoder half for one prompt of one call.

    Attributes:
        h: activations at the layer, `[b c h w]`.
        stages: from h to the network's output.
        kind: 0 for the positive prompt, 1 for the negative.
        shape: height and width of the state that it was asked for.
        whole: the same as the stages in one go, where they cost more than that together; None where they do not.
    """

    h: Tensor
    stages: tuple[Stage, ...]
    kind: int
    shape: torch.Size
    whole: Stage | None = None

    def __call__(self, h: Tensor, attention: Attention | None = None) -> Tensor:
        """Network output for another h; an attention of ours makes it differentiable."""
        for stage in self.ways(attention):
            h = stage(h, attention)
        return h

    def ways(self, attention: Attention | None) -> tuple[Stage, ...]:
        """Stages to be differentiated one by one, or the whole where nothing is."""
        return self.stages if attention is not None or self.whole is None else (self.whole,)
