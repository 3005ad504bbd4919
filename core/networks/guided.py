"""The U-Net of guided diffusion, split at any layer of its decoder.

Dhariwal and Nichol 2021, arXiv 2105.05233, appendix.

Parameter names follow the files users have: OpenAI ``256x256_diffusion_uncond.pt``, P2 (Choi et al. 2022) and ILVR
weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from ..chain import Chain
from .ddpm import count
from .layers import GroupNorm, Parts, Tap, Upsample, attention, frequencies, like, upsample

GROUPS = 32
EPS = 1e-5


@dataclass(frozen=True)
class GuidedConfig:
    """Shape of one network. ``channels`` and ``attention`` have one entry a level, finest first.

    The last two cannot be read off the shapes of a file: every released 256-pixel model has 64 channels a head and the
    legacy order of q, k and v (head by head), which are the defaults.
    """

    in_channels: int
    out_channels: int
    base: int
    stem: int
    channels: tuple[int, ...]
    blocks: int
    attention: tuple[bool, ...]
    scale_shift: bool = True
    resblock_updown: bool = True
    head_channels: int = 64
    legacy: bool = True

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor], legacy: bool = True, head_channels: int = 64) -> GuidedConfig:
        """Read the configuration off the shapes of a state dict.

        Raises:
            ValueError: a key that the family must have is missing, or the heads do not fit.
        """
        try:
            total = count(state, "output_blocks.{}.0.in_layers.0.weight")
            ends = [
                k for k in range(total) if any(f"output_blocks.{k}.{j}.{leaf}" in state for j in (1, 2) for leaf in _UP)
            ]
            per_level = ends[0] + 1 if ends else total
            if not total or total % per_level:
                raise ValueError(
                    f"not a guided-diffusion U-Net: {total} decoder blocks do not divide into levels of {per_level}"
                )
            firsts = [1 + i * per_level for i in range(total // per_level)]
            channels = tuple(state[f"input_blocks.{k}.0.out_layers.3.weight"].shape[0] for k in firsts)
            config = cls(
                in_channels=state["input_blocks.0.0.weight"].shape[1],
                out_channels=state["out.2.weight"].shape[0],
                base=state["time_embed.0.weight"].shape[1],
                stem=state["input_blocks.0.0.weight"].shape[0],
                channels=channels,
                blocks=per_level - 1,
                attention=tuple(f"input_blocks.{k}.1.qkv.weight" in state for k in firsts),
                scale_shift=state["input_blocks.1.0.emb_layers.1.weight"].shape[0] == 2 * channels[0],
                resblock_updown=f"input_blocks.{per_level}.0.in_layers.0.weight" in state,
                head_channels=head_channels,
                legacy=legacy,
            )
        except (KeyError, IndexError) as error:
            raise ValueError(f"not a guided-diffusion U-Net: {error} is missing or misshapen") from error
        attending = {c for c, used in zip(channels, config.attention, strict=True) if used} | {channels[-1]}
        if head_channels < 1 or any(c % head_channels for c in attending):
            raise ValueError(
                f"attention layers of {sorted(attending)} channels cannot have heads of {head_channels}; set"
                " head_channels"
            )
        if config.base % 2:
            raise ValueError(f"the step embedding has {config.base} channels, expected an even number")
        return config

    @property
    def multiple(self) -> int:
        """Say of what number height and width of a picture must be multiples."""
        return 2 ** (len(self.channels) - 1)


_UP = ("conv.weight", "in_layers.0.weight")  # what closes a level of the decoder: a convolution or a residual block


class ResBlock(nn.Module):
    """norm, SiLU, conv twice.

    The step embedding shifts (and scales) in between; resampling sits before the first conv.
    """

    def __init__(
        self, inp: int, out: int, emb: int, scale_shift: bool, resample: Callable[[Tensor], Tensor] | None = None
    ):
        super().__init__()
        self.scale_shift = scale_shift
        self.resample = resample
        self.in_layers = nn.Sequential(GroupNorm(GROUPS, inp, EPS), nn.SiLU(), nn.Conv2d(inp, out, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb, 2 * out if scale_shift else out))
        self.out_layers = nn.Sequential(
            GroupNorm(GROUPS, out, EPS), nn.SiLU(), nn.Identity(), nn.Conv2d(out, out, 3, padding=1)
        )
        self.skip_connection = nn.Identity() if inp == out else nn.Conv2d(inp, out, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """Add the residual to ``x`` `[b c h w]` for ``emb`` `[b e]`."""
        h = self.in_layers[1](self.in_layers[0](x))
        if self.resample is not None:
            h = self.resample(h)
            x = self.resample(x)
        h = self.in_layers[2](h)
        emb = like(self.emb_layers(emb), x.shape[0])[:, :, None, None]
        if self.scale_shift:
            scale, shift = emb.chunk(2, 1)
            h = self.out_layers[3](F.silu(self.out_layers[0](h) * (1 + scale) + shift))
        else:
            h = self.out_layers(h + emb)
        return self.skip_connection(x) + h


class AttnBlock(nn.Module):
    """Self-attention over positions in heads of ``head_channels``."""

    def __init__(self, channels: int, head_channels: int, legacy: bool):
        super().__init__()
        self.heads = channels // head_channels
        self.legacy = legacy
        self.norm = GroupNorm(GROUPS, channels, EPS)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Attend over ``x`` `[b c h w]`."""
        qkv = self.qkv(rearrange(self.norm(x), "b c h w -> b c (h w)"))
        # Legacy is head by head, each with its q, k and v; otherwise all q, then all k, then all v.
        stored = "head part" if self.legacy else "part head"
        q, k, v = rearrange(qkv, f"b ({stored} c) n -> part (b head) c n", part=3, head=self.heads)
        seen = rearrange(attention(q, k, v), "(b head) c n -> b (head c) n", head=self.heads)
        return x + rearrange(self.proj_out(seen), "b c (h w) -> b c h w", h=x.shape[2])


