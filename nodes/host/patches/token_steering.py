"""Steering of a transformer: while the host runs its network, blocks that carry an edit give their tokens moved.

Only rows of the positive prompt are moved. Whose row is whose is said by the options of the call: not every block of
the host gets them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor

from ....core.edit.directions.shift import Shift, h_shift
from ..model.block_cut import swapped
from ..model.blocks import Block, Grid, block_number, blocks_of, picture_in, with_picture

POSITIVE = "hspace_positive"
"""Under which transformer options say what number a guider gives to its positive prompt, where it is not 0."""


class WrongShape(ValueError):
    """A direction has another shape than the tokens that it is to move."""


def steered(net: Any, x: Tensor, edits: Sequence[Shift], options: dict[str, Any]) -> AbstractContextManager:
    """Inside, the network's blocks carry the edits that act at the level of a call.

    Args:
        net: a transformer of a known class.
        x: the states of the call, `[b c h w]` or `[b c 1 h w]`.
        edits: on the MODEL.
        options: ``transformer_options`` of the call.
    """
    if not edits:
        return nullcontext()
    sigma = float(options["sigmas"].max())
    acting = [edit for edit in edits if edit.acts(sigma)]
    if not acting:
        return nullcontext()
    grid, rows = Grid.of(net, x), _positive_rows(options, len(x))
    blocks = blocks_of(net)
    forwards = []
    for layer in dict.fromkeys(edit.layer for edit in acting):
        number = block_number(layer)
        if number is not None and number < len(blocks):
            shift = _Moved(net, blocks[number], grid, [e for e in acting if e.layer == layer], sigma, rows)
            forwards.append((blocks[number].module, shift.around(blocks[number].module.forward)))
    return swapped(forwards)


def _positive_rows(options: dict[str, Any], total: int) -> list[slice]:
    """Rows of each positive prompt of a call of so many rows."""
    kinds = options.get("cond_or_uncond", [0])
    count, positive = total // len(kinds), options.get(POSITIVE, 0)
    return [slice(i * count, (i + 1) * count) for i, kind in enumerate(kinds) if kind == positive]


class _Moved:
    """A block whose picture is moved by the edits of its layer."""

    def __init__(self, net: Any, block: Block, grid: Grid, edits: list[Shift], sigma: float, rows: list[slice]):
        self._net = net
        self._kind = block.kind
        self._grid = grid
        self._edits = edits
        self._sigma = sigma
        self._rows = rows

    def around(self, forward: Callable) -> Callable:
        """The forward of the block, moved."""

        def run(*args, **kwargs):
            output = forward(*args, **kwargs)
            tokens = picture_in(self._kind, output)
            span = self._grid.span(self._net, self._kind, tokens, kwargs.get("transformer_options") or {})
            return with_picture(self._kind, output, self._moved(tokens, span))

        return run

    def _shift(self, h: Tensor) -> Tensor | None:
        try:
            return h_shift(self._edits, self._sigma, h)
        except ValueError as error:
            raise WrongShape(str(error)) from error

    def _moved(self, tokens: Tensor, span: slice) -> Tensor:
        """A copy of a block's tokens with the rows of the positive prompts moved."""
        moved = tokens.clone()
        for rows in self._rows:
            own = tokens[rows]
            h = self._grid.taken(own, span)
            shift = self._shift(h)
            if shift is not None:
                moved[rows] = self._grid.put(own, span, h + shift.to(h.dtype))
        return moved
