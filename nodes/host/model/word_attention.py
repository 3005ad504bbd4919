"""What a network's attention gives words: taken while the host's own forward runs, for the time of one call.

A first call, with the prompt of the picture, is only looked at. A second one has words in the place of the text. Where
text and picture attend to each other, the words see the first call's picture (ConceptAttention); where the picture
asks the text, the first call's questions are asked again, of the words.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import Tensor, nn

from ....core.edit.attention.concept_attention import added_by, attend_beside, word_shares
from .block_cut import swapped
from .block_kernels import attention_exchanged
from .blocks import TABLE, Block, Grid, picture_in
from .unet_blocks import blocks, stem_stride
from .unet_decoder import with_attention

BEFORE, BEHIND, ASKED = "before", "behind", "asked"
TEXT = {
    "Flux": BEFORE,
    "Chroma": BEFORE,
    "OpenAISignatureMMDITWrapper": BEFORE,
    "QwenImageTransformer2DModel": BEFORE,
    "NextDiT": BEFORE,
    "SingleStreamDiT": BEFORE,
    "Ideogram4Transformer2DModel": BEFORE,
    "ErnieImageModel": BEHIND,
    "WanModel": ASKED,
    "MiniTrainDIT": ASKED,
    "Anima": ASKED,
}
"""Where the text stands in the attention of each class of transformers: before or behind the picture, or apart, to be
asked by it."""
_PADDED_IN_FRONT = ("Flux",)  # classes whose text ends at the picture: Flux 2 fills it up in front
_CROSS = "attn2", "cross_attn"
_FINEST = 8  # cells of a map's shorter side, below which a U-Net's maps are too coarse to be averaged
_USED = 3  # of a transformer's first list of blocks, the last of so many parts is read
_OPTIONS = "transformer_options"


@dataclass(frozen=True, eq=False)
class Place:
    """Where attention is looked at.

    Attributes:
        module: the block, or the cross-attention.
        kind: of a block in which text and picture attend to each other; None for a cross-attention.
        grid: of the picture's tokens.
        read: whether its map counts; blocks before the first that counts only carry the words on.
    """

    module: nn.Module
    kind: Block | None
    grid: Grid
    read: bool = True


def is_joint(net: Any) -> bool:
    """Whether text and picture attend to each other, so that words can run beside the prompt."""
    return TEXT.get(type(net).__name__, ASKED) != ASKED


def places_of(net: Any, x: Tensor) -> list[Place]:
    """Where the attention of a network is looked at for states like ``x`` `[b c h w]`.

    Raises:
        ValueError: no attention of this class is known that sees words.
    """
    if isinstance(net, UNetModel):
        places = _unet_places(net, x)
        if places:
            return places
    elif type(net).__name__ in TEXT:
        return _block_places(net, x)
    raise ValueError(
        f"the attention of a {type(net).__name__} to words is not known; set method to contrast, or connect a Stable"
        " Diffusion, SDXL, Flux, Z-Image, Qwen-Image or Wan checkpoint, or the MODEL of Load Face Text Model"
    )


def _unet_places(net: UNetModel, x: Tensor) -> list[Place]:
    """Cross-attentions of the decoder, where the picture is put together; the coarsest ones are left out."""
    found = []
    for name, level, block in blocks(net):
        unit = stem_stride(net) * 2**level
        grid = Grid(math.ceil(x.shape[-2] / unit), math.ceil(x.shape[-1] / unit))
        if name[0] != "output":
            continue
        for path, module in block.named_modules():
            if path.endswith(_CROSS[0]):
                found.append(Place(module, None, grid))
    finest = max((min(p.grid.rows, p.grid.columns) for p in found), default=0)
    return [p for p in found if min(p.grid.rows, p.grid.columns) >= min(_FINEST, finest)]


def _block_places(net: Any, x: Tensor) -> list[Place]:
    """The last third of the first list of blocks, and for words that run on, all before it."""
    kind, grid = TABLE[type(net).__name__].lists[0], Grid.of(net, x)
    modules = list(getattr(net, kind.name))
    first = len(modules) - math.ceil(len(modules) / _USED)
    if not is_joint(net):
        crosses = [getattr(module, _CROSS[1]) for module in modules[first:]]
        return [Place(module, None, grid) for module in crosses]
    return [Place(module, Block(module, kind), grid, i >= first) for i, module in enumerate(modules)]


@dataclass(frozen=True, eq=False)
class Seen:
    """One call of attention, heads apart.

    Attributes:
        q, k, v: `[b heads n d]`.
        out: `[b n heads*d]`.
        scale: of its scores; None for the usual one.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    out: Tensor
    scale: float | None


