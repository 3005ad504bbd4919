"""The host's U-Net cut in two at a layer: what a sampler's call brings along is captured once, the decoder half runs on
its own.

The encoder runs through the host's own forward, with every patch and wrapper in place, and is stopped when the
bottleneck is reached. The decoder mirrors the second half of ``UNetModel._forward``; :mod:`.bottleneck` checks that both
together give the whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import Tensor

from .blocks import block_layers
from .half import Half
from .own_attention import Attention
from .pixel_model import PixelUNet
from .unet_decoder import Decoder, Stage, differentiable, expanded, with_attention
from .unet_whole import WholeUNet, comes_in_stages, embedded_level

STATE = "x"
"""The layer that is the state itself."""
MIDDLE = "middle_block_after_patch"
SKIPS = "input_block_patch"


def layers_of(net: Any) -> tuple[str, ...] | None:
    """Names of the layers where the network can be cut, or None if it is neither a U-Net nor a known transformer."""
    if isinstance(net, PixelUNet):
        return net.layers
    if isinstance(net, UNetModel) and net.middle_block is not None:
        return ("middle", *(f"up.{i}" for i in range(len(net.output_blocks) - 1)))
    return block_layers(net) or None


def first_block(layer: str) -> int:
    """Number of the decoder block that follows a layer."""
    return 0 if layer == "middle" else int(layer.removeprefix("up.")) + 1


def cut(layer: str, halves: list[Half]):
    """A wrapper for ``WrappersMP.DIFFUSION_MODEL`` that adds one :class:`Half` per prompt to ``halves`` and skips the
    decoder.
    """

    def wrapper(executor, x, timesteps, context=None, y=None, control=None, transformer_options=None, **kwargs):
        net = executor.class_obj
        call = _NetworkCall(net, x, timesteps, context, y, control, transformer_options or {}, kwargs)
        if layer == STATE:
            parts = [_whole_network(call, i) for i in range(call.prompts)]
        elif isinstance(net, PixelUNet):
            parts = [_split_pixel_network(call, layer, i) for i in range(call.prompts)]
        else:
            encoded = _run_encoder(call, executor)
            parts = [_split_unet(encoded, layer, i) for i in range(call.prompts)]
        for i, (h, stages) in enumerate(parts):
            halves.append(Half(h, tuple(stages), call.kind(i), x.shape[2:]))
        return x.new_zeros(x.shape[0], getattr(net, "out_channels", x.shape[1]), *x.shape[2:])

    return wrapper


@dataclass(frozen=True, eq=False)
class _NetworkCall:
    """What a sampler's call of the network brings along: the rows of several prompts in one batch."""

    net: Any
    x: Tensor
    timesteps: Tensor
    context: Tensor | None
    y: Tensor | None
    control: dict | None
    options: dict
    kwargs: dict

    @property
    def prompts(self) -> int:
        """How many prompts there are."""
        return len(self.options.get("cond_or_uncond", (0,)))

    def kind(self, i: int) -> int:
        """0 if the ``i``-th prompt is the positive one, 1 if it is the negative one."""
        return self.options.get("cond_or_uncond", [0] * self.prompts)[i]

    def rows(self, i: int) -> slice:
        """Rows of the ``i``-th prompt."""
        count = self.x.shape[0] // self.prompts
        return slice(i * count, (i + 1) * count)

    def part(self, value: Tensor | None, i: int) -> Tensor | None:
        """What belongs to the ``i``-th prompt; None stays None."""
        return None if value is None else value[self.rows(i)]

    def options_of(self, i: int) -> dict:
        """Options as the ``i``-th prompt would see them by itself."""
        ids = self.options.get("uuids", [None] * self.prompts)
        count = self.x.shape[0] // self.prompts
        return {
            **self.options,
            "cond_or_uncond": [self.kind(i)],
            "uuids": ids[i : i + 1],
            "original_shape": [count, *self.x.shape[1:]],
        }

    def residuals_of(self, i: int) -> dict[str, list[Tensor | None]]:
        """Residuals of a ControlNet; they come once for all rows, or once a row."""
        rows = self.rows(i)
        return {
            name: [part[rows] if part is not None and part.shape[0] == len(self.x) else part for part in parts]
            for name, parts in (self.control or {}).items()
        }


def _split_pixel_network(call: _NetworkCall, layer: str, i: int) -> tuple[Tensor, list[Stage]]:
    rows = call.rows(i)
    context = call.part(call.context, i)
    h, decode = call.net.split(call.x[rows], call.timesteps[rows], layer, call.options_of(i), context)
    return h, [lambda h, _, stage=stage: stage(h) for stage in decode.stages]


