"""Count what every node of a prompt asks of the network: evaluations, rows, products with its derivative.

An evaluation is a half above h and a half below it; a node that cuts the network runs them apart. A row is one picture
under one prompt. What happens inside of a product with the derivative counts as that product alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any
from unittest.mock import patch

from ..executor import Executor

_NETWORKS = (
    ("core.networks.ddpm", "DDPMUNet"),
    ("core.networks.guided", "GuidedUNet"),
    ("core.networks.diffae", "DiffAENet"),
)


@dataclass
class Count:
    """What one node asked for.

    Attributes:
        calls: runs of the half above h.
        above, below: rows that went through each of the two halves.
        operators: Jacobians that were set up.
        products: with them or their transpose.
        passes: batches of products.
        checks: comparisons of a cut network with the whole; what they ask for counts as nothing else.
    """

    calls: int = 0
    above: int = 0
    below: int = 0
    operators: int = 0
    products: int = 0
    passes: int = 0
    checks: int = 0

    @property
    def rows(self) -> float:
        """Rows that went through the whole network; through one of its halves, each counts half."""
        return (self.above + self.below) / 2


class Counter:
    """Counts by the node that is running.

    Args:
        executor: runs the nodes.

    Attributes:
        of: counts by the id of a node.
    """

    def __init__(self, executor: Executor):
        self._executor = executor
        self._inside = 0  # of products and checks
        self._compared: Any = None
        self.of: defaultdict[str, Count] = defaultdict(Count)

    @property
    def _here(self) -> Count:
        return self.of[str(self._executor.server.last_node_id)]

    def _add(self, **more: int) -> None:
        if not self._inside:
            here = self._here
            for name, value in more.items():
                setattr(here, name, getattr(here, name) + value)

    def split(self, real: Callable) -> Callable:
        """Around ``split`` of one of the pack's networks."""

        @wraps(real)
        def counted(net: Any, x: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
            self._add(calls=1, above=len(x))
            h, rest = real(net, x, *args, **kwargs)
            return h, type(rest)((self._through, *rest.stages))

        return counted

    def _through(self, h: Any) -> Any:
        self._add(below=len(h))
        return h

    def forward(self, real: Callable) -> Callable:
        """Around ``_forward`` of the host's U-Net, which a cut ends before its second half."""

        @wraps(real)
        def counted(net: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
            self._add(calls=1, above=len(x))
            out = real(net, x, *args, **kwargs)
            self._add(below=len(x))
            return out

        return counted

    def split_unet(self, real: Callable) -> Callable:
        """Around what cuts the host's U-Net."""

        @wraps(real)
        def counted(*args: Any) -> tuple[Any, Any]:
            h, (first, *rest) = real(*args)
            return h, [lambda h, attention: first(self._through(h), attention), *rest]

        return counted

    def encode(self, real: Callable) -> Callable:
        """Around the encoder of a diffusion autoencoder."""

        @wraps(real)
        def counted(net: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
            self._add(calls=1, above=len(x), below=len(x))
            return real(net, x, *args, **kwargs)

        return counted

    def check(self, real: Callable) -> Callable:
        """Around the comparison of a cut network with the whole, which was asked for before."""

        @wraps(real)
        def counted(cut: Any, whole: Any, decode: Any) -> None:
            rows = 0 if whole is self._compared else len(whole) * len(cut.halves)
            self._compared = whole
            self._add(checks=1, calls=-bool(rows), above=-rows, below=-rows)
            self._inside += 1
            try:
                real(cut, whole, decode)
            finally:
                self._inside -= 1

        return counted

    def derivative(self, real: Callable, **more: int) -> Callable:
        """Around what a Jacobian does; what it asks of the network is no evaluation of its own."""

        @wraps(real)
        def counted(jacobian: Any, *args: Any, **kwargs: Any) -> Any:
            if self._inside:
                return real(jacobian, *args, **kwargs)
            self._add(**more)
            before = (getattr(jacobian, "jvps", 0) + getattr(jacobian, "vjps", 0), getattr(jacobian, "passes", 0))
            self._inside += 1
            try:
                return real(jacobian, *args, **kwargs)
            finally:
                self._inside -= 1
                self._add(products=jacobian.jvps + jacobian.vjps - before[0], passes=jacobian.passes - before[1])

        return counted


@contextmanager
def counting(executor: Executor) -> Iterator[Counter]:
    """Count while prompts run in this process."""
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    counter = Counter(executor)
    jacobian = executor.module("core.discover.jacobian").DecoderJacobian
    unet = executor.module("nodes.host.model.unet")
    encoder = executor.module("core.networks.diffae").SemanticEncoder
    cut = executor.module("nodes.host.model.bottleneck").CutCall
    with ExitStack() as stack:

        def around(owner: Any, name: str, wrap: Callable[..., Callable], **more: int) -> None:
            stack.enter_context(patch.object(owner, name, wrap(getattr(owner, name), **more)))

        for module, name in _NETWORKS:
            around(getattr(executor.module(module), name), "split", counter.split)
        around(UNetModel, "_forward", counter.forward)
        around(unet, "_split_unet", counter.split_unet)
        around(encoder, "forward", counter.encode)
        around(cut, "check", counter.check)
        around(jacobian, "__init__", counter.derivative, operators=1)
        for name in ("jvp", "vjp", "check", "responses"):
            around(jacobian, name, counter.derivative)
        yield counter
