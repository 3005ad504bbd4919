"""A frozen copy of a network's step embedding, for blocks that live outside of it.

Ho et al. 2020, arXiv 2006.11239, appendix B.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import frequencies


class StepEmbedding(nn.Module):
    """Noise level `[b]` -> the embedding that the network's own blocks see at its nearest step, `[b e]`.

    Args:
        base: width of the sinusoids.
        width: of the embedding.
        ddpm: sine first and last frequency exact (DDPM family), or cosine first (guided diffusion, the host's U-Nets).
        levels: noise level of every step, `[t]`.
    """

    levels: Tensor

    def __init__(self, base: int, width: int, ddpm: bool, levels: Tensor):
        super().__init__()
        self.ddpm = ddpm
        self.first = nn.Linear(base, width)
        self.second = nn.Linear(width, width)
        self.register_buffer("levels", levels.float().clone())

    @classmethod
    def of(cls, net: Any, levels: Tensor) -> StepEmbedding:
        """Take that of a DDPM or guided-diffusion network, ours or the host's.

        Raises:
            ValueError: a network of another kind.
        """
        ddpm = hasattr(net, "temb")
        if not ddpm and not isinstance(getattr(net, "time_embed", None), nn.Sequential):
            raise ValueError(
                f"trained blocks cannot use the step embedding of this MODEL, a {type(net).__name__}; connect a plain"
                " U-Net"
            )
        first, second = net.temb.dense if ddpm else (net.time_embed[0], net.time_embed[2])
        embedding = cls(first.weight.shape[1], first.weight.shape[0], ddpm, levels)
        with torch.no_grad():
            for own, theirs in ((embedding.first, first), (embedding.second, second)):
                own.weight.copy_(theirs.weight.float())
                own.bias.copy_(theirs.bias.float())
        return embedding.requires_grad_(False)

    def forward(self, sigma: Tensor) -> Tensor:
        """See the class."""
        log = self.levels.log()
        t = (log[None] - sigma.to(log).clamp_min(1e-8).log()[:, None]).abs().argmin(1)
        angle = frequencies(t, self.first.weight.shape[1] // 2, 1.0 if self.ddpm else 0.0)
        pair = (angle.sin(), angle.cos()) if self.ddpm else (angle.cos(), angle.sin())
        return self.second(F.silu(self.first(torch.cat(pair, 1))))
