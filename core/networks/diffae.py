"""The networks of Diffusion Autoencoders (Preechakul et al. 2022, arXiv 2111.15640) and their hierarchical variant (arXiv 2304.11829).

One class for both: a DiffAE has one code for all blocks of its U-Net, an HDAE one a level (level 0 the finest). Parameters are named as
in the released DiffAE code, so that its files load as they are; an HDAE adds heads (and for D and U a way back up) to the encoder.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .ddpm import count
from .layers import GroupNorm, Tap, attention, frequencies, layer_index, like, split_decoder, upsample

Reading = Literal["E", "D", "U"]
"""Where an HDAE reads its codes: on the encoder's way down (E), on a way back up from its last map (D), there with lateral skips (U)."""
Injection = Literal["both", "enc", "dec"]
"""Which half of the U-Net the codes modulate besides its middle block."""
GROUPS, EPS = 32, 1e-5


@dataclass(frozen=True)
class DiffAEConfig:
    """Shape of one network. Tuples have one entry a level, finest first.

    Attributes:
        channels: of the U-Net.
        encoder: channels of the semantic encoder.
        attention: which levels of the U-Net attend (the middle always does).
        encoder_attention: which levels of the encoder attend.
        blocks: residual blocks a level on the way down; one more on the way up.
        emb: width of the step embedding.
        code: width of one code.
        levels: codes of a picture: 0 for DiffAE's one vector, otherwise one a level of the U-Net.
        reading: see :data:`Reading`.
        injection: see :data:`Injection`.
        patch: > 1 folds ``patch x patch`` pixels into channels in front of U-Net and encoder (orthonormal, exact).
        in_channels: of the picture.
    """

    channels: tuple[int, ...]
    encoder: tuple[int, ...]
    attention: tuple[bool, ...]
    encoder_attention: tuple[bool, ...]
    blocks: int = 2
    emb: int = 512
    code: int = 512
    levels: int = 0
    reading: Reading = "E"
    injection: Injection = "both"
    patch: int = 1
    in_channels: int = 3

    def __post_init__(self) -> None:
        if len(self.attention) != len(self.channels) or len(self.encoder_attention) != len(self.encoder):
            raise ValueError("attention needs one entry a level")
        if self.levels and not (self.levels == len(self.channels) <= len(self.encoder)):
            raise ValueError(f"an HDAE has one code a level of its U-Net ({len(self.channels)}), read off as many levels of its encoder")
        if self.reading not in get_args(Reading) or self.injection not in get_args(Injection):
            raise ValueError(f"unknown variant: reading {self.reading!r}, injection {self.injection!r}")

    @property
    def code_shape(self) -> tuple[int, ...]:
        """Of one picture's code: `[code]`, or `[levels code]`."""
        return (self.levels, self.code) if self.levels else (self.code,)

    @property
    def multiple(self) -> int:
        """Height and width of a picture must be multiples of this."""
        return self.patch * 2 ** (max(len(self.channels), len(self.encoder)) - 1)

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor], patch: int = 1) -> DiffAEConfig:
        """Read the configuration off the names and shapes of a state dict.

        Raises:
            ValueError: a key that the family must have is missing.
        """
        try:
            up = count(state, "output_blocks.{}.0.in_layers.0.weight")
            # A block that goes up a level ends in a second ResBlock; one that goes down looks like any other.
            levels = 1 + sum(f"output_blocks.{k}.{j}.in_layers.0.weight" in state for k in range(up) for j in (1, 2))
            per = up // levels  # blocks a level, the one that goes down included
            depth = _numbered(state, "encoder.input_blocks.") // per
            starts = [1 + i * per for i in range(max(levels, depth))]
            encoder = tuple(state[f"encoder.input_blocks.{n}.0.in_layers.2.weight"].shape[0] for n in starts[:depth])
            heads = count(state, "encoder.heads.{}.3.weight")
            back = state.get("encoder.up.0.in_layers.2.weight")
            down_code, up_code = (f"{side}_blocks.{n}.0.cond_emb_layers.1.weight" in state for side, n in (("input", 1), ("output", 0)))
            return cls(
                channels=tuple(state[f"input_blocks.{n}.0.in_layers.2.weight"].shape[0] for n in starts[:levels]),
                encoder=encoder,
                attention=tuple(f"input_blocks.{n}.1.qkv.weight" in state for n in starts[:levels]),
                encoder_attention=tuple(f"encoder.input_blocks.{n}.1.qkv.weight" in state for n in starts[:depth]),
                blocks=per - 1,
                emb=state["time_embed.time_embed.2.weight"].shape[0],
                code=state["encoder.out.3.weight"].shape[0],
                levels=heads + 1 if heads else 0,
                reading="E" if back is None else "D" if back.shape[1] == encoder[1] else "U",
                injection="both" if down_code and up_code else "enc" if down_code else "dec",
                patch=patch,
                in_channels=state["input_blocks.0.0.weight"].shape[1] // patch**2,
            )
        except (KeyError, IndexError, ZeroDivisionError) as error:
            raise ValueError(f"not a DiffAE: {error} is missing or misshapen") from error


