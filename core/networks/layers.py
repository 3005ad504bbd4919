"""Building blocks shared by the network families, written so that torch.func can differentiate and batch them.

Fused attention has no forward mode, and the fused group norm raises under ``vmap(jvp)``: both are written out here.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class GroupNorm(nn.GroupNorm):
    """Group normalisation; fused while training, written out in ``eval()`` for ``jvp`` and ``vmap``.

    The two agree to rounding. Input ``[b c ...]``, output of the same shape.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x`` `[b c h w]`."""
        if self.training:
            return super().forward(x)
        grouped = x.reshape(x.shape[0], self.num_groups, -1)
        centred = grouped - grouped.mean(-1, keepdim=True)
        scale = torch.rsqrt(centred.square().mean(-1, keepdim=True) + self.eps)
        shape = (1, -1) + (1,) * (x.dim() - 2)
        return (centred * scale).reshape(x.shape) * self.weight.view(shape) + self.bias.view(shape)


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention over the last axis of positions, explicit on purpose. ``q, k, v`` `[b c n]` -> `[b c n]`."""
    weight = torch.softmax(torch.einsum("bcq,bck->bqk", q, k) * q.shape[1] ** -0.5, dim=-1)
    return torch.einsum("bqk,bck->bcq", weight, v)


def frequencies(t: Tensor, half: int, shift: float) -> Tensor:
    """Angles of the sinusoidal step embedding (Vaswani et al. 2017). ``t`` `[b]` -> `[b half]`.

    ``shift`` is 1 for the DDPM family (last frequency exactly 1e-4) and 0 for guided-diffusion.
    """
    rate = torch.exp(-math.log(10000.0) / (half - shift) * torch.arange(half, device=t.device, dtype=torch.float32))
    return t.float()[:, None] * rate[None]


def like(x: Tensor, batch: int) -> Tensor:
    """``x`` repeated along the batch if it holds one sample and ``batch`` are asked for (a view, no copy)."""
    return x.expand(batch, *x.shape[1:]) if x.shape[0] == 1 and batch != 1 else x


def upsample(x: Tensor) -> Tensor:
    """Nearest-neighbour doubling of `[b c h w]`."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")
