"""A decoder differentiated stage by stage, so that the graph of a single stage is held at a time.

Only h goes from one stage to the next; skips, embedding and context are constants of the captured sample. What each
stage takes is held, its graph is built anew in every pass: that costs one decode more a pass.
(``torch.utils.checkpoint`` works by hooks that ``torch.func`` refuses, and classic autograd refuses weights made in
inference mode.)
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.func import jvp, vjp, vmap
from torch.utils._pytree import tree_leaves, tree_map

from ..chain import Chain, Stage
from .cost import Live, Need
from .failures import is_out_of_memory

Pull = Callable[[Any], tuple[Any]]


class StagedDecoder:
    """A chain at one h.

    Args:
        chain: the decoder, with kernels for reverse mode.
        h0: `[1 c h w]`.
        smooth: the same with kernels for forward mode.

    Attributes:
        y0: what the decoder makes of h0.
        inputs: what each stage takes.
        made: bytes of all that each stage made in one decode, held or not.
        graphs: bytes of the graphs that are held between passes; 0 if they are not.
        needs: bytes of a pass, by the name of the method that makes it.
    """

    def __init__(self, chain: Chain, h0: Tensor, smooth: Chain):
        self.chain = chain if chain.stages else Chain([lambda h: h * 1])
        self.h0 = h0
        self.graphs = 0
        self.needs = {name: Need() for name in ("push", "pull", "decode")}
        self.inputs: list[Any] = []
        self.made: list[int] = []
        self._pulls: list[Pull] = []
        state: Any = h0
        with torch.no_grad(), Live() as live:
            for stage in self.chain.stages:
                self.inputs.append(state)
                before = live.made
                state = stage(state)
                self.made.append(live.made - before)
        self.y0 = state
        alike = len(smooth.stages) == len(self.chain.stages)
        self._smooth = list(zip(smooth.stages, self.inputs, strict=True)) if alike else [(smooth, h0)]

    def hold_graphs(self, room: int | None) -> None:
        """Build the graphs of all stages, unless they take more than ``room`` bytes (None: any) or memory runs out."""
        if room == 0:
            return
        try:
            with torch.no_grad(), Live() as live:
                for stage, at in zip(self.chain.stages, self.inputs, strict=True):
                    self._pulls.append(vjp(stage, at)[1])
                    if room is not None and live.now > room:
                        self._pulls.clear()
                        return
                self.graphs = live.now
        except RuntimeError as error:
            self.let_go()
            if not is_out_of_memory(error):
                raise

    def let_go(self) -> None:
        """Hold no graphs: they are built anew in every pass."""
        self._pulls.clear()
        self.graphs = 0

    def pull(self, rows: Tensor, measured: bool = False) -> Tensor:
        """Reverse products, `[b, shape of y0]` -> `[b, shape of h0]`; what the pass takes is noted on demand."""
        vectors = 0 if measured else len(rows)
        meter = _Meter(measured)
        state: Any = rows
        with meter:
            for n in range(len(self.chain.stages) - 1, -1, -1):
                meter.begin(state)
                pull = self._pulls[n] if self._pulls else vjp(self.chain.stages[n], self.inputs[n])[1]
                meter.note()
                state = _mapped(lambda row, pull=pull: pull(row)[0], state, alone=vectors == 1)
                del pull
                meter.note()
        meter.give(self.needs["pull"], len(rows))
        return state

    def push(self, rows: Tensor, measured: bool = False) -> Tensor:
        """Forward products in forward mode, `[b, shape of h0]` -> `[b, shape of y0]`."""

        def pushed(stage: Stage, at: Any) -> Stage:
            # A model that draws noise gets as far as the check, which says so; vmap alone refuses in its own words.
            return lambda state: _mapped(lambda row: jvp(stage, (at,), (row,))[1], state)

        return self._forward("push", [pushed(stage, at) for stage, at in self._smooth], rows, measured)

    def decode(self, h: Tensor, measured: bool = False) -> Tensor:
        """What the decoder makes of other h, `[b c h w]`."""
        return self._forward("decode", self.chain.stages, h, measured)

    def _forward(self, name: str, stages: Iterable[Stage], state: Any, measured: bool) -> Any:
        vectors = len(state)
        meter = _Meter(measured)
        with meter:
            for stage in stages:
                meter.begin(state)
                state = stage(state)
                meter.note()
        meter.give(self.needs[name], vectors)
        return state


def _mapped(product: Callable[[Any], Any], rows: Any, alone: bool = False) -> Any:
    """A product of every row; of one ``alone`` without ``vmap``, through which not every kernel can be batched."""
    if alone:
        return tree_map(lambda t: t[None], product(tree_map(lambda t: t[0], rows)))
    with warnings.catch_warnings():
        # On GPUs the backward pass of fused attention is looped over, not batched, and torch tells so.
        warnings.filterwarnings("ignore", message="There is a performance drop")
        return vmap(product, randomness="different")(rows)


class _Meter:
    """What each part of a pass takes."""

    def __init__(self, on: bool):
        self._live = Live() if on else None
        self._parts: list[int] = []
        self._base = 0

    def __enter__(self) -> None:
        (self._live or nullcontext()).__enter__()

    def __exit__(self, *error: Any) -> None:
        if self._live is not None:
            self._live.__exit__(*error)

    def begin(self, state: Any) -> None:
        """A stage begins, with what the one before handed on."""
        if self._live is not None:
            # Of a part of a larger tensor all is held.
            carried = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tree_leaves(state)}
            self._base = self._live.mark() - sum(carried.values())

    def note(self) -> None:
        """A part of the stage has ended."""
        if self._live is not None:
            self._parts.append(self._live.peak - self._base)
            self._live.mark()

    def give(self, need: Need, vectors: int) -> None:
        """Note the parts of a pass."""
        if self._live is not None:
            need.add(vectors, self._parts)
