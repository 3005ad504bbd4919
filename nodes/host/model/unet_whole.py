"""The host's whole U-Net as stages from its input on, for derivatives with respect to the state.

It mirrors ``UNetModel._forward``: between the stages go h and the skips that the decoder still wants.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel, forward_timestep_embed, timestep_embedding
from torch import Tensor

from .own_attention import Attention
from .unet_decoder import CopiedSlices, Decoder, Stage, differentiable, expanded, with_attention

_SEES_INPUT = "middle_block_after_patch"  # its patches are given the network's input as well
_State = tuple[Tensor, ...]
"""H, and skips, the last of which is wanted next."""


def comes_in_stages(net: Any, options: dict, kwargs: dict) -> bool:
    """Whether the network is the host's own, run by nobody in another way, and nothing but h and skips passes on."""
    if type(net) is not UNetModel or net.predict_codebook_ids or any(value is not None for value in kwargs.values()):
        return False
    return not ({"forward", "_forward"} & set(vars(net)) or options.get("patches", {}).get(_SEES_INPUT))


@dataclass(frozen=True, eq=False)
class WholeUNet:
    """The U-Net for one prompt.

    Attributes:
        decoder: its second half, whose skips are not known yet.
        control: residuals of a ControlNet, for the encoder and the middle block, last first.
    """

    decoder: Decoder
    control: dict[str, list[Tensor | None]]

    def stages(self) -> list[Stage]:
        """All of it, but for what follows the last block."""
        net = self.decoder.net
        encoder = [partial(self._encode, n) for n in range(len(net.input_blocks))]
        return [*encoder, self._run_middle, *self._decoder_stages(), lambda state, _: state[0]]

    def _encode(self, n: int, state: Any, attention: Attention | None) -> _State:
        h, skips = (state[0], state[1:]) if n else (state, ())
        h = self._run(self.decoder.net.input_blocks[n], ("input", n), h, attention)
        h = self._controlled(h, "input", n)
        skip = self._patched(h, "input_block_patch", n, attention)
        return self._patched(skip, "input_block_patch_after_skip", n, attention), *skips, skip

    def _run_middle(self, state: _State, attention: Attention | None) -> _State:
        net: Any = self.decoder.net
        h = self._run(net.middle_block, ("middle", 0), state[0], attention)
        return self._controlled(h, "middle", 0), *state[1:]

    def _decoder_stages(self) -> Iterator[Stage]:
        for n in range(len(self.decoder.net.output_blocks)):
            for i, _ in enumerate(self.decoder.stages_of(n)):
                yield partial(self._decode, n, i)

    def _decode(self, n: int, i: int, state: Any, attention: Attention | None) -> Any:
        """Part ``i`` of block ``n``, whose skip goes no further than its first part."""
        h, *skips = state
        gone = [h] * (len(self.decoder.net.output_blocks) - len(skips))  # counted, never read
        part = list(replace(self.decoder, skips=[*skips, *gone]).stages_of(n))[i]
        return part(h, attention), *(skips if i else skips[:-1])

    def _run(self, layers: Any, place: tuple[str, int], h: Tensor, attention: Attention | None) -> Tensor:
        decoder = self.decoder
        options = self._options(place, attention)
        with differentiable(attention, *layers):
            emb, context = expanded(decoder.emb, h), expanded(decoder.context, h)
            return forward_timestep_embed(layers, h, emb, context, options)

    def _options(self, place: tuple[str, int], attention: Attention | None) -> dict:
        net: Any = self.decoder.net
        before = list(net.input_blocks)[: place[1] if place[0] == "input" else None]
        options = with_attention(self.decoder.options, attention)
        return options | {"transformer_index": sum(map(_transformers, before)), "block": place}

    def _controlled(self, h: Tensor, name: str, n: int) -> Tensor:
        residuals = self.control.get(name, [])
        residual = residuals[-1 - n] if n < len(residuals) else None
        return h if residual is None else h + residual.to(h.dtype)

    def _patched(self, h: Tensor, name: str, n: int, attention: Attention | None) -> Tensor:
        """H after other packs' patches of encoder block ``n``."""
        options = self._options(("input", n), attention)
        options["transformer_index"] += _transformers(self.decoder.net.input_blocks[n])
        for patch in options.get("patches", {}).get(name, ()):
            with CopiedSlices() if attention else nullcontext():
                h = patch(h.clone(), options)
        return h


def _transformers(block: Any) -> int:
    return sum(isinstance(layer, SpatialTransformer) for layer in block)


def embedded_level(net: Any, x: Tensor, timesteps: Tensor, y: Tensor | None, options: dict) -> Tensor:
    """What the network makes of the noise level and of the size of the picture, `[b d]`."""
    emb = net.time_embed(timestep_embedding(timesteps, net.model_channels, repeat_only=False).to(x.dtype))
    for patch in options.get("patches", {}).get("emb_patch", ()):
        emb = patch(emb, net.model_channels, options)
    return emb if net.num_classes is None else emb + net.label_emb(y)