def _numbered(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many blocks with ``prefix`` and a number there are."""
    return len({m[1] for k in state if (m := re.match(re.escape(prefix) + r"(\d+)\.", k))})


class ResBlock(nn.Module):
    """Two convolutions modulated by step and code (AdaGN, eq. 4-5); without a step, one convolution and no modulation.

    Args:
        inp: channels that come in, a skip connection's included.
        out: channels that leave.
        emb: width of the step embedding; 0 for a block of the encoder.
        code: width of the code; 0 for a block that takes none.
        resize: done between activation and convolution, and on the shortcut.
        dropout: while training.
    """

    def __init__(
        self, inp: int, out: int, emb: int = 0, code: int = 0, resize: Callable[[Tensor], Tensor] | None = None, dropout: float = 0.0
    ):
        super().__init__()
        self.resize = resize
        self.in_layers = nn.Sequential(GroupNorm(min(GROUPS, inp), inp, EPS), nn.SiLU(), nn.Conv2d(inp, out, 3, padding=1))
        if emb:
            self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb, 2 * out))
            last = nn.Conv2d(out, out, 3, padding=1)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)  # pyright: ignore[reportArgumentType]
            self.out_layers = nn.Sequential(GroupNorm(min(GROUPS, out), out, EPS), nn.SiLU(), nn.Dropout(dropout), last)
        if code:
            self.cond_emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(code, out))
        self.skip_connection = nn.Identity() if inp == out else nn.Conv2d(inp, out, 1)

    def forward(self, x: Tensor, emb: Tensor | None = None, code: Tensor | None = None) -> Tensor:
        """``x`` `[b c h w]`, ``emb`` `[b e]`, ``code`` `[b z]`."""
        h = self.in_layers[1](self.in_layers[0](x))
        if self.resize is not None:
            h, x = self.resize(h), self.resize(x)
        h = self.in_layers[2](h)
        if emb is not None:
            scale, shift = like(self.emb_layers(emb), len(x))[..., None, None].chunk(2, 1)
            h = self.out_layers[0](h) * (1 + scale) + shift
            if code is not None and hasattr(self, "cond_emb_layers"):
                h = h * (1 + like(self.cond_emb_layers(code), len(x))[..., None, None])
            h = self.out_layers[1:](h)
        return self.skip_connection(x) + h


class AttentionBlock(nn.Module):
    """Single-head self-attention over positions."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = GroupNorm(min(GROUPS, channels), channels, EPS)
        self.qkv, self.proj_out = nn.Conv1d(channels, 3 * channels, 1), nn.Conv1d(channels, channels, 1)
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, x: Tensor) -> Tensor:
        """``x`` `[b c h w]`."""
        flat = x.flatten(2)
        return (flat + self.proj_out(attention(*self.qkv(self.norm(flat)).chunk(3, 1)))).reshape(x.shape)


