"""The second half of the host's U-Net, block by block, and a block of many transformers one by one.

It mirrors what ``UNetModel._forward`` and ``SpatialTransformer.forward`` do: the float32 copies of the weights of one
transformer are all that is held at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel, forward_timestep_embed
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ....core.discover.quantised import dequantised
from .own_attention import OVERRIDE, Attention, chained

Stage = Callable[[Any, "Attention | None"], Any]
"""A part of the decoder with an attention in place of the host's: `[b c h w]` -> `[b c h w]`, or from or to what goes on
between transformers: tokens `[b n d]`, and `[b c h w]` that is added to them in the end."""
_TAKES_OVER = "forward_timestep_embed_patch"


@dataclass(frozen=True, eq=False)
class Decoder:
    """The decoder for one prompt, with what it needs beside h."""

    net: UNetModel
    skips: list[Tensor]
    residuals: list[Tensor | None]
    emb: Tensor
    context: Tensor | None
    options: dict

    def stages(self, start: int) -> Iterator[Stage]:
        """Blocks from ``start`` on."""
        for n in range(start, len(self.net.output_blocks)):
            yield from self.stages_of(n)

    def stages_of(self, n: int) -> Iterator[Stage]:
        """Block ``n``; one that holds a chain of transformers comes in parts, the first of which takes the skip."""
        layers = list(self._layers(n))
        at = next((i for i, layer in enumerate(layers) if self._comes_in_parts(layer)), None)
        if at is None:
            yield partial(self.run_block, n)
            return
        chain: Any = layers[at]
        yield partial(self._enter, n, layers[:at], chain)
        for i in range(len(chain.transformer_blocks)):
            yield partial(self._run_transformer, n, i, chain)
        yield partial(self._leave, n, layers[at + 1 :], chain)

    def _comes_in_parts(self, layer: nn.Module) -> bool:
        """Whether it is the host's own chain of transformers, which nobody runs in another way."""
        if type(layer) is not SpatialTransformer or len(layer.transformer_blocks) < 2:
            return False
        replaced = "forward" in vars(layer) or layer._forward_hooks or layer._forward_pre_hooks
        takers = self.options.get("patches", {}).get(_TAKES_OVER, ())
        return not (replaced or any(isinstance(layer, kind) for kind, _ in takers))

    def run_block(self, n: int, h: Tensor, attention: Attention | None = None) -> Tensor:
        """Output of block ``n``."""
        options = self._options_in(n, attention)
        h = self._with_skip(n, h, options, attention)
        return self._run_layers(n, self._layers(n), h, options, attention)

    def _enter(self, n: int, layers: list[nn.Module], chain: Any, h: Tensor, attention: Attention | None) -> Any:
        """Tokens for a chain of transformers, and what is added to them in the end."""
        options = self._options_in(n, attention)
        h = self._run_layers(n, layers, self._with_skip(n, h, options, attention), options, attention)
        with differentiable(attention, chain.norm, chain.proj_in):
            tokens = chain.norm(h)
            if not chain.use_linear:
                tokens = chain.proj_in(tokens)
            tokens = tokens.movedim(1, 3).flatten(1, 2).contiguous()
            return (chain.proj_in(tokens) if chain.use_linear else tokens), h

    def _run_transformer(self, n: int, i: int, chain: Any, state: Any, attention: Attention | None) -> Any:
        tokens, h = state
        options = self._options_in(n, attention) | {"activations_shape": list(h.shape), "block_index": i}
        block = chain.transformer_blocks[i]
        with differentiable(attention, block):
            return block(tokens, context=expanded(self.context, tokens), transformer_options=options), h

    def _leave(self, n: int, layers: list[nn.Module], chain: Any, state: Any, attention: Attention | None) -> Tensor:
        tokens, h = state
        options = self._options_in(n, attention)
        options["transformer_index"] += 1
        with differentiable(attention, chain.proj_out):
            if chain.use_linear:
                tokens = chain.proj_out(tokens)
            tokens = tokens.reshape(len(h), *h.shape[2:], tokens.shape[-1]).movedim(3, 1).contiguous()
            h = (tokens if chain.use_linear else chain.proj_out(tokens)) + h
        return self._run_layers(n, layers, h, options, attention)

    def _layers(self, n: int) -> Iterable[nn.Module]:
        blocks: Any = self.net.output_blocks
        return blocks[n]

    def _options_in(self, n: int, attention: Attention | None) -> dict:
        options = with_attention(self.options, attention)
        return options | {"transformer_index": self._transformers_before(n), "block": ("output", n)}

    def _with_skip(self, n: int, h: Tensor, options: dict, attention: Attention | None) -> Tensor:
        with CopiedSlices() if attention else nullcontext():
            return torch.cat(_patched(h, self._skip(n, h), options), dim=1)

    def _run_layers(
        self, n: int, layers: Iterable[nn.Module], h: Tensor, options: dict, attention: Attention | None
    ) -> Tensor:
        with differentiable(attention, *layers):
            emb, context = expanded(self.emb, h), expanded(self.context, h)
            return forward_timestep_embed(layers, h, emb, context, options, self._size_after(n))

    def _skip(self, n: int, h: Tensor) -> Tensor:
        """What the encoder hands to decoder block ``n``, with the residual of a ControlNet."""
        skip = expanded(self.skips[-1 - n], h)
        residual = self.residuals[-1 - n] if n < len(self.residuals) else None
        return skip if residual is None else skip + residual.to(skip.dtype)

    def _size_after(self, n: int) -> torch.Size | None:
        """Shape that decoder block ``n`` is to end with; None for the last."""
        return self.skips[-2 - n].shape if n + 1 < len(self.skips) else None

    def _transformers_before(self, n: int) -> int:
        """How many transformers run before decoder block ``n``; patches of other packs count them."""
        done = [*self.net.input_blocks, self.net.middle_block, *list(self.net.output_blocks)[:n]]
        return sum(isinstance(layer, SpatialTransformer) for block in done for layer in block)


class CopiedSlices(TorchFunctionMode):
    """Slices are copies: a patch that scales a part of h in place (FreeU) would overwrite what its own derivative
    needs.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Copy what was sliced."""
        result = func(*args, **(kwargs or {}))
        return result.clone() if func is Tensor.__getitem__ else result


def differentiable(attention: Attention | None, *parts: nn.Module) -> AbstractContextManager:
    """Parts of a network with weights that derivatives run through, where an attention of ours asks for them."""
    return dequantised(*parts) if attention else nullcontext()


def with_attention(options: dict, attention: Attention | None) -> dict:
    """A copy of ``options`` that names the attention; None leaves the host's."""
    return {**options, OVERRIDE: chained(options.get(OVERRIDE), attention)} if attention else dict(options)


def _patched(h: Tensor, skip: Tensor, options: dict) -> tuple[Tensor, Tensor]:
    """Activations and a skip after other packs' patches of decoder blocks."""
    for patch in options.get("patches", {}).get("output_block_patch", ()):
        h, skip = patch(h.clone(), skip.clone(), options)
    return h, skip


def expanded(value: Any, h: Tensor) -> Any:
    """One sample's value for the batch of h; None stays None."""
    if value is None or value.shape[0] != 1 or h.shape[0] == 1:
        return value
    return value.expand(h.shape[0], *value.shape[1:])
