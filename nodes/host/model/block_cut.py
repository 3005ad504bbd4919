"""A transformer of the host cut behind a block: h is the picture's tokens there, as a grid `[b c h w]`.

No forward is mirrored. The host's own runs, and while it does, blocks before the cut give zeros of the shape that they
gave, the block at the cut gives back what it gave, with h in the picture's place. What a block gives reaches nothing but
the next one, so that the rest of the forward, and whatever other packs do in it, is what it was.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from ....core.discover.quantised import dequantised
from .block_kernels import differentiable_kernels
from .blocks import (
    Block,
    Grid,
    beside_blocks,
    block_layers,
    block_number,
    blocks_of,
    picture_in,
    row_of,
    together,
    with_picture,
)
from .frames import without_frame
from .half import Half
from .own_attention import Attention
from .unet_decoder import expanded, with_attention

_STATE = "x"
_OPTIONS = "transformer_options"


@contextmanager
def swapped(forwards: Sequence[tuple[nn.Module, Callable]]) -> Iterator[None]:
    """Inside, modules run other functions; whatever happens, their own are put back."""
    before = [(module, vars(module).get("forward")) for module, _ in forwards]
    try:
        for module, function in forwards:
            vars(module)["forward"] = function
        yield
    finally:
        for module, own in before:
            if own is None:
                vars(module).pop("forward", None)
            else:
                vars(module)["forward"] = own


def cut_blocks(layer: str, halves: list[Half]):
    """A wrapper for ``WrappersMP.APPLY_MODEL`` that adds one :class:`Half` per prompt to ``halves`` and skips what
    lies behind the cut.

    Not every transformer of the host asks for wrappers of its network, so the network's own forward is exchanged while
    the wrapped call lasts.
    """

    def wrapper(executor, x: Tensor, *args, **kwargs):
        net = executor.class_obj.diffusion_model
        forward = net.forward

        def captured(*given, **named) -> Tensor:
            call = Call(net, forward, given, named)
            halves.extend(call.halves(layer))
            return x.new_zeros(x.shape)

        with swapped([(net, captured)]):
            return executor(x, *args, **kwargs)

    return wrapper


@dataclass(frozen=True, eq=False)
class Call:
    """A call of the network: what the host hands to it, for the rows of several prompts in one batch."""

    net: Any
    forward: Callable[..., Tensor]
    args: tuple[Any, ...]
    named: dict[str, Any]

    @property
    def x(self) -> Tensor:
        """Scaled states, `[b c h w]` or `[b c 1 h w]`."""
        return self.args[0]

    @property
    def options(self) -> dict[str, Any]:
        """Transformer options; blocks may get none of their own."""
        return self.named.get(_OPTIONS) or {}

    def halves(self, layer: str) -> list[Half]:
        """One for each prompt.

        Raises:
            ValueError: there is no such layer, or the prompt puts other tokens where the picture's would be looked for.
            RuntimeError: the block at the cut did not run.
        """
        kinds = list(self.options.get("cond_or_uncond", (0,)))
        if layer == _STATE:
            return [self._prompt(i, len(kinds)).whole_network(kind) for i, kind in enumerate(kinds)]
        self.check()
        number = block_number(layer)
        if number is None or layer not in block_layers(self.net):
            raise ValueError(f"this model has no layer {layer!r}; choose one of {', '.join(block_layers(self.net))}")
        capture = Capture.of(self, number)
        return [
            self._prompt(i, len(kinds)).half(capture.rows(self._rows(i, len(kinds))), kind)
            for i, kind in enumerate(kinds)
        ]

    def check(self) -> None:
        """Refuse a call in which the picture's tokens cannot be told from others.

        Raises:
            ValueError: it is one.
        """
        row = row_of(self.net)
        bad = [name for name in (row.refused if row else ()) if self.named.get(name) is not None]
        if bad:
            raise ValueError(
                f"the prompt of this {type(self.net).__name__} carries {bad[0]!r}, which puts other tokens between those"
                " of the picture; connect a prompt without that picture"
            )

    def _rows(self, i: int, prompts: int) -> slice:
        count = len(self.x) // prompts
        return slice(i * count, (i + 1) * count)

    def _prompt(self, i: int, prompts: int) -> Call:
        """The call as the ``i``-th prompt would make it by itself."""
        rows, total = self._rows(i, prompts), len(self.x)
        options, ids = self.options, self.options.get("uuids", [None] * prompts)
        kinds = options.get("cond_or_uncond", [0] * prompts)
        mine = {**options, "cond_or_uncond": [kinds[i]], "uuids": ids[i : i + 1]}
        mine["original_shape"] = [rows.stop - rows.start, *self.x.shape[1:]]
        pick = partial(_each, change=lambda t: t[rows] if t.dim() and len(t) == total else t)
        named = {name: pick(value) for name, value in self.named.items() if name != _OPTIONS}
        return Call(self.net, self.forward, pick(self.args), {**named, _OPTIONS: mine})

    def run(self, like: Tensor, attention: Attention | None, x: Tensor | None = None) -> Tensor:
        """Output `[b c h w]` for as many rows as ``like`` has; an attention of ours makes it differentiable."""
        spread = partial(_each, change=lambda t: expanded(t, like) if t.dim() else t)
        first, *others = spread(self.args)
        named = {name: spread(value) for name, value in self.named.items() if name != _OPTIONS}
        # Blocks and patches write into their options while they run.
        named[_OPTIONS] = with_attention(self.options, attention)
        return without_frame(self.forward(first if x is None else x, *others, **named))

    def half(self, capture: Capture, kind: int) -> Half:
        """What lies behind a cut for this prompt."""
        last = len(capture.blocks) - 1
        step = together(last - capture.number)
        cuts = [*range(capture.number, last, step), None]
        stages = [partial(self._part, capture, a, b) for a, b in itertools.pairwise(cuts)]
        whole = partial(self._part, capture, capture.number, None)
        return Half(capture.h, tuple(stages), kind, self.x.shape[-2:], whole)

    def whole_network(self, kind: int) -> Half:
        """The whole network as a function of its scaled input."""

        def run(x: Tensor, attention: Attention | None) -> Tensor:
            with _prepared(self.net, attention, [self.net]):
                return self.run(x, attention, x.unsqueeze(2) if self.x.dim() == 5 else x)

        return Half(without_frame(self.x), (run,), kind, self.x.shape[-2:])

    def _part(self, capture: Capture, start: int, stop: int | None, state: Any, attention: Attention | None) -> Any:
        """From h, or from what block ``start`` gave, to what block ``stop`` gives, or to the network's output."""
        given = capture.with_h(state) if start == capture.number else state
        like = given if isinstance(given, Tensor) else next(t for t in given if t is not None)
        end = len(capture.blocks) if stop is None else stop + 1
        reached: list[Any] = []
        forwards = [(capture.blocks[i].module, capture.stand_in(i, given, len(like))) for i in range(start)]
        forwards.append((capture.blocks[start].module, lambda *args, **kwargs: _each(given, Tensor.clone)))
        if stop is not None:
            forwards.append((capture.blocks[stop].module, _stopping(capture.blocks[stop].module.forward, reached)))
        inside = [block.module for block in capture.blocks[start + 1 : end]]
        with _prepared(self.net, attention, [*beside_blocks(self.net), *inside]):
            with swapped(forwards):
                try:
                    return self.run(like, attention)
                except _Reached:
                    return reached[0]


