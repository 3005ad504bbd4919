"""A function as a chain of parts, so that whoever differentiates it need not hold the graph of all at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

Stage = Callable[[Any], Any]
"""From what the part before gives to what the next one takes: a tensor, or a tuple of tensors."""


class Chain:
    """The composition of ``stages``, first to last. The first takes a tensor, the last gives one."""

    def __init__(self, stages: Iterable[Stage] = ()):
        self.stages: tuple[Stage, ...] = tuple(stages)

    def __call__(self, h: Any) -> Any:
        """Run all stages."""
        for stage in self.stages:
            h = stage(h)
        return h

    def then(self, stage: Stage) -> Chain:
        """Extend by a further function; of a chain, by its stages."""
        return Chain((*self.stages, *Chain.of(stage).stages))

    def inside(self, wrap: Callable[[Stage], Stage]) -> Chain:
        """Wrap every stage."""
        return Chain(map(wrap, self.stages))

    def beside_input(self) -> Chain:
        """Give ``(input, output)``: the input goes through all stages beside what they make of it."""
        first, *rest = self.stages
        stages = [lambda pair, stage=stage: (pair[0], stage(pair[1])) for stage in rest]
        return Chain([lambda x: (x, first(x)), *stages])

    @staticmethod
    def of(function: Stage) -> Chain:
        """Give the function itself if it is a chain, else a chain of this one stage."""
        if isinstance(function, Chain):
            return function
        # The pack may be there twice, as a node pack and as a library, and a chain of the other one is a chain as well.
        return Chain(getattr(function, "stages", (function,)))