@dataclass(frozen=True, eq=False)
class Kept:
    """What is kept of a place's attention in the first call.

    Attributes:
        length: tokens in it.
        picture: where the picture's are.
        keys: keys and values of the picture, `[b heads n d]`; None of a cross-attention.
        queries: as the host had them; None of a block.
        out: attention's output for the picture, `[n c]`; None where the map does not count.
    """

    length: int
    picture: slice
    keys: tuple[Tensor, Tensor] | None
    queries: Tensor | None
    out: Tensor | None


class FirstCall:
    """Looks at the attention of a call with the prompt of the picture, and changes nothing."""

    def __init__(self, net: Any, places: Sequence[Place]):
        self.net = net
        self.places = places
        self.kept: dict[int, Kept] = {}

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Inside, the network is looked at; whatever happens, its own functions are put back."""
        with watched(self.net, self.places, self._look):
            yield
        missing = [i for i in range(len(self.places)) if i not in self.kept]
        if missing:
            raise RuntimeError(
                f"attention {missing[0]} of the {type(self.net).__name__} was not asked: another node replaces it"
                " (IP-Adapter, Prompt-to-Prompt and the like); connect the MODEL from before that node, or set method to"
                " contrast"
            )

    def _look(self, i: int, call: Callable, options: Any, forward: Callable) -> Any:
        """Run the ``i``-th place and keep what its attention saw."""
        place, seen = self.places[i], []

        def look(function: Callable, q: Tensor, k: Tensor, v: Tensor, heads: int, *args, **kwargs) -> Tensor:
            out = function(q, k, v, heads, *args, **kwargs)
            if not seen:
                seen.append((q, seen_in(q, k, v, heads, out, kwargs)))
            return out

        with call(look):
            output = forward()
        if seen:
            q, first = seen[0]
            self.kept[i] = self._kept(place, q, first, output, options)
        return output

    def _kept(self, place: Place, q: Tensor, seen: Seen, output: Any, options: Any) -> Kept:
        if place.kind is None:
            count = place.grid.rows * place.grid.columns
            return Kept(seen.out.shape[1], slice(0, count), None, q, seen.out[0, :count])
        length, tokens = seen.q.shape[2], picture_in(place.kind.kind, output)
        span = place.grid.span(self.net, place.kind.kind, tokens, options)
        # Blocks that keep text and picture apart lay the text before the picture for their attention.
        ahead = length - tokens.shape[1]
        picture = slice(span.start + ahead, span.stop + ahead)
        keys = _beside_the_model(seen.k[:, :, picture]), _beside_the_model(seen.v[:, :, picture])
        out = _beside_the_model(seen.out[0, picture]) if place.read else None
        return Kept(length, picture, keys, None, out)


class SecondCall:
    """Reads what the attention of a call gives the words that stand in the place of its text.

    Args:
        first: the call with the prompt of the picture.
        groups: tokens of each word; empty where the whole prompt is one word.
    """

    def __init__(self, first: FirstCall, groups: Sequence[slice] = ()):
        self._first = first
        self._groups = groups
        self.maps: list[Tensor] = []
        """One `[words rows columns]` for each place that counts."""

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Inside, the network is read; whatever happens, its own functions are put back."""
        with watched(self._first.net, self._first.places, self._read):
            yield

    def _read(self, i: int, call: Callable, options: Any, forward: Callable) -> Any:
        place, kept, done = self._first.places[i], self._first.kept[i], []

        def read(function: Callable, q: Tensor, k: Tensor, v: Tensor, heads: int, *args, **kwargs) -> Tensor:
            out = function(q, k, v, heads, *args, **kwargs)
            if done:
                return out
            done.append(True)
            if place.kind is None:
                if kept.out is not None:
                    again = function(kept.queries, k, v, heads, *args, **kwargs)
                    asked = seen_in(q, k, v, heads, again, kwargs)
                    self._keep(place, added_by(asked.out[0, kept.picture], kept.out)[None])
                return out
            return self._beside(place, kept, seen_in(q, k, v, heads, out, kwargs), out)

        with call(read):
            return forward()

    def _beside(self, place: Place, kept: Kept, seen: Seen, out: Tensor) -> Tensor:
        """Attention's result with that of the words in it."""
        text = self._text(kept, seen.q.shape[2])
        picture: Any = kept.keys
        q, k, v = (t[:, :, text] for t in (seen.q, seen.k, seen.v))
        words = attend_beside(q, k, v, picture, seen.scale)
        if kept.out is not None:
            self._keep(place, word_shares(words[0], kept.out.to(words), self._groups))
        changed = out.clone()
        if out.dim() == 4:
            changed[:, :, text] = words.unflatten(2, (out.shape[1], -1)).transpose(1, 2).to(out.dtype)
        else:
            changed[:, text] = words.to(out.dtype)
        return changed

    def _text(self, kept: Kept, length: int) -> slice:
        """Where the words stand among so many tokens; padding beside them is nobody's."""
        count, name = self._groups[-1].stop, type(self._first.net).__name__
        if TEXT[name] == BEHIND:
            return slice(kept.picture.stop, kept.picture.stop + count)
        if name not in _PADDED_IN_FRONT:
            return slice(0, count)
        behind = kept.length - kept.picture.start
        return slice(length - behind - count, length - behind)

    def _keep(self, place: Place, values: Tensor) -> None:
        self.maps.append(values.unflatten(-1, (place.grid.rows, place.grid.columns)).cpu())