def _whole_network(call: _NetworkCall, i: int) -> tuple[Tensor, list[Stage]]:
    """The whole network from its scaled input on; of one stage where others run it in ways of their own."""
    x, options = call.x[call.rows(i)], call.options_of(i)
    if isinstance(call.net, PixelUNet):
        chain = call.net.whole(call.timesteps[call.rows(i)], options, call.part(call.context, i))
        return x, [lambda h, _, stage=stage: stage(h) for stage in chain.stages]
    if comes_in_stages(call.net, options, call.kwargs):
        return x, _stages_of_whole(call, i)
    return x, [_as_one_stage(call, i)]


def _stages_of_whole(call: _NetworkCall, i: int) -> list[Stage]:
    options, residuals = call.options_of(i), call.residuals_of(i)
    emb = embedded_level(call.net, call.x[call.rows(i)], call.timesteps[call.rows(i)], call.part(call.y, i), options)
    decoder = Decoder(call.net, [], residuals.get("output", []), emb, call.part(call.context, i), options)
    return [*WholeUNet(decoder, residuals).stages(), _finish(call)]


def _as_one_stage(call: _NetworkCall, i: int) -> Stage:
    net, options, residuals = call.net, call.options_of(i), call.residuals_of(i)
    times, context, y = (call.part(value, i) for value in (call.timesteps, call.context, call.y))

    def run(x: Tensor, attention: Attention | None) -> Tensor:
        # The host pops from the lists of a ControlNet while it runs.
        control = None if call.control is None else {name: list(parts) for name, parts in residuals.items()}
        given = (expanded(value, x) for value in (times, context, y))
        with differentiable(attention, net):
            return net._forward(x, *given, control, with_attention(options, attention), **call.kwargs)

    return run


def _finish(call: _NetworkCall) -> Stage:
    """What follows the last block."""

    def run(h: Tensor, attention: Attention | None) -> Tensor:
        with differentiable(attention, call.net.out):
            return call.net.out(h if attention else h.type(call.x.dtype))

    return run


class _ReachedMiddle(Exception):
    """Stops the host's forward where the decoder would begin."""


@dataclass(frozen=True, eq=False)
class _Encoded:
    """What the encoder half of a call leaves behind.

    Attributes:
        h: output of the middle block, `[b c h w]`.
        emb: embedded noise level, `[b d]`.
        context: of the prompts, as the blocks see it.
        skips: of every encoder block.
    """

    call: _NetworkCall
    h: Tensor
    emb: Tensor
    context: Tensor | None
    skips: list[Tensor]


def _run_encoder(call: _NetworkCall, executor) -> _Encoded:
    skips: list[Tensor] = []
    middle: dict[str, Any] = {}
    # The host pops from the lists of a ControlNet while it runs.
    control = None if call.control is None else {name: list(parts) for name, parts in call.control.items()}

    def keep_skip(h: Tensor, _: dict) -> Tensor:
        skips.append(h.clone())  # other packs edit in place
        return h

    def stop(args: dict) -> dict:
        middle.update(h=args["h"].clone(), emb=args["emb"], context=args["context"])
        raise _ReachedMiddle

    patches = {name: list(those) for name, those in call.options.get("patches", {}).items()}
    patches[SKIPS] = [*patches.get(SKIPS, ()), keep_skip]
    patches[MIDDLE] = [*patches.get(MIDDLE, ()), stop]
    options = {**call.options, "patches": patches}
    try:
        executor(call.x, call.timesteps, call.context, call.y, control, options, **call.kwargs)
    except _ReachedMiddle:
        return _Encoded(call, skips=skips, **middle)
    raise RuntimeError(
        "the host's U-Net did not pass its middle block; another node replaces its forward: bypass that node"
    )


def _split_unet(encoded: _Encoded, layer: str, i: int) -> tuple[Tensor, list[Stage]]:
    """H at ``layer`` and the decoder below it, for the ``i``-th prompt of the batch."""
    call = encoded.call
    rows = call.rows(i)
    decoder = Decoder(
        net=call.net,
        skips=[skip[rows] for skip in encoded.skips],
        residuals=call.residuals_of(i).get("output", []),
        emb=encoded.emb[rows],
        context=call.part(encoded.context, i),
        options=call.options_of(i),
    )
    start = first_block(layer)
    h = encoded.h[rows]
    for n in range(start):
        h = decoder.run_block(n, h)
    return h, [*decoder.stages(start), _finish(call)]