class Downsample(nn.Module):
    """Stride-2 convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Halve ``x`` `[b c h w]` -> `[b c h/2 w/2]`."""
        return self.op(x)


def _halve(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 2)


class Block(nn.Sequential):
    """A row of layers, the residual blocks among them taking the step embedding."""

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """Apply the layers to ``x`` `[b c h w]` with ``emb`` `[b e]`."""
        for layer in self:
            x = layer(x, emb) if isinstance(layer, ResBlock) else layer(x)
        return x


class GuidedUNet(nn.Module):
    """Image `[b c h w]` and integer or fractional step `[b]` -> network output `[b o h w]`.

    With a learned sigma o = 2c.

    ``layers`` names the places where it can be split: ``middle`` (h-space) and ``up.k``, the output of
    ``output_blocks.k``.
    """

    def __init__(self, config: GuidedConfig):
        super().__init__()
        self.config = c = config
        emb = 4 * c.base
        last = len(c.channels) - 1

        def res(inp: int, out: int, resample: Callable[[Tensor], Tensor] | None = None) -> ResBlock:
            return ResBlock(inp, out, emb, c.scale_shift, resample)

        def attend(i: int) -> list[nn.Module]:
            return [AttnBlock(c.channels[i], c.head_channels, c.legacy)] if c.attention[i] else []

        self.time_embed = nn.Sequential(nn.Linear(c.base, emb), nn.SiLU(), nn.Linear(emb, emb))
        width = c.stem
        skips = [c.stem]
        self.input_blocks = nn.ModuleList([Block(nn.Conv2d(c.in_channels, width, 3, padding=1))])
        for i, out in enumerate(c.channels):
            for _ in range(c.blocks):
                self.input_blocks.append(Block(res(width, out), *attend(i)))
                width = out
                skips.append(width)
            if i < last:
                self.input_blocks.append(Block(res(width, width, _halve) if c.resblock_updown else Downsample(width)))
                skips.append(width)
        self.middle_block = Block(res(width, width), AttnBlock(width, c.head_channels, c.legacy), res(width, width))
        self.output_blocks = nn.ModuleList()
        for i, out in reversed(list(enumerate(c.channels))):
            for j in range(c.blocks + 1):
                parts = [res(width + skips.pop(), out), *attend(i)]
                width = out
                if i > 0 and j == c.blocks:
                    parts.append(res(width, width, upsample) if c.resblock_updown else Upsample(width))
                self.output_blocks.append(Block(*parts))
        self.out = nn.Sequential(
            GroupNorm(GROUPS, width, EPS), nn.SiLU(), nn.Conv2d(width, c.out_channels, 3, padding=1)
        )
        self.layers = ("middle", *(f"up.{k}" for k in range(len(self.output_blocks))))
        self.multiple = c.multiple

    def split(self, x: Tensor, t: Tensor, layer: str = "middle", tap: Tap | None = None) -> tuple[Tensor, Chain]:
        """Run the network up to ``layer`` and return ``h`` there together with the rest, a chain of stages.

        Args:
            x: `[b c h w]`, height and width multiples of ``multiple``.
            t: step, `[b]`.
            layer: one of ``layers``.
            tap: called at every layer before it is consumed; what it does up to ``layer`` is in h already, the rest
                happens inside the returned function.

        Raises:
            ValueError: an unknown layer.
        """
        return self._parts(t).split(x, layer, tap)

    def whole(self, t: Tensor) -> Chain:
        """The network at steps ``t`` `[b]` as a chain of stages from x `[b c h w]` on."""
        return self._parts(t).whole()

    def _parts(self, t: Tensor) -> Parts:
        angle = frequencies(t, self.config.base // 2, 0.0).to(next(self.parameters()).dtype)
        emb = self.time_embed(torch.cat([angle.cos(), angle.sin()], 1))
        return Parts(
            encoder=[lambda h, block=block: block(h, emb) for block in self.input_blocks],
            middle=lambda h: self.middle_block(h, emb),
            block=lambda n, joined: self.output_blocks[n](joined, emb),
            finish=self.out,
            layers=self.layers,
        )

    def forward(self, x: Tensor, t: Tensor, tap: Tap | None = None) -> Tensor:
        """Compute the network's output for ``x`` `[b c h w]` at step ``t`` `[b]`."""
        h, decode = self.split(x, t, tap=tap)
        return decode(h)
