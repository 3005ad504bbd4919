"""The one engine of attention edits: whatever several edits want of a U-Net's attention is put in place for one call of
it and gone after.

An edit is an object in a MODEL's options. One wrapper around the network asks every edit what it does in this call and
installs the host's own patches for it, around those of other packs: an attn2 owner such as IP-Adapter is wrapped
whichever came first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from comfy.ldm.modules.attention import optimized_attention
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock, UNetModel, VideoResBlock
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ....core.edit.attention.local_blend import map_level
from ..model.pixel_model import unet_of
from ..model.unet_blocks import Place, attentions, stem_stride
from ..samplers.whole_run import levels_of, with_whole_run
from ..types import Model
from .steering import RAW

ATTENTION_KEY = "hspace_attention"
STORE = "hspace_store"  # set in the pass that only looks at a source picture
_LOWEST = 1e-8  # noise level that has a logarithm


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
                f"{what} looks at the whole picture {list(size)}, but a prompt holds for an area of"
                f" {list(self.x.shape[2:])}; use Conditioning (Set Mask) in place of Set Area, or no area"
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
        swap: inputs of the query, key and value of a self-attention, each `[b n c]`; returns others, leaves these
            alone.
        cross: result, query, key and value of a cross-attention `[b n c]`, and the host's options; returns another
            result.
        hidden: output of a residual block whose input is `[b c h w]`, or None to let it run.
    """

    swap: Swap | None = None
    cross: Cross | None = None
    hidden: Hidden | None = None


class AttentionEdit(Protocol):
    """Anything that edits attention; ``node`` is the name that users know."""

    node: str

    def patches(self, call: Call) -> Patches | None:
        """What to do in this call; None: nothing, bit for bit."""
        ...


def edits_in(options: dict[str, Any]) -> Sequence[AttentionEdit]:
    """The edits among transformer options, none where a node asked for the plain model."""
    return () if options.get(RAW) else options.get(ATTENTION_KEY, ())


def add_attention(model: Model, edit: AttentionEdit, wrappers: dict[str, Callable] | None = None):
    """A clone of MODEL that also carries ``edit``; ``wrappers`` of other kinds are installed once, however many edits
    share them.
    """
    check_unet(model)
    clone = with_whole_run(model).clone()
    options = clone.model_options["transformer_options"]
    options[ATTENTION_KEY] = [*options.get(ATTENTION_KEY, ()), edit]
    for kind, wrapper in {WrappersMP.DIFFUSION_MODEL: _network, **(wrappers or {})}.items():
        if wrapper not in clone.get_wrappers(kind, ATTENTION_KEY):
            clone.add_wrapper_with_key(kind, ATTENTION_KEY, wrapper)
    return clone


def check_unet(model: Model) -> UNetModel:
    """The network of a MODEL with attention to prompts.

    Raises:
        ValueError: it is something else.
    """
    net = unet_of(model)
    if not isinstance(net, UNetModel) or not attentions(net):
        raise ValueError(
            f"this node edits the attention of a U-Net, but the MODEL connected is a {type(net).__name__}, which has"
            " none of that kind; connect a Stable Diffusion 1.x, 2.x or SDXL checkpoint, or the MODEL of Load Face"
            " Text Model"
        )
    return net


def attend(q: Tensor, k: Tensor, v: Tensor, options: dict) -> Tensor:
    """The host's attention, with whatever kernel it is set to."""
    return optimized_attention(
        q, k, v, options["n_heads"], attn_precision=options.get("attn_precision"), transformer_options=options
    )


def step_at(options: dict[str, Any], sigma: Tensor) -> tuple[int, int]:
    """Which step of the whole schedule a noise level is nearest to, and how many there are, in however many runs."""
    grid = levels_of(options)
    if grid is None or len(grid) < 2:
        return 0, 1
    # Nearest in log sigma: levels lie by factors apart, and the last, 0, ends a step and begins none.
    levels = grid[:-1].float().clamp_min(_LOWEST).log()
    level = sigma.max().clamp_min(_LOWEST).to(levels).log()
    return int((levels - level).abs().argmin()), len(levels)


def _network(executor, x, timesteps, context=None, y=None, control=None, transformer_options=None, **kwargs):
    options = transformer_options or {}
    edits = edits_in(options)
    if edits and isinstance(executor.class_obj, UNetModel):
        rows = x.shape[0] // len(options.get("cond_or_uncond", (0,)))
        call = Call(executor.class_obj, options, x, rows, *step_at(options, options["sigmas"]))
        patches = [patch for edit in edits if (patch := edit.patches(call)) is not None]
        if patches:
            options = _patched(call, patches)
    return executor(x, timesteps, context, y, control, options, **kwargs)


