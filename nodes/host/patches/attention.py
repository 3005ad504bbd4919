"""The one engine of attention edits: whatever several edits want of a U-Net's attention is put in place for one call of it and gone after.

An edit is an object in a MODEL's options. One wrapper around the network asks every edit what it does in this call and installs the
host's own patches for it, around those of other packs: an attn2 owner such as IP-Adapter is wrapped whichever came first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from comfy.ldm.modules.attention import SpatialTransformer, optimized_attention
from comfy.ldm.modules.diffusionmodules.openaimodel import Downsample, ResBlock, UNetModel, Upsample, VideoResBlock
from comfy.patcher_extension import WrappersMP
from torch import Tensor, nn

from ...core.edit.local_blend import map_level
from .model import unet_of
from .steering import RAW

KEY = "hspace_attention"
STORE = "hspace_store"  # set in the pass that only looks at a source picture


@dataclass(frozen=True)
class Place:
    """Where an attention sits: block as the host names it, number of its transformer there, and how often the picture was halved."""

    block: tuple[str, int]
    index: int
    level: int


@dataclass(frozen=True)
class Call:
    """One call of the U-Net: ``rows`` pictures for each prompt in it; step 0 of ``steps`` is the noisiest."""

    net: UNetModel
    options: dict[str, Any]
    x: Tensor
    rows: int
    step: int
    steps: int

    def chunks(self, kind: int | None = None) -> list[int]:
        """First rows of the prompts of a kind (0 positive, 1 negative), or of all."""
        kinds = self.options.get("cond_or_uncond", [0])
        return [i * self.rows for i, k in enumerate(kinds) if kind is None or k == kind]

    def check_whole(self, size: tuple[int, ...], what: str) -> None:
        """Refuse prompts that hold for an area.

        Raises:
            ValueError: the picture in this call is not of ``size``, height and width of the state.
        """
        if self.x.shape[2:] != size:
            raise ValueError(
                f"{what} looks at the whole picture {list(size)}, but a prompt holds for an area of {list(self.x.shape[2:])}; use Conditioning "
                "(Set Mask) in place of Set Area, or no area"
            )

    def size(self, level: int) -> tuple[int, int]:
        """Height and width of the maps at a level."""
        height, width = self.x.shape[-2:]
        unit = stem_stride(self.net) * 2**level
        return math.ceil(height / unit), math.ceil(width / unit)

    def map_level(self) -> int:
        """The level whose maps say where a word looks."""
        return map_level({place.level: math.prod(self.size(place.level)) for place in attentions(self.net)})


Swap = Callable[[Tensor, Tensor, Tensor, Place], tuple[Tensor, Tensor, Tensor]]
Cross = Callable[[Tensor, Tensor, Tensor, Tensor, Place, dict], Tensor]
Hidden = Callable[[ResBlock, Tensor, Tensor, tuple[str, int]], "Tensor | None"]


@dataclass(frozen=True)
class Patches:
    """What one edit does in one call.

    Attributes:
        swap: inputs of the query, key and value of a self-attention, each `[b n c]`; returns others, leaves these alone.
        cross: result, query, key and value of a cross-attention `[b n c]`, and the host's options; returns another result.
        hidden: output of a residual block whose input is `[b c h w]`, or None to let it run.
    """

    swap: Swap | None = None
    cross: Cross | None = None
    hidden: Hidden | None = None


class AttentionEdit(Protocol):
    """Anything that edits attention."""

    def patches(self, call: Call) -> Patches | None:
        """What to do in this call; None: nothing, bit for bit."""
        ...


def edits_in(options: dict[str, Any]) -> Sequence[AttentionEdit]:
    """The edits among transformer options, none where a node asked for the plain model."""
    return () if options.get(RAW) else options.get(KEY, ())


def add_attention(model, edit: AttentionEdit, wrappers: dict[str, Callable] | None = None):
    """A clone of MODEL that also carries ``edit``; ``wrappers`` of other kinds are installed once, however many edits share them."""
    check_unet(model)
    clone = model.clone()
    options = clone.model_options["transformer_options"]
    options[KEY] = [*options.get(KEY, ()), edit]
    for kind, wrapper in {WrappersMP.DIFFUSION_MODEL: _network, **(wrappers or {})}.items():
        if wrapper not in clone.get_wrappers(kind, KEY):
            clone.add_wrapper_with_key(kind, KEY, wrapper)
    return clone


def check_unet(model) -> UNetModel:
    """The network of a MODEL with attention to prompts.

    Raises:
        ValueError: it is something else.
    """
    net = unet_of(model)
    if not isinstance(net, UNetModel) or not attentions(net):
        raise ValueError(
            f"this node edits the attention of a U-Net, but the MODEL connected is a {type(net).__name__}, which has none of that kind; "
            "connect a Stable Diffusion 1.x, 2.x or SDXL checkpoint, or the MODEL of Load Face Text Model"
        )
    return net


def blocks(net: UNetModel) -> Iterator[tuple[tuple[str, int], int, Any]]:
    """Every block in the order of the network, with its name and its level."""
    level, inputs, outputs = 0, cast(Any, net.input_blocks), cast(Any, net.output_blocks)
    for i, block in enumerate(inputs):
        level += any(isinstance(m, Downsample) or (isinstance(m, ResBlock) and isinstance(m.h_upd, Downsample)) for m in block)
        yield ("input", i), level, block
    if net.middle_block is not None:
        yield ("middle", 0), level, net.middle_block
    for i, block in enumerate(outputs):
        yield ("output", i), level, block
        level -= any(isinstance(m, Upsample) or (isinstance(m, ResBlock) and isinstance(m.h_upd, Upsample)) for m in block)


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


def attend(q: Tensor, k: Tensor, v: Tensor, options: dict) -> Tensor:
    """The host's attention, with whatever kernel it is set to."""
    return optimized_attention(q, k, v, options["n_heads"], attn_precision=options.get("attn_precision"), transformer_options=options)