class _Reached(Exception):
    """Stops the host's forward where the part that was asked for ends."""


def _stopping(forward: Callable, reached: list[Any]) -> Callable:
    def stop(*args, **kwargs):
        reached.append(forward(*args, **kwargs))
        raise _Reached

    return stop


@dataclass(frozen=True, eq=False)
class Capture:
    """What a call's blocks gave, up to the cut.

    Attributes:
        blocks: of the network.
        number: of the block at the cut.
        shapes: of what each block before it gave, without the rows; None for one that did not run.
        given: what it gave itself.
        grid: of the picture's tokens.
        span: where they are.
        h: they, `[b c h w]`.
    """

    blocks: list[Block]
    number: int
    shapes: dict[int, Any]
    given: Any
    grid: Grid
    span: slice
    h: Tensor

    @staticmethod
    def of(call: Call, number: int) -> Capture:
        """Run the network as far as the cut.

        Raises:
            RuntimeError: the block did not run.
        """
        blocks, grid = blocks_of(call.net), Grid.of(call.net, call.x)
        shapes: dict[int, Any] = {}
        found: dict[str, Any] = {}

        def recording(i: int, forward: Callable) -> Callable:
            def run(*args, **kwargs):
                output = forward(*args, **kwargs)
                if i < number:
                    shapes[i] = _each(output, lambda t: t.new_empty((0, *t.shape[1:])))
                    return output
                picture = picture_in(blocks[i].kind, output)
                found["span"] = grid.span(call.net, blocks[i].kind, picture, kwargs.get(_OPTIONS) or {})
                found["given"] = _each(output, Tensor.clone)  # later blocks and ControlNets add in place
                raise _Reached

            return run

        forwards = [(b.module, recording(i, b.module.forward)) for i, b in enumerate(blocks[: number + 1])]
        with swapped(forwards):
            try:
                call.run(call.x, None)
            except _Reached:
                h = grid.taken(picture_in(blocks[number].kind, found["given"]), found["span"])
                return Capture(blocks, number, shapes, found["given"], grid, found["span"], h)
        raise RuntimeError(
            f"block.{number} of the {type(call.net).__name__} did not run: another node replaces it or skips it; bypass"
            " that node, or choose another layer"
        )

    def rows(self, rows: slice) -> Capture:
        """That of one prompt."""
        given = _each(self.given, lambda t: t[rows])
        return Capture(self.blocks, self.number, self.shapes, given, self.grid, self.span, self.h[rows])

    def with_h(self, h: Tensor) -> Any:
        """What the block at the cut gives, for the rows of another h."""
        kind = self.blocks[self.number].kind
        whole = _each(self.given, lambda t: expanded(t, h))
        return with_picture(kind, whole, self.grid.put(picture_in(kind, self.given), self.span, h))

    def stand_in(self, i: int, state: Any, rows: int) -> Callable:
        """A forward of block ``i`` that gives zeros: ControlNets add to them, so that they are real.

        Args:
            i: number of the block.
            state: what a block behind it gives.
            rows: how many.
        """
        # Blocks of one list give the same shapes; behind the cut a block is in its list or in that of the state.
        behind = self.given if self.blocks[i].kind is self.blocks[self.number].kind else state
        shapes = self.shapes.get(i, behind)

        def zeros(*args, **kwargs):
            return _each(shapes, lambda t: t.new_zeros((rows, *t.shape[1:])))

        return zeros


@contextmanager
def _prepared(net: Any, attention: Attention | None, parts: Sequence[nn.Module]) -> Iterator[None]:
    """Parts of a network with weights and kernels that derivatives run through, where an attention of ours asks."""
    with ExitStack() as contexts:
        if attention is not None:
            contexts.enter_context(dequantised(*parts))
            contexts.enter_context(differentiable_kernels(net, attention))
        yield


def _each(value: Any, change: Callable[[Tensor], Any]) -> Any:
    """What ``change`` makes of every tensor in a value."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, (list, tuple)):
        return type(value)(_each(one, change) for one in value)
    if isinstance(value, dict):
        return {name: _each(one, change) for name, one in value.items()}
    return value