def _beside_the_model(values: Tensor) -> Tensor:
    """A copy in main memory: those of all blocks fill a gigabyte at the size of Flux, which the model needs."""
    return values.to("cpu", copy=True)


def seen_in(q: Tensor, k: Tensor, v: Tensor, heads: int, out: Tensor, named: dict[str, Any]) -> Seen:
    """A call of the host's attention with heads apart; keys that several heads share are repeated."""
    if not named.get("skip_reshape"):
        # Some classes hand over values with heads apart and queries without.
        width = q.flatten(2).shape[-1] // heads
        q, k, v = (t.reshape(len(t), -1, heads, width).transpose(1, 2) for t in (q, k, v))
    if k.shape[1] != q.shape[1]:
        k, v = (t.repeat_interleave(q.shape[1] // k.shape[1], 1) for t in (k, v))
    out = out.transpose(1, 2).flatten(2) if out.dim() == 4 else out
    return Seen(q, k, v, out, named.get("scale"))


@contextmanager
def watched(net: Any, places: Sequence[Place], watch: Callable) -> Iterator[None]:
    """Inside, ``watch(i, call, options, forward)`` runs in the place of each module; ``call(attention)`` is a context in
    which attention is ``attention``.
    """
    current: list[Callable | None] = [None]

    def attention(function: Callable, *args, **kwargs) -> Tensor:
        return (current[0] or _plain)(function, *args, **kwargs)

    @contextmanager
    def call(own: Callable) -> Iterator[None]:
        current[0] = own
        try:
            yield
        finally:
            current[0] = None

    def whole(*args, **kwargs) -> Any:
        return forward(*args, **{**kwargs, _OPTIONS: with_attention(kwargs.get(_OPTIONS) or {}, attention)})

    def around(i: int, own: Callable) -> Callable:
        def run(*args, **kwargs) -> Any:
            return watch(i, call, kwargs.get(_OPTIONS) or {}, lambda: own(*args, **kwargs))

        return run

    forward = net.forward
    with ExitStack() as contexts:
        contexts.enter_context(attention_exchanged(net, attention))
        contexts.enter_context(swapped([(p.module, around(i, p.module.forward)) for i, p in enumerate(places)]))
        contexts.enter_context(swapped([(net, whole)]))
        yield


def _plain(function: Callable, *args, **kwargs) -> Tensor:
    return function(*args, **kwargs)
