"""The host's U-Net cut in two at a layer: what a sampler's call brings along is captured once, the decoder half runs on its own.

The encoder runs through the host's own forward, with every patch and wrapper in place, and is stopped when the bottleneck is
reached. The decoder mirrors the second half of ``UNetModel._forward``; ``HostDenoiser`` checks that both together give the whole.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel, forward_timestep_embed
from torch import Tensor
from torch.overrides import TorchFunctionMode

from .model import PixelUNet

OVERRIDE = "optimized_attention_override"
STATE = "x"  # the layer that is the state itself
MIDDLE, SKIPS = "middle_block_after_patch", "input_block_patch"


class Half:
    """The decoder half for one prompt of one call.

    Attributes:
        h: activations at the layer, `[b c h w]`.
        kind: 0 for the positive prompt, 1 for the negative.
        shape: height and width of the state that it was asked for.
    """

    def __init__(self, h: Tensor, run: Callable[[Tensor, bool], Tensor], kind: int, shape: torch.Size):
        self.h, self.run, self.kind, self.shape = h, run, kind, shape

    def __call__(self, h: Tensor, smooth: bool = False) -> Tensor:
        """Network output for another h; ``smooth`` uses kernels that have derivatives of every kind."""
        return self.run(h, smooth)


def layers_of(net: Any) -> tuple[str, ...] | None:
    """Names of the layers where the network can be cut, or None if it has no bottleneck."""
    if isinstance(net, PixelUNet):
        return net.layers
    if isinstance(net, UNetModel) and net.middle_block is not None:
        return ("middle", *(f"up.{i}" for i in range(len(net.output_blocks) - 1)))
    return None


def cut(layer: str, found: list[Half]):
    """A wrapper for ``WrappersMP.DIFFUSION_MODEL`` that adds one :class:`Half` per prompt to ``found`` and skips the decoder."""

    def wrapper(executor, x, timesteps, context=None, y=None, control=None, transformer_options=None, **kwargs):
        net, options = executor.class_obj, transformer_options or {}
        chunks = len(options.get("cond_or_uncond", (0,)))
        rows = x.shape[0] // chunks
        halves: list[tuple[Tensor, Callable[[Tensor, bool], Tensor]]]
        if layer == STATE:
            halves = [_whole(net, x, timesteps, context, y, control, options, kwargs, i, rows) for i in range(chunks)]
        elif isinstance(net, PixelUNet):
            halves = [_pixel(net, x, timesteps, context, layer, options, i, rows) for i in range(chunks)]
        else:
            state = _Encoded(net, executor, x, timesteps, context, y, control, options, kwargs)
            halves = [state.half(layer, i, rows) for i in range(chunks)]
        for i, (h, run) in enumerate(halves):
            found.append(Half(h, run, options.get("cond_or_uncond", [0] * chunks)[i], x.shape[2:]))
        return x.new_zeros(x.shape[0], getattr(net, "out_channels", x.shape[1]), *x.shape[2:])

    return wrapper


def _alone(options: dict, i: int, rows: int, x: Tensor) -> dict:
    """Options of the call as the ``i``-th prompt of the batch would see them by itself."""
    kinds, ids = options.get("cond_or_uncond", [0] * (i + 1)), options.get("uuids", [None] * (i + 1))
    return {**options, "cond_or_uncond": [kinds[i]], "uuids": ids[i : i + 1], "original_shape": [rows, *x.shape[1:]]}


def _pixel(net: PixelUNet, x: Tensor, timesteps: Tensor, context: Tensor | None, layer: str, options: dict, i: int, rows: int):
    own = slice(i * rows, (i + 1) * rows)
    h, decode = net.split(x[own], timesteps[own], layer, _alone(options, i, rows, x), None if context is None else context[own])
    return h, lambda h, smooth: decode(h)


def _whole(net, x, timesteps, context, y, control, options: dict, kwargs: dict, i: int, rows: int):
    """The whole network as a function of its scaled input."""
    own = slice(i * rows, (i + 1) * rows)
    seen = _alone(options, i, rows, x)
    times, part = timesteps[own], [None if v is None else v[own] for v in (context, y)]
    residuals = {k: [c[own] if c is not None and c.shape[0] == len(x) else c for c in v] for k, v in (control or {}).items()}

    def run(x: Tensor, smooth: bool) -> Tensor:
        here = [None if v is None else _like(v, x) for v in part]
        if isinstance(net, PixelUNet):
            h, decode = net.split(x, _like(times, x), "middle", seen, here[0])
            return decode(h)
        options = {**seen, OVERRIDE: chained(seen.get(OVERRIDE))} if smooth else dict(seen)
        copied = {k: list(v) for k, v in residuals.items()} if control is not None else None
        return net._forward(x, _like(times, x), *here, copied, options, **kwargs)

    return x[own], run


class _Slices(TorchFunctionMode):
    """Slices are copies: a patch that scales a part of h in place (FreeU) would overwrite what its own derivative needs."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Copy what was sliced."""
        result = func(*args, **(kwargs or {}))
        return result.clone() if func is Tensor.__getitem__ else result


class _Reached(Exception):
    """Stops the host's forward where the decoder would begin."""


