"""Half-precision networks differentiated in float32 (mixed precision the other way round: Micikevicius et al. 2018, arXiv 1710.03740).

In bfloat16 a Jacobian product is wrong by a percent. Reloading the model in float32 is not ours to do, so the decoder is run with
every narrower float widened on its way into a torch call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..denoiser import Bottleneck

_BYTES = 4  # of a float32
_LOOKS = frozenset(
    "__get__ __setitem__ __getitem__ view view_as reshape narrow select chunk split unbind transpose permute movedim expand expand_as "
    "flatten squeeze unsqueeze t".split()
)
"""Calls that compute nothing: attributes, views, and writing into a part."""


class Widened(TorchFunctionMode):
    """Inside ``with Widened():`` every torch call sees float32 for narrower floats: weights, activations and requested dtypes."""

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
        if id(value) not in self._weights:  # a weight is widened once; holding it too keeps its id from being given away
            self._weights[id(value)] = value, value.detach().float()
        return self._weights[id(value)][1]


def in_float32(bottleneck: Bottleneck) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """``h`` and ``decode`` (``smooth``, if there is one) in float32 (float64 stays).

    Raises:
        ValueError: h is not floating point.
    """
    h = bottleneck.h.detach()
    if not h.is_floating_point():
        raise ValueError(f"h must be floating point to be differentiated, got {h.dtype}; load the unquantised release of this model")
    plain = bottleneck.smooth or bottleneck.decode
    if h.element_size() >= _BYTES:
        return h, plain
    mode = Widened()

    def decode(h: Tensor) -> Tensor:
        with mode:
            return plain(h)

    return h.float(), decode
