"""Where the blocks of the host's diffusion transformers are, and which of their tokens are the picture: the table.

A class stands under its exact name: a subclass changes its forward more often than not, and needs a row of its own.
``tests/host/test_block_cut.py`` holds every row against the network that it is for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, isqrt
from typing import Any

import torch
from torch import Tensor, nn

FIRST, SLICE, LAST, FRAMES = "first", "slice", "last", "frames"
_LAYER = re.compile(r"block\.(\d+)")
_SHALLOW = 3  # a third of the depth; which block is best on a trained transformer is not known


@dataclass(frozen=True)
class Blocks:
    """One list of blocks.

    Attributes:
        name: of the ``ModuleList``.
        part: which element of a block's output holds the picture; None where the output is one tensor.
        place: where the n tokens of the picture are in it. ``first``: the first n. ``slice``: from where the host's
            ``img_slice`` begins. ``last``: the last n, padded as the network pads, and of these the first n.
            ``frames``: the output is `[b t h w c]` already.
    """

    name: str
    part: int | None
    place: str


@dataclass(frozen=True)
class Row:
    """A class of networks.

    Attributes:
        lists: of blocks, in the order in which they run.
        patch: name of the attribute with the width of a token in numbers of the state; 1 where each is a token.
        refused: arguments of the network's call that put other tokens where the picture's are looked for.
    """

    lists: tuple[Blocks, ...]
    patch: str | int = "patch_size"
    refused: tuple[str, ...] = ()


_FLUX = Row((Blocks("double_blocks", 0, FIRST), Blocks("single_blocks", None, SLICE)))
_COSMOS = Row((Blocks("blocks", None, FRAMES),), "patch_spatial")
TABLE: dict[str, Row] = {
    "Flux": _FLUX,
    "Chroma": _FLUX,
    "NextDiT": Row((Blocks("layers", None, LAST),)),
    "OpenAISignatureMMDITWrapper": Row((Blocks("joint_blocks", 1, FIRST),)),
    "QwenImageTransformer2DModel": Row((Blocks("transformer_blocks", 1, FIRST),)),
    "WanModel": Row((Blocks("blocks", None, FIRST),), refused=("reference_latent",)),
    "MiniTrainDIT": _COSMOS,
    "Anima": _COSMOS,
    "ErnieImageModel": Row((Blocks("layers", None, FIRST),)),
    "HiDreamImageTransformer2DModel": Row(
        (Blocks("double_stream_blocks", 0, FIRST), Blocks("single_stream_blocks", None, FIRST)),
        refused=("image_cond",),
    ),
    "SingleStreamDiT": Row((Blocks("blocks", None, SLICE),), "patch"),
    "Ideogram4Transformer2DModel": Row((Blocks("layers", None, LAST),), 1),
}


@dataclass(frozen=True, eq=False)
class Block:
    """One block of a network.

    Attributes:
        module: the block.
        kind: the list that it is in.
    """

    module: nn.Module
    kind: Blocks


def row_of(net: Any) -> Row | None:
    """The row of a network; None if its class has none."""
    return TABLE.get(type(net).__name__) if isinstance(net, nn.Module) else None


def blocks_of(net: Any) -> list[Block]:
    """Blocks in the order in which they run: ``block.k`` is the k-th; none of a class without a row."""
    row = row_of(net)
    return [Block(module, kind) for kind in (row.lists if row else ()) for module in getattr(net, kind.name)]


def beside_blocks(net: Any) -> list[nn.Module]:
    """What else a transformer is made of: embedders, refiners, the projection at the end."""
    row = row_of(net)
    lists = [getattr(net, kind.name) for kind in (row.lists if row else ())]
    return [child for child in net.children() if all(child is not one for one in lists)]


def block_layers(net: Any) -> tuple[str, ...]:
    """Names of the layers where a transformer can be cut; behind the last block only the projection follows."""
    return tuple(f"block.{k}" for k in range(len(blocks_of(net)) - 1))


def together(blocks: int) -> int:
    """How many of so many blocks are differentiated at a time: few hold little, many run what is beside them seldom."""
    return max(1, isqrt(blocks))


def block_number(layer: str) -> int | None:
    """The k of ``block.k``; None for another layer."""
    found = _LAYER.fullmatch(layer)
    return int(found[1]) if found else None


def usual_layer(layers: Sequence[str], layer: str) -> str:
    """The layer that is meant by a choice: ``middle`` is the block at a third of a transformer's depth."""
    if layer != "middle" or not layers or block_number(layers[0]) is None:
        return layer
    return layers[len(layers) // _SHALLOW]


@dataclass(frozen=True)
class Grid:
    """The picture's tokens as rows and columns."""

    rows: int
    columns: int

    @staticmethod
    def of(net: Any, x: Tensor) -> Grid:
        """That of a state `[b c h w]` or `[b c 1 h w]`; a network pads what does not fill a token."""
        row = TABLE[type(net).__name__]
        width: Any = row.patch if isinstance(row.patch, int) else getattr(net, row.patch)
        width = width[-1] if isinstance(width, (tuple, list)) else width
        return Grid(ceil(x.shape[-2] / width), ceil(x.shape[-1] / width))

    def span(self, net: Any, kind: Blocks, tokens: Tensor, options: Mapping[str, Any]) -> slice:
        """Which of a block's tokens `[b n c]` are the picture."""
        count = self.rows * self.columns
        start = 0
        if kind.place == SLICE:
            start = int(options["img_slice"][0])
        elif kind.place == LAST:
            unit = getattr(net, "pad_tokens_multiple", None) or 1
            start = tokens.shape[1] - ceil(count / unit) * unit
        return slice(start, start + count)

    def taken(self, tokens: Tensor, span: slice) -> Tensor:
        """The picture out of a block's tokens `[b n c]`, or `[b 1 h w c]`, as `[b c h w]`."""
        if tokens.dim() == 5:
            return tokens[:, 0].movedim(-1, 1).contiguous()
        return tokens[:, span].transpose(1, 2).unflatten(2, (self.rows, self.columns)).contiguous()

    def put(self, tokens: Tensor, span: slice, h: Tensor) -> Tensor:
        """A copy of a block's tokens for as many rows as ``h`` `[b c h w]` has, with ``h`` in the picture's place."""
        if tokens.dim() == 5:
            return h.movedim(1, -1)[:, None].contiguous()
        around = tokens.expand(len(h), *tokens.shape[1:])
        picture = h.flatten(2).transpose(1, 2).to(tokens.dtype)
        return torch.cat([around[:, : span.start], picture, around[:, span.stop :]], 1)


def picture_in(kind: Blocks, output: Any) -> Tensor:
    """The element of a block's output that holds the picture."""
    return output if kind.part is None else output[kind.part]


def with_picture(kind: Blocks, output: Any, tokens: Tensor) -> Any:
    """A block's output with another such element."""
    if kind.part is None:
        return tokens
    return tuple(tokens if i == kind.part else one for i, one in enumerate(output))
