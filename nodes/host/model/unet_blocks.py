"""Where the blocks and the attentions of the host's U-Net sit, and how coarse their maps are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import Downsample, ResBlock, UNetModel, Upsample
from torch import nn


@dataclass(frozen=True)
class Place:
    """Where an attention sits: block as the host names it, number of its transformer there, and how often the picture
    was halved.
    """

    block: tuple[str, int]
    index: int
    level: int

    @property
    def key(self) -> tuple[str, int, int]:
        """Under which the host keeps a replacement of this attention alone; under ``block`` one of the whole block."""
        return (*self.block, self.index)


def blocks(net: UNetModel) -> Iterator[tuple[tuple[str, int], int, Any]]:
    """Every block in the order of the network, with its name and its level."""
    level = 0
    inputs = cast(Any, net.input_blocks)
    outputs = cast(Any, net.output_blocks)
    for i, block in enumerate(inputs):
        level += _resizes(block, Downsample)
        yield ("input", i), level, block
    if net.middle_block is not None:
        yield ("middle", 0), level, net.middle_block
    for i, block in enumerate(outputs):
        yield ("output", i), level, block
        level -= _resizes(block, Upsample)


def _resizes(block: Any, kind: type) -> bool:
    """Whether a layer of a block is a ``kind`` (Downsample or Upsample), by itself or inside of a residual block."""
    return any(isinstance(m, kind) or (isinstance(m, ResBlock) and isinstance(m.h_upd, kind)) for m in block)


def attentions(net: UNetModel) -> list[Place]:
    """Every transformer block."""
    return [
        Place(name, i, level)
        for name, level, block in blocks(net)
        for layer in block
        if isinstance(layer, SpatialTransformer)
        for i in range(len(layer.transformer_blocks))
    ]


def stem_stride(net: UNetModel) -> int:
    """Pixels of the state that the first layer gathers into one."""
    return math.prod(m.downscale_factor for m in cast(Any, net.input_blocks[0]) if isinstance(m, nn.PixelUnshuffle))