class Block(nn.ModuleList):
    """What the released code numbers as one block: a convolution or ResBlocks, with attention."""

    def forward(self, x: Tensor, emb: Tensor | None = None, code: Tensor | None = None) -> Tensor:
        """Its parts in order."""
        for part in self:
            x = part(x, emb, code) if isinstance(part, ResBlock) else part(x)
        return x


def _halve(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 2)


def _head(channels: int, code: int) -> nn.Sequential:
    return nn.Sequential(
        GroupNorm(min(GROUPS, channels), channels, EPS), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, code, 1), nn.Flatten()
    )


def _way_down(first: int, channels: tuple[int, ...], attend: tuple[bool, ...], blocks: int, **modulation) -> nn.ModuleList:
    """First convolution and the levels on the way down, the first block of a coarser level being the one that halves."""
    width = channels[0]
    parts = nn.ModuleList([Block([nn.Conv2d(first, width, 3, padding=1)])])
    for level, out in enumerate(channels):
        if level:
            parts.append(Block([ResBlock(width, width, resize=_halve, **modulation)]))
        for _ in range(blocks):
            parts.append(Block([ResBlock(width, out, **modulation), *([AttentionBlock(out)] if attend[level] else [])]))
            width = out
    return parts


class SemanticEncoder(nn.Module):
    """Picture `[b c h w]` -> code `[b z]`, or `[b l z]` with ``config.levels``, finest level first (section 3.1)."""

    def __init__(self, config: DiffAEConfig, dropout: float = 0.0):
        super().__init__()
        self.config = c = config
        last = c.encoder[-1]
        self.input_blocks = _way_down(c.in_channels * c.patch**2, c.encoder, c.encoder_attention, c.blocks, dropout=dropout)
        self.middle_block = Block([ResBlock(last, last), AttentionBlock(last), ResBlock(last, last)])
        self.out = _head(last, c.code)
        if c.levels:
            if c.reading != "E":
                sides = (0,) * len(c.encoder) if c.reading == "D" else c.encoder
                self.up = nn.ModuleList(ResBlock(b + s, a) for a, b, s in zip(c.encoder, c.encoder[1:], sides, strict=False))
            self.heads = nn.ModuleList(_head(width, c.code) for width in c.encoder[: c.levels - 1])

    def forward(self, x: Tensor) -> Tensor:
        """Code of ``x`` in -1..1."""
        c = self.config
        h = F.pixel_unshuffle(x, c.patch) if c.patch > 1 else x
        maps: list[Tensor] = []
        for n, block in enumerate(self.input_blocks):
            h = block(h)
            if n and n % (c.blocks + 1) == c.blocks:
                maps.append(h)
        h = self.middle_block(h)
        deepest = self.out(h)
        if not c.levels:
            return deepest
        if c.reading != "E":
            for level in range(len(c.encoder) - 2, -1, -1):
                h = upsample(h)
                h = maps[level] = self.up[level](h if c.reading == "D" else torch.cat([h, maps[level]], 1))
        return torch.stack([*(head(h) for head, h in zip(self.heads, maps, strict=False)), deepest], 1)