def _patched(call: Call, edits: list[Patches]) -> dict[str, Any]:
    """The options of a call with the patches of these edits around all others."""
    places = attentions(call.net)
    patches = dict(call.options.get("patches", {}))
    replaced = dict(call.options.get("patches_replace", {}))
    swaps = [edit.swap for edit in edits if edit.swap is not None]
    crosses = [edit.cross for edit in edits if edit.cross is not None]
    hidden = [edit.hidden for edit in edits if edit.hidden is not None]
    if swaps:
        # First of all: others may gather tokens or split rows (HyperTile, ToMe), and what is taken here is whole rows.
        patches["attn1_patch"] = [_swap_patch(call, swaps, places), *patches.get("attn1_patch", ())]
    if crosses:
        replaced["attn2"] = _owners(call, crosses, places, replaced.get("attn2", {}))
    if hidden:
        patches["forward_timestep_embed_patch"] = _residual(hidden, patches.get("forward_timestep_embed_patch", ()))
    return {**call.options, "patches": patches, "patches_replace": replaced}


def _swap_patch(call: Call, swaps: list[Swap], places: list[Place]) -> Callable:
    """An ``attn1_patch`` that hands the inputs of every self-attention through the swaps, one after the other."""
    place_of = {(place.block, place.index): place for place in places}

    def swap(n: Tensor, context: Tensor, value: Tensor, extra: dict):
        place = place_of[extra["block"], extra["block_index"]]
        check_rows(call, n)
        for one in swaps:
            n, context, value = one(n, context, value, place)
        return n, context, value

    return swap


def _owners(call: Call, crosses: list[Cross], places: list[Place], others: dict) -> dict:
    """Owners of every cross-attention, each around the one that another pack set there or for the whole block."""
    ours = {place.key: _Owner(call, others.get(place.key, others.get(place.block)), crosses, place) for place in places}
    return {**others, **ours}


def check_rows(call: Call, rows: Tensor) -> None:
    """Refuse rows that another patch has split or joined before ours could take them.

    Raises:
        ValueError: the number of rows is not that of the call; the patches of other nodes are named.
    """
    if len(rows) != len(call.x):
        raise ValueError(
            f"this edit works on the {len(call.x)} rows of the batch, but another node has made {len(rows)} of them"
            f" before it{foreign_patches(call.options)}; take that node off this MODEL"
        )


def check_map(q: Tensor, size: tuple[int, int], what: str) -> None:
    """Refuse maps of another size than the picture's at their level.

    Raises:
        ValueError: another node shrinks the picture inside of the network.
    """
    if q.shape[1] != math.prod(size):
        raise ValueError(
            f"{what} reads maps of {list(size)}, but the attention here has {q.shape[1]} places: another node shrinks"
            " the picture inside of the network (PatchModelAddDownscale, Kohya Deep Shrink); take it off this MODEL,"
            " or leave the words out"
        )


def foreign_patches(options: dict[str, Any]) -> str:
    """Names of other packs' code that stands around the attention of a call, for messages: " (HyperTile, ...)"."""
    patches = options.get("patches", {})
    replaced = options.get("patches_replace", {})
    functions = [
        *patches.get("attn1_patch", ()),
        *patches.get("attn2_patch", ()),
        *(function for kind in replaced.values() for function in kind.values()),
    ]
    names = [f"{getattr(f, '__module__', '')}.{getattr(f, '__qualname__', type(f).__qualname__)}" for f in functions]
    foreign = [name for name in dict.fromkeys(names) if not name.startswith(__name__)]
    return f" (by what their code is called: {', '.join(foreign[:4])})" if foreign else ""


class _Owner:
    """Owner of one cross-attention for one call: the owner that was there, or the host's attention, then the edits.

    ``add`` is what IP-Adapter packs call on an owner that they find. They find this one only from within the call.
    """

    def __init__(self, call: Call, owner: Callable | None, crosses: list[Cross], place: Place):
        self._call = call
        self._owner = owner
        self._crosses = crosses
        self._place = place
        self._added: list[tuple[Callable, dict[str, Any]]] = []

    def add(self, callback: Callable, **kwargs) -> None:
        """Add ``callback(out, q, k, v, options, **kwargs)`` to the result, between ``sigma_start`` and ``sigma_end`` if
        these are given.
        """
        self._added.append((callback, kwargs))

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, extra: dict) -> Tensor:
        """Attention, `[b n c]` each."""
        check_rows(self._call, q)
        compute = attend if self._owner is None else self._owner
        out = compute(q, k, v, extra)
        sigma = float(extra["sigmas"].max()) if self._added else 0.0
        for callback, kwargs in self._added:
            if kwargs.get("sigma_end", 0.0) <= sigma <= kwargs.get("sigma_start", math.inf):
                out = out + callback(out, q, k, v, extra, **kwargs)
        for cross in self._crosses:
            out = cross(out, q, k, v, self._place, extra)
        return out


def _residual(hidden: list[Hidden], others: Sequence[tuple[type, Callable]]) -> list[tuple[type, Callable]]:
    """Handlers of residual blocks: ours stands first, because the first of a class wins, and hands on what it leaves
    alone.
    """

    def handler(layer, x, emb, context, options, shape, time_context, frames, image_only):
        video = isinstance(layer, VideoResBlock)
        for replace in () if video else hidden:
            out = replace(layer, x, emb, options["block"])
            if out is not None:
                return out
        for kind, other in others:
            if isinstance(layer, kind):
                return other(layer, x, emb, context, options, shape, time_context, frames, image_only)
        return layer(x, emb, frames, image_only) if video else layer(x, emb)

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
