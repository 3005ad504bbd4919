"""The networks of Diffusion Autoencoders and their hierarchical variant (arXiv 2304.11829).

Preechakul et al. 2022, arXiv 2111.15640.

One class for both: a DiffAE has one code for all blocks of its U-Net, an HDAE one a level (level 0 the finest).
Parameters are named as in the released DiffAE code, so that its files load as they are; an HDAE adds heads (and for D
and U a way back up) to the encoder.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..chain import Chain
from .diffae_config import DiffAEConfig
from .layers import GroupNorm, Parts, Tap, attention, frequencies, like, upsample

GROUPS = 32
EPS = 1e-5


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
        self,
        inp: int,
        out: int,
        emb: int = 0,
        code: int = 0,
        resize: Callable[[Tensor], Tensor] | None = None,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.resize = resize
        self.in_layers = nn.Sequential(
            GroupNorm(min(GROUPS, inp), inp, EPS), nn.SiLU(), nn.Conv2d(inp, out, 3, padding=1)
        )
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
        """Add the residual to ``x`` `[b c h w]` for ``emb`` `[b e]` and ``code`` `[b z]`."""
        h = self.in_layers[1](self.in_layers[0](x))
        if self.resize is not None:
            h = self.resize(h)
            x = self.resize(x)
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
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, x: Tensor) -> Tensor:
        """Attend over ``x`` `[b c h w]`."""
        flat = x.flatten(2)
        return (flat + self.proj_out(attention(*self.qkv(self.norm(flat)).chunk(3, 1)))).reshape(x.shape)


class Block(nn.ModuleList):
    """What the released code numbers as one block: a convolution or ResBlocks, with attention."""

    def forward(self, x: Tensor, emb: Tensor | None = None, code: Tensor | None = None) -> Tensor:
        """Apply its parts in order."""
        for part in self:
            x = part(x, emb, code) if isinstance(part, ResBlock) else part(x)
        return x


def _halve(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 2)


def _head(channels: int, code: int) -> nn.Sequential:
    return nn.Sequential(
        GroupNorm(min(GROUPS, channels), channels, EPS),
        nn.SiLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Conv2d(channels, code, 1),
        nn.Flatten(),
    )


def _way_down(
    first: int, channels: tuple[int, ...], attend: tuple[bool, ...], blocks: int, **modulation
) -> nn.ModuleList:
    """Build the first convolution and the levels on the way down.

    The first block of a coarser level is the one that halves.
    """
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
        self.input_blocks = _way_down(
            c.in_channels * c.patch**2, c.encoder, c.encoder_attention, c.blocks, dropout=dropout
        )
        self.middle_block = Block([ResBlock(last, last), AttentionBlock(last), ResBlock(last, last)])
        self.out = _head(last, c.code)
        if c.levels:
            if c.reading != "E":
                sides = (0,) * len(c.encoder) if c.reading == "D" else c.encoder
                self.up = nn.ModuleList(
                    ResBlock(b + s, a) for a, b, s in zip(c.encoder, c.encoder[1:], sides, strict=False)
                )
            self.heads = nn.ModuleList(_head(width, c.code) for width in c.encoder[: c.levels - 1])

    def forward(self, x: Tensor) -> Tensor:
        """Encode ``x`` in -1..1."""
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
        base = c.channels[0]
        last = len(c.channels) - 1
        pixels = c.in_channels * c.patch**2
        down, up = (
            {"emb": c.emb, "dropout": dropout, "code": c.code if c.injection in ("both", half) else 0}
            for half in ("enc", "dec")
        )
        self.time_embed = nn.ModuleDict(
            {"time_embed": nn.Sequential(nn.Linear(base, c.emb), nn.SiLU(), nn.Linear(c.emb, c.emb))}
        )
        self.input_blocks = _way_down(pixels, c.channels, c.attention, c.blocks, **down)
        width = c.channels[last]
        middle = {**up, "code": c.code}
        self.middle_block = Block(
            [ResBlock(width, width, **middle), AttentionBlock(width), ResBlock(width, width, **middle)]
        )
        # Of each level's skip connections, finest first: its first comes from the block that halves (or the first
        # convolution).
        skips = [[c.channels[max(level - 1, 0)], *[out] * c.blocks] for level, out in enumerate(c.channels)]
        self.output_blocks = nn.ModuleList()
        self.up_levels = []
        for level in range(last, -1, -1):
            out = c.channels[level]
            for k in range(c.blocks + 1):
                block = Block(
                    [
                        ResBlock(width + skips[level].pop(), out, **up),
                        *([AttentionBlock(out)] if c.attention[level] else []),
                    ]
                )
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
    ) -> tuple[Tensor, Chain]:
        """Run the U-Net up to ``layer`` and return h there together with the rest, a chain of stages.

        Args:
            x: `[b c h w]`, height and width multiples of ``multiple``.
            t: step, `[b]`.
            code: `[b z]` or `[b l z]`; batch 1 serves all of x.
            layer: one of ``layers``.
            tap: see :func:`core.networks.layers.Parts.split`.

        Raises:
            ValueError: an unknown layer, or a code of another network.
        """
        return self._parts(t, self._of(code, len(x))).split(x, layer, tap)

    def whole(self, t: Tensor, code: Tensor) -> Chain:
        """The network at steps ``t`` `[b]` with a code `[1 or b ...]` as a chain of stages from x `[b c h w]` on.

        Raises:
            ValueError: a code of another network.
        """
        return self._parts(t, self._of(code, len(t))).whole()

    def _of(self, code: Tensor, count: int) -> Tensor:
        wanted = self.config.code_shape
        if code.shape[1:] != wanted or len(code) not in (1, count):
            raise ValueError(
                f"this network takes codes {[count, *wanted]}, got {list(code.shape)}; encode with the same model"
            )
        return code

    def _parts(self, t: Tensor, code: Tensor) -> Parts:
        c = self.config
        angle = frequencies(t, c.channels[0] // 2, 0.0).to(next(self.input_blocks.parameters()).dtype)
        emb = self.time_embed["time_embed"](torch.cat([angle.cos(), angle.sin()], 1))
        codes = code.unbind(1) if c.levels else [code] * len(c.channels)

        def encode(h: Tensor, n: int) -> Tensor:
            if n == 0 and c.patch > 1:
                h = F.pixel_unshuffle(h, c.patch)
            level = n // (c.blocks + 1)
            return self.input_blocks[n](h, emb, codes[level])

        def decode(n: int, joined: Tensor) -> Tensor:
            level = self.up_levels[n]
            return self.output_blocks[n](joined, emb, codes[level])

        def finish(h: Tensor) -> Tensor:
            out = self.out(h)
            if c.patch > 1:
                out = F.pixel_shuffle(out, c.patch)
            return out

        return Parts(
            encoder=[lambda h, n=n: encode(h, n) for n in range(len(self.input_blocks))],
            middle=lambda h: self.middle_block(h, emb, codes[-1]),
            block=decode,
            finish=finish,
            layers=self.layers,
        )

    def forward(self, x: Tensor, t: Tensor, code: Tensor, tap: Tap | None = None) -> Tensor:
        """Compute the network's output for ``x`` `[b c h w]` at step ``t`` `[b]` with ``code``."""
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
        self.net = net
        self.code = code
        self.config = net.config
        self.layers = net.layers
        self.multiple = net.multiple

    def split(self, x: Tensor, t: Tensor, layer: str = "middle", tap: Tap | None = None) -> tuple[Tensor, Chain]:
        """See :meth:`DiffAENet.split`."""
        return self.net.split(x, t, self.code, layer, tap)

    def whole(self, t: Tensor) -> Chain:
        """See :meth:`DiffAENet.whole`."""
        return self.net.whole(t, self.code)
