"""The U-Net of DDPM (Ho, Jain, Abbeel 2020, arXiv 2006.11239, appendix B), split at any layer of its decoder.

Parameter names follow the PyTorch port whose files users have (``celeba_hq.ckpt``, ``model-2388000.ckpt``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from ..chain import Chain
from .layers import GroupNorm, Parts, Tap, Upsample, attention, frequencies, like

GROUPS = 32
EPS = 1e-6


@dataclass(frozen=True)
class DDPMConfig:
    """Shape of one network. ``channels`` and ``attention`` have one entry a level, finest first.

    ``patch`` > 1 folds ``patch x patch`` pixels into channels in front of the network (orthonormal, exact).
    """

    in_channels: int
    out_channels: int
    channels: tuple[int, ...]
    blocks: int
    attention: tuple[bool, ...]
    mid_attention: bool = True
    patch: int = 1

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor], patch: int = 1) -> DDPMConfig:
        """Read the configuration off the shapes of a state dict.

        Raises:
            ValueError: a key that the family must have is missing.
        """
        try:
            levels = count(state, "down.{}.block.0.conv1.weight")
            blocks = count(state, "down.0.block.{}.conv1.weight")
            if not blocks:
                raise KeyError("down.0.block.0.conv1.weight")
            return cls(
                in_channels=state["conv_in.weight"].shape[1] // patch**2,
                out_channels=state["conv_out.weight"].shape[0] // patch**2,
                channels=tuple(state[f"down.{i}.block.0.conv1.weight"].shape[0] for i in range(levels)),
                blocks=blocks,
                attention=tuple(f"down.{i}.attn.0.q.weight" in state for i in range(levels)),
                mid_attention="mid.attn_1.q.weight" in state,
                patch=patch,
            )
        except (KeyError, IndexError) as error:
            raise ValueError(f"not a DDPM U-Net: {error} is missing or misshapen") from error

    @property
    def multiple(self) -> int:
        """Say of what number height and width of a picture must be multiples."""
        return self.patch * 2 ** (len(self.channels) - 1)


def count(state: Mapping[str, Tensor], pattern: str) -> int:
    """Count how many of ``pattern`` with 0, 1, 2, ... filled in are in ``state`` without a gap."""
    n = 0
    while pattern.format(n) in state:
        n += 1
    return n


class ResBlock(nn.Module):
    """norm, SiLU, conv twice, with the step embedding added in between."""

    def __init__(self, inp: int, out: int, emb: int):
        super().__init__()
        self.norm1 = GroupNorm(GROUPS, inp, EPS)
        self.conv1 = nn.Conv2d(inp, out, 3, padding=1)
        self.temb_proj = nn.Linear(emb, out)
        self.norm2 = GroupNorm(GROUPS, out, EPS)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        if inp != out:
            self.nin_shortcut = nn.Conv2d(inp, out, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """Add the residual to ``x`` `[b c h w]` for ``emb`` `[b e]`."""
        shift = like(self.temb_proj(F.silu(emb)), x.shape[0])
        h = self.conv1(F.silu(self.norm1(x))) + shift[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class AttnBlock(nn.Module):
    """Single-head self-attention over positions."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = GroupNorm(GROUPS, channels, EPS)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """Attend over ``x`` `[b c h w]`."""
        n = self.norm(x)
        q, k, v = (rearrange(part(n), "b c h w -> b c (h w)") for part in (self.q, self.k, self.v))
        seen = rearrange(attention(q, k, v), "b c (h w) -> b c h w", h=x.shape[2])
        return x + self.proj_out(seen)


class Downsample(nn.Module):
    """Stride-2 convolution, padded on the right and below only."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Halve ``x`` `[b c h w]` -> `[b c h/2 w/2]`."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))


def _level(**parts: nn.Module) -> Any:
    level = nn.Module()
    for name, part in parts.items():
        setattr(level, name, part)
    return level


