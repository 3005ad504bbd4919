"""Half-precision networks differentiated in float32.

Mixed precision the other way round: Micikevicius et al. 2018, arXiv 1710.03740.

In bfloat16 a Jacobian product is wrong by a percent. Reloading the model in float32 is not ours to do, so the decoder
is run with every narrower float widened on its way into a torch call.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..chain import Chain, Stage

_BYTES = 4  # of a float32
_LOOKS = frozenset(
    "__get__ __setitem__ __getitem__ view view_as reshape narrow select chunk split unbind transpose permute movedim"
    " expand expand_as flatten squeeze unsqueeze t".split()
)
"""Calls that compute nothing: attributes, views, and writing into a part."""


class Widened(TorchFunctionMode):
    """Let every torch call inside ``with Widened():`` see float32 for narrower floats.

    Weights, activations and requested dtypes.
    """

    def __init__(self) -> None:
        super().__init__()
        self._weights: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Widen the arguments, then call; what writes in place, or only looks, gets the tensors themselves."""
        name = getattr(func, "__name__", "")
        if name in _LOOKS or (name.endswith("_") and not name.endswith("__")):
            return func(*args, **(kwargs or {}))
        return func(*self._wide(args), **self._wide(kwargs or {}))

    def _wide(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self._wide_tensor(value) if value.is_floating_point() and value.element_size() < _BYTES else value
        if isinstance(value, torch.dtype):
            return torch.float32 if value.is_floating_point and value.itemsize < _BYTES else value
        if type(value) in (list, tuple):
            return type(value)(self._wide(v) for v in value)
        return {k: self._wide(v) for k, v in value.items()} if type(value) is dict else value

    def _wide_tensor(self, value: Tensor) -> Tensor:
        if not isinstance(value, nn.Parameter):
            return value.float()
        if (
            id(value) not in self._weights
        ):  # a weight is widened once; holding it too keeps its id from being given away
            self._weights[id(value)] = value, value.detach().float()
        return self._weights[id(value)][1]


def in_float32(decode: Stage, h: Tensor) -> Chain:
    """A decoder in float32 (float64 stays), stage by stage, for an h like the one given."""
    chain = Chain.of(decode)
    return chain if h.element_size() >= _BYTES else chain.inside(_in_float32)


def _in_float32(stage: Stage) -> Stage:
    """A stage run in float32; what it widens of the weights is let go when it ends."""

    def run(h: Any) -> Any:
        with Widened():
            return stage(h)

    return run


def widened(h: Tensor) -> Tensor:
    """``h`` in float32 (float64 stays).

    Raises:
        ValueError: it is not floating point.
    """
    h = h.detach()
    if not h.is_floating_point():
        raise ValueError(
            f"h must be floating point to be differentiated, got {h.dtype}; load the unquantised release of this model"
        )
    return h if h.element_size() >= _BYTES else h.float()


@contextmanager
def full_float32(device: torch.device) -> Iterator[None]:
    """Keep float32 what it is: GPUs would run convolutions in TF32, whose mantissa is that of float16."""
    if device.type != "cuda":
        yield
        return
    places: tuple[Any, ...] = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [place.allow_tf32 for place in places]
    try:
        for place in places:
            place.allow_tf32 = False
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.allow_tf32 = value
