"""Building blocks shared by the network families, written so that torch.func can differentiate and batch them.

Fused attention has no forward mode, and the fused group norm raises under ``vmap(jvp)``: both are written out here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..chain import Chain, Stage

Tap = Callable[[str, Tensor, Tensor | None], tuple[Tensor, Tensor | None]]
"""Edits a layer in passing: (layer name, h `[b c h w]`, the skip connection that joins it next) -> both of them.

The skip is None after the last decoder block, where nothing joins any more."""


class GroupNorm(nn.GroupNorm):
    """Group normalisation; fused while training, written out in evaluation mode for ``jvp`` and ``vmap``.

    The two agree to rounding. Input ``[b c ...]``, output of the same shape. Half precision is normalised in float32.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x`` `[b c h w]`."""
        if self.training:
            return super().forward(x)
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        grouped = wide.reshape(x.shape[0], self.num_groups, -1)
        centred = grouped - grouped.mean(-1, keepdim=True)
        scale = torch.rsqrt(centred.square().mean(-1, keepdim=True) + self.eps)
        shape = (1, -1) + (1,) * (x.dim() - 2)
        return (centred * scale).reshape(x.shape).to(x.dtype) * self.weight.view(shape) + self.bias.view(shape)


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend over the last axis of positions, explicit on purpose. ``q, k, v`` `[b c n]` -> `[b c n]`."""
    weight = torch.softmax(torch.einsum("bcq,bck->bqk", q, k) * q.shape[1] ** -0.5, dim=-1)
    return torch.einsum("bqk,bck->bcq", weight, v)


def frequencies(t: Tensor, half: int, shift: float) -> Tensor:
    """Compute the angles of the sinusoidal step embedding (Vaswani et al. 2017). ``t`` `[b]` -> `[b half]`.

    ``shift`` is 1 for the DDPM family (last frequency exactly 1e-4) and 0 for guided-diffusion.
    """
    rate = torch.exp(-math.log(10000.0) / (half - shift) * torch.arange(half, device=t.device, dtype=torch.float32))
    return t.float()[:, None] * rate[None]


def like(x: Tensor, batch: int) -> Tensor:
    """Repeat ``x`` along the batch if it holds one sample and ``batch`` are asked for (a view, no copy)."""
    return x.expand(batch, *x.shape[1:]) if x.shape[0] == 1 and batch != 1 else x


def upsample(x: Tensor) -> Tensor:
    """Double `[b c h w]` by nearest neighbours."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


class Upsample(nn.Module):
    """Doubling followed by a convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Double ``x`` `[b c h w]` -> `[b c 2h 2w]`."""
        return self.conv(upsample(x))


def layer_index(layers: tuple[str, ...], layer: str) -> int:
    """Find the position of ``layer`` in the decoder.

    Raises:
        ValueError: there is no such layer.
    """
    if layer not in layers:
        raise ValueError(f"this network has no layer {layer!r}; choose one of {', '.join(layers)}")
    return layers.index(layer)


State = tuple[Tensor, ...]
"""H, and the skip connections that the decoder still wants, finest first."""


@dataclass(frozen=True)
class Parts:
    """A U-Net at fixed noise levels, in parts that hand on h `[b c h w]`.

    Attributes:
        encoder: its blocks, finest first; the first takes the state, and the output of each is a skip connection.
        middle: the middle block.
        block: (number of the decoder's block, h and skip joined) -> output of the block.
        finish: what follows the last block.
        layers: names, ``layers[n]`` being what the decoder's block n consumes.
    """

    encoder: Sequence[Stage]
    middle: Stage
    block: Callable[[int, Tensor], Tensor]
    finish: Stage
    layers: tuple[str, ...]

    def split(self, x: Tensor, layer: str, tap: Tap | None = None, keep: Tensor | None = None) -> tuple[Tensor, Chain]:
        """Run as far as ``layer``; return h there and the rest, a stage for every block.

        Args:
            x: `[b c h w]`.
            layer: one of ``layers``.
            tap: called at every layer: up to ``layer`` now, below it inside the returned stages.
            keep: factors for the skip connections, `[b n]` finest first.

        Raises:
            ValueError: an unknown layer.
        """
        done = layer_index(self.layers, layer)
        skips: list[Tensor] = []
        h = x
        for block in self.encoder:
            h = block(h)
            skips.append(h)
        if keep is not None:
            skips = [s * keep[:, i, None, None, None].to(s.dtype) for i, s in enumerate(skips)]
        h, rest = _split_decoder(self.middle(h), skips, self.block, layers=self.layers, done=done, tap=tap)
        return h, rest.then(self.finish)

    def whole(self) -> Chain:
        """The network as stages from the state on; between them goes h with the skips that are still wanted."""
        encoder = [partial(self._encode, block) for block in self.encoder[1:]]
        decoder = [partial(self._decode, n) for n in range(len(self.encoder))]
        return Chain(
            [
                self._enter,
                *encoder,
                self._cross,
                *decoder,
                self._leave,
            ]
        )

    def _enter(self, x: Tensor) -> State:
        h = self.encoder[0](x)
        return h, h

    def _encode(self, block: Stage, state: State) -> State:
        h, *skips = state
        h = block(h)
        return h, *skips, h

    def _cross(self, state: State) -> State:
        h, *skips = state
        h = self.middle(h)
        return h, *skips

    def _decode(self, n: int, state: State) -> State:
        h, *skips, skip = state
        joined = torch.cat([h, skip], 1)
        h = self.block(n, joined)
        return h, *skips

    def _leave(self, state: State) -> Tensor:
        (h,) = state
        return self.finish(h)


def _split_decoder(
    h: Tensor,
    skips: list[Tensor],
    block: Callable[[int, Tensor], Tensor],
    *,
    layers: tuple[str, ...],
    done: int,
    tap: Tap | None,
) -> tuple[Tensor, Chain]:
    """Run a decoder as far as layer number ``done``; return h there and the rest of it, a stage for every block.

    Args:
        h: output of the middle block, `[b c h w]`.
        skips: skip connections, finest first; the decoder consumes them from the end, one a block.
        block: (number of the block, h and skip joined) -> output of the block.
        layers: names, ``layers[n]`` being what block n consumes.
        done: where to stop.
        tap: called at every layer: up to ``done`` now, below it inside the returned stages.
    """

    def arrive(n: int, h: Tensor) -> tuple[Tensor, Tensor | None]:
        skip = like(skips[-1 - n], h.shape[0]) if n < len(skips) else None
        return tap(layers[n], h, skip) if tap else (h, skip)

    def consume(n: int, h: Tensor, skip: Tensor | None) -> Tensor:
        if skip is None:
            raise ValueError(
                f"the tap must return the skip connection of layer {layers[n]!r}, edited or not; it returned None"
            )
        return block(n, torch.cat([h, like(skip, h.shape[0])], 1))

    h, skip = arrive(0, h)
    for n in range(done):
        h, skip = arrive(n + 1, consume(n, h, skip))
    if done == len(skips):
        return h, Chain()
    later = [lambda h, n=n: consume(n, *arrive(n, h)) for n in range(done + 1, len(skips))]
    last = [lambda h: arrive(len(skips), h)[0]] if tap else []
    return h, Chain([lambda h: consume(done, h, skip), *later, *last])