class DDPMUNet(nn.Module):
    """Image `[b c h w]` and integer or fractional step `[b]` -> network output `[b o h w]`.

    ``layers`` names the places where it can be split: ``middle`` (h-space) and ``up.k``, the output of the k-th decoder
    block counted from the bottleneck, its upsampling included (numbered as ``output_blocks.k`` in ComfyUI).
    """

    temb: Any
    mid: Any
    down: Any
    up: Any

    def __init__(self, config: DDPMConfig):
        super().__init__()
        self.config = c = config
        base = c.channels[0]
        pixels = c.patch**2
        emb = 4 * base
        self.temb = _level(dense=nn.ModuleList([nn.Linear(base, emb), nn.Linear(emb, emb)]))
        self.conv_in = nn.Conv2d(c.in_channels * pixels, base, 3, padding=1)
        self.down = nn.ModuleList()
        skips = [base]
        width = base
        last = len(c.channels) - 1
        for i, out in enumerate(c.channels):
            block = nn.ModuleList()
            attn = nn.ModuleList()
            for _ in range(c.blocks):
                block.append(ResBlock(width, out, emb))
                width = out
                skips.append(width)
                if c.attention[i]:
                    attn.append(AttnBlock(width))
            level = _level(block=block, attn=attn)
            if i < last:
                level.downsample = Downsample(width)
                skips.append(width)
            self.down.append(level)
        self.mid = _level(block_1=ResBlock(width, width, emb), block_2=ResBlock(width, width, emb))
        if c.mid_attention:
            self.mid.attn_1 = AttnBlock(width)
        up: list[nn.Module] = []
        for i, out in reversed(list(enumerate(c.channels))):
            block = nn.ModuleList()
            attn = nn.ModuleList()
            for _ in range(c.blocks + 1):
                block.append(ResBlock(width + skips.pop(), out, emb))
                width = out
                if c.attention[i]:
                    attn.append(AttnBlock(width))
            level = _level(block=block, attn=attn)
            if i > 0:
                level.upsample = Upsample(width)
            up.insert(0, level)
        self.up = nn.ModuleList(up)
        self.norm_out = GroupNorm(GROUPS, width, EPS)
        self.conv_out = nn.Conv2d(width, c.out_channels * pixels, 3, padding=1)
        self.steps = [(i, j) for i in range(last, -1, -1) for j in range(c.blocks + 1)]
        self.layers = ("middle", *(f"up.{k}" for k in range(len(self.steps))))
        self.multiple = c.multiple

    def split(
        self, x: Tensor, t: Tensor, layer: str = "middle", keep: Tensor | None = None, tap: Tap | None = None
    ) -> tuple[Tensor, Chain]:
        """Run the network up to ``layer`` and return ``h`` there together with the rest, a chain of stages.

        Args:
            x: `[b c h w]`, height and width multiples of ``multiple``.
            t: step, `[b]`.
            layer: one of ``layers``.
            keep: optional factors for the skip connections, `[b n]` finest first (training only).
            tap: called at every layer before it is consumed; what it does up to ``layer`` is in h already, the rest
                happens inside the returned function.

        Raises:
            ValueError: an unknown layer.
        """
        return self._parts(t).split(x, layer, tap, keep)

    def whole(self, t: Tensor) -> Chain:
        """The network at steps ``t`` `[b]` as a chain of stages from x `[b c h w]` on."""
        return self._parts(t).whole()

    def _parts(self, t: Tensor) -> Parts:
        angle = frequencies(t, self.config.channels[0] // 2, 1.0).to(self.conv_in.weight.dtype)
        emb = torch.cat([angle.sin(), angle.cos()], 1)
        emb = self.temb.dense[1](F.silu(self.temb.dense[0](emb)))
        patch = self.config.patch

        def enter(x: Tensor) -> Tensor:
            if patch > 1:
                x = F.pixel_unshuffle(x, patch)
            return self.conv_in(x)

        def finish(h: Tensor) -> Tensor:
            h = F.silu(self.norm_out(h))
            out = self.conv_out(h)
            if patch > 1:
                out = F.pixel_shuffle(out, patch)
            return out

        encoder = [enter, *(lambda h, down=down: down(h, emb) for down in self._encoder_blocks())]
        return Parts(encoder, lambda h: self._middle(h, emb), lambda n, h: self._block(n, h, emb), finish, self.layers)

    def _encoder_blocks(self) -> Iterator[Callable[[Tensor, Tensor], Tensor]]:
        """What makes the skip connections after the first, of h and the embedded step."""
        for level in self.down:
            for j, block in enumerate(level.block):
                attend = level.attn[j] if len(level.attn) else nn.Identity()
                yield lambda h, emb, block=block, attend=attend: attend(block(h, emb))
            if hasattr(level, "downsample"):
                yield lambda h, _, downsample=level.downsample: downsample(h)

    def _middle(self, h: Tensor, emb: Tensor) -> Tensor:
        h = self.mid.block_1(h, emb)
        if hasattr(self.mid, "attn_1"):
            h = self.mid.attn_1(h)
        return self.mid.block_2(h, emb)

    def _block(self, n: int, h: Tensor, emb: Tensor) -> Tensor:
        i, j = self.steps[n]
        level = self.up[i]
        h = level.block[j](h, emb)
        h = level.attn[j](h) if len(level.attn) else h
        return level.upsample(h) if j == self.config.blocks and hasattr(level, "upsample") else h

    def forward(self, x: Tensor, t: Tensor, keep: Tensor | None = None, tap: Tap | None = None) -> Tensor:
        """Compute the network's output for ``x`` `[b c h w]` at step ``t`` `[b]`."""
        h, decode = self.split(x, t, keep=keep, tap=tap)
        return decode(h)