class DiffAENet(nn.Module):
    """Noisy picture `[b c h w]`, step `[b]` and code -> network output `[b c h w]`; ``encoder`` makes the code.

    ``layers`` names the places where it can be split, as in :class:`core.networks.ddpm.DDPMUNet`.
    """

    def __init__(self, config: DiffAEConfig, dropout: float = 0.0):
        super().__init__()
        self.config = c = config
        base, last = c.channels[0], len(c.channels) - 1
        pixels = c.in_channels * c.patch**2
        down, up = ({"emb": c.emb, "dropout": dropout, "code": c.code if c.injection in ("both", half) else 0} for half in ("enc", "dec"))
        self.time_embed = nn.ModuleDict({"time_embed": nn.Sequential(nn.Linear(base, c.emb), nn.SiLU(), nn.Linear(c.emb, c.emb))})
        self.input_blocks = _way_down(pixels, c.channels, c.attention, c.blocks, **down)
        width = c.channels[last]
        middle = {**up, "code": c.code}
        self.middle_block = Block([ResBlock(width, width, **middle), AttentionBlock(width), ResBlock(width, width, **middle)])
        # Of each level's skip connections, finest first: its first comes from the block that halves (or the first convolution).
        skips = [[c.channels[max(level - 1, 0)], *[out] * c.blocks] for level, out in enumerate(c.channels)]
        self.output_blocks, self.up_levels = nn.ModuleList(), []
        for level in range(last, -1, -1):
            out = c.channels[level]
            for k in range(c.blocks + 1):
                block = Block([ResBlock(width + skips[level].pop(), out, **up), *([AttentionBlock(out)] if c.attention[level] else [])])
                width = out
                if level and k == c.blocks:
                    block.append(ResBlock(width, width, resize=upsample, **up))
                self.output_blocks.append(block)
                self.up_levels.append(level)
        final = nn.Conv2d(width, pixels, 3, padding=1)
        nn.init.zeros_(final.weight)
        nn.init.zeros_(final.bias)  # pyright: ignore[reportArgumentType]
        self.out = nn.Sequential(GroupNorm(min(GROUPS, width), width, EPS), nn.SiLU(), final)
        self.encoder = SemanticEncoder(config, dropout)
        self.layers = ("middle", *(f"up.{k}" for k in range(len(self.output_blocks))))
        self.multiple = c.multiple

    def split(
        self, x: Tensor, t: Tensor, code: Tensor, layer: str = "middle", tap: Tap | None = None
    ) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Run the U-Net up to ``layer`` and return h there together with the rest as a function of h.

        Args:
            x: `[b c h w]`, height and width multiples of ``multiple``.
            t: step, `[b]`.
            code: `[b z]` or `[b l z]`; batch 1 serves all of x.
            layer: one of ``layers``.
            tap: see :func:`core.networks.layers.split_decoder`.

        Raises:
            ValueError: an unknown layer, or a code of another network.
        """
        done = layer_index(self.layers, layer)
        c = self.config
        if code.shape[1:] != c.code_shape or len(code) not in (1, len(x)):
            raise ValueError(f"this network takes codes {[len(x), *c.code_shape]}, got {list(code.shape)}; encode with the same model")
        angle = frequencies(t, c.channels[0] // 2, 0.0).to(x.dtype)
        emb = self.time_embed["time_embed"](torch.cat([angle.cos(), angle.sin()], 1))
        codes = code.unbind(1) if c.levels else [code] * len(c.channels)
        h = F.pixel_unshuffle(x, c.patch) if c.patch > 1 else x
        skips: list[Tensor] = []
        for n, block in enumerate(self.input_blocks):
            h = block(h, emb, codes[n // (c.blocks + 1)])
            skips.append(h)
        h = self.middle_block(h, emb, codes[-1])

        def step(n: int, joined: Tensor) -> Tensor:
            return self.output_blocks[n](joined, emb, codes[self.up_levels[n]])

        h, rest = split_decoder(h, skips, step, layers=self.layers, done=done, tap=tap)

        def decode(h: Tensor) -> Tensor:
            out = self.out(rest(h))
            return F.pixel_shuffle(out, c.patch) if c.patch > 1 else out

        return h, decode

    def forward(self, x: Tensor, t: Tensor, code: Tensor, tap: Tap | None = None) -> Tensor:
        """Network output for ``x`` `[b c h w]` at step ``t`` `[b]` with ``code``."""
        h, decode = self.split(x, t, code, tap=tap)
        return decode(h)


class Coded(nn.Module):
    """A DiffAE's U-Net for one code or a batch of them, split like any other network.

    Args:
        net: the network.
        code: `[b z]` or `[b l z]`; batch 1 serves any number of pictures.
    """

    def __init__(self, net: DiffAENet, code: Tensor):
        super().__init__()
        self.net, self.code = net, code
        self.config, self.layers, self.multiple = net.config, net.layers, net.multiple

    def split(self, x: Tensor, t: Tensor, layer: str = "middle", tap: Tap | None = None) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """See :meth:`DiffAENet.split`."""
        return self.net.split(x, t, self.code, layer, tap)