class _Encoded:
    """What the encoder half leaves behind."""

    def __init__(self, net: UNetModel, executor, x: Tensor, timesteps: Tensor, context, y, control, options: dict, kwargs: dict):
        self.net, self.x, self.options = net, x, options
        self.skips: list[Tensor] = []
        self.h = self.emb = x
        self.context: Tensor | None = None
        # The host pops from the lists of a ControlNet while it runs.
        self.control = {k: list(v) for k, v in (control or {}).items()}

        def skip(h: Tensor, _: dict) -> Tensor:
            self.skips.append(h.clone())  # other packs edit in place
            return h

        def middle(args: dict) -> dict:
            self.h, self.emb, self.context = args["h"].clone(), args["emb"], args["context"]
            raise _Reached

        patches = {name: list(those) for name, those in options.get("patches", {}).items()}
        patches[SKIPS] = [*patches.get(SKIPS, ()), skip]
        patches[MIDDLE] = [*patches.get(MIDDLE, ()), middle]
        copied = {name: list(those) for name, those in self.control.items()} if control is not None else None
        try:
            executor(x, timesteps, context, y, copied, {**options, "patches": patches}, **kwargs)
        except _Reached:
            return
        raise RuntimeError("the host's U-Net did not pass its middle block; another node replaces its forward: bypass that node")

    def half(self, layer: str, i: int, rows: int) -> tuple[Tensor, Callable[[Tensor, bool], Tensor]]:
        """H at ``layer`` and the decoder below it, for the ``i``-th prompt of the batch."""
        own = slice(i * rows, (i + 1) * rows)
        chunks = self.x.shape[0] // rows
        skips = [s[own] for s in self.skips]
        # Residuals of a ControlNet come once for all rows, or once a row.
        extra = [None if c is None else (c[own] if c.shape[0] == rows * chunks else c) for c in self.control.get("output", ())]
        emb, context = self.emb[own], None if self.context is None else self.context[own]
        options = _alone(self.options, i, rows, self.x)
        start = 0 if layer == "middle" else int(layer[3:]) + 1

        def blocks(h: Tensor, first: int, last: int, smooth: bool) -> Tensor:
            seen = dict(options)
            if smooth:
                seen[OVERRIDE] = chained(options.get(OVERRIDE))
            seen["transformer_index"] = self._transformers_before(first)
            left = len(skips)
            for n in range(first, last):
                seen["block"] = ("output", n)
                skip = _like(skips[left - 1 - n], h)
                residual = extra[len(extra) - 1 - n] if n < len(extra) else None
                if residual is not None:
                    skip = skip + residual.to(skip.dtype)
                with _Slices() if smooth else nullcontext():
                    for patch in seen.get("patches", {}).get("output_block_patch", ()):
                        h, skip = patch(h.clone(), skip.clone(), seen)
                shape = skips[left - 2 - n].shape if left - 2 - n >= 0 else None
                h = torch.cat([h, skip], dim=1)
                rest = _like(emb, h), None if context is None else _like(context, h)
                h = forward_timestep_embed(self.net.output_blocks[n], h, *rest, seen, shape)
            return h

        h = self.h[own]
        if start:
            h = blocks(h, 0, start, False)

        def run(h: Tensor, smooth: bool) -> Tensor:
            return self.net.out(blocks(h, start, len(self.net.output_blocks), smooth).type(self.x.dtype if not smooth else h.dtype))

        return h, run

    def _transformers_before(self, first: int) -> int:
        done = [*self.net.input_blocks, self.net.middle_block, *list(self.net.output_blocks)[:first]]
        return sum(isinstance(layer, SpatialTransformer) for block in done for layer in block)


def _like(value: Tensor, h: Tensor) -> Tensor:
    """One sample's value for the batch of h."""
    return value.expand(h.shape[0], *value.shape[1:]) if value.shape[0] == 1 and h.shape[0] != 1 else value


def plain_attention(
    _: Callable, q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None = None, attn_precision=None,
    skip_reshape: bool = False, skip_output_reshape: bool = False, **kwargs,
) -> Tensor:  # fmt: skip
    """Softmax attention written out: forward mode, reverse mode and vmap all pass through it, unlike fused kernels.

    Args:
        q, k, v: `[b n heads*d]`, or `[b heads n d]` with ``skip_reshape``.
        heads: number of heads.
        mask: additive, or boolean with True for what may be seen.
        skip_output_reshape: give `[b heads n d]` back.
    """
    if not skip_reshape:
        d = q.shape[-1] // heads
        q, k, v = (t.reshape(t.shape[0], -1, heads, d).transpose(1, 2) for t in (q, k, v))
    if kwargs.get("enable_gqa") and k.shape[-3] != q.shape[-3]:
        k, v = (t.repeat_interleave(q.shape[-3] // k.shape[-3], -3) for t in (k, v))
    # In float32, as fused kernels accumulate: half-precision scores overflow on some models.
    scores = (q.float() * kwargs.get("scale", q.shape[-1] ** -0.5)) @ k.float().transpose(-1, -2)
    if mask is not None:
        mask = mask[(None,) * (4 - mask.dim())] if mask.dim() == 2 else mask[:, None] if mask.dim() == 3 else mask
        scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
    out = scores.softmax(-1).to(v.dtype) @ v
    return out if skip_output_reshape else out.transpose(1, 2).flatten(2)


def chained(foreign: Callable | None) -> Callable:
    """Another node's attention override stays in place, around ours."""
    if foreign is None:
        return plain_attention
    return lambda function, *args, **kwargs: foreign(lambda *a, **k: plain_attention(function, *a, **k), *args, **kwargs)