def step_at(options: dict[str, Any], sigma: Tensor) -> tuple[int, int]:
    """Which of the sampler's steps a noise level is nearest to, and how many there are."""
    grid = options.get("sample_sigmas")
    if grid is None or len(grid) < 2:
        return 0, 1
    levels = grid[:-1].float().clamp_min(1e-8).log()
    return int((levels - sigma.max().clamp_min(1e-8).to(levels).log()).abs().argmin()), len(levels)


def _network(executor, x, timesteps, context=None, y=None, control=None, transformer_options=None, **kwargs):
    options = transformer_options or {}
    edits = edits_in(options)
    if edits and isinstance(executor.class_obj, UNetModel):
        rows = x.shape[0] // len(options.get("cond_or_uncond", (0,)))
        call = Call(executor.class_obj, options, x, rows, *step_at(options, options["sigmas"]))
        live = [found for edit in edits if (found := edit.patches(call)) is not None]
        if live:
            options = _patched(call, live)
    return executor(x, timesteps, context, y, control, options, **kwargs)


def _patched(call: Call, live: list[Patches]) -> dict[str, Any]:
    """The options of a call with the patches of these edits around all others."""
    places = {(p.block, p.index): p for p in attentions(call.net)}
    patches = dict(call.options.get("patches", {}))
    replaced = dict(call.options.get("patches_replace", {}))
    swaps = [p.swap for p in live if p.swap is not None]
    crosses = [p.cross for p in live if p.cross is not None]
    hidden = [p.hidden for p in live if p.hidden is not None]
    if swaps:

        def swap(n: Tensor, context: Tensor, value: Tensor, extra: dict):
            place = places[extra["block"], extra["block_index"]]
            for one in swaps:
                n, context, value = one(n, context, value, place)
            return n, context, value

        patches["attn1_patch"] = [*patches.get("attn1_patch", ()), swap]
    if crosses:
        owners = replaced.get("attn2", {})
        found = {(*p.block, p.index): owners.get((*p.block, p.index), owners.get(p.block)) for p in places.values()}
        replaced["attn2"] = {**owners, **{key: _Owner(owner, crosses, places[key[:2], key[2]]) for key, owner in found.items()}}
    if hidden:
        patches["forward_timestep_embed_patch"] = _residual(hidden, patches.get("forward_timestep_embed_patch", ()))
    return {**call.options, "patches": patches, "patches_replace": replaced}


class _Owner:
    """Owner of one cross-attention for one call: the owner that was there, or the host's attention, then the edits.

    ``add`` is what IP-Adapter packs call on an owner that they find. They find this one only from within the call.
    """

    def __init__(self, owner: Callable | None, crosses: list[Cross], place: Place):
        self._owner, self._crosses, self._place = owner, crosses, place
        self._added: list[tuple[Callable, dict[str, Any]]] = []

    def add(self, callback: Callable, **kwargs) -> None:
        """Add ``callback(out, q, k, v, options, **kwargs)`` to the result, between ``sigma_start`` and ``sigma_end`` if these are given."""
        self._added.append((callback, kwargs))

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, extra: dict) -> Tensor:
        """Attention, `[b n c]` each."""
        out = attend(q, k, v, extra) if self._owner is None else self._owner(q, k, v, extra)
        sigma = float(extra["sigmas"].max()) if self._added else 0.0
        for callback, kwargs in self._added:
            if kwargs.get("sigma_end", 0.0) <= sigma <= kwargs.get("sigma_start", math.inf):
                out = out + callback(out, q, k, v, extra, **kwargs)
        for one in self._crosses:
            out = one(out, q, k, v, self._place, extra)
        return out


def _residual(hidden: list[Hidden], others: Sequence[tuple[type, Callable]]) -> list[tuple[type, Callable]]:
    """Ours stands first, because the first handler of a class wins, and hands on what it does not touch."""

    def handler(layer, x, emb, context, options, shape, time_context, frames, image_only):
        if not isinstance(layer, VideoResBlock):
            for one in hidden:
                out = one(layer, x, emb, options["block"])
                if out is not None:
                    return out
        for kind, other in others:
            if isinstance(layer, kind):
                return other(layer, x, emb, context, options, shape, time_context, frames, image_only)
        return layer(x, emb, frames, image_only) if isinstance(layer, VideoResBlock) else layer(x, emb)

    return [(ResBlock, handler), *others]


def residual(layer: ResBlock, x: Tensor, emb: Tensor) -> Tensor:
    """What a residual block adds to its shortcut (it must neither grow nor shrink the picture)."""
    h = layer.in_layers(x)
    if layer.emb_layers is None:
        return layer.out_layers(h)
    shift = layer.emb_layers(emb).type(h.dtype)[..., None, None]
    if not layer.use_scale_shift_norm:
        return layer.out_layers(h + shift)
    scale, shift = torch.chunk(shift, 2, dim=1)
    return layer.out_layers[1:](layer.out_layers[0](h) * (1 + scale) + shift)
