"""Kernels of the host's transformers through which derivatives pass, while something is differentiated.

The host's fused kernels for positions and norms have no reverse mode, and a silently wrong forward mode, unless
``in_training`` is set. Cosmos, Anima and Ernie call the kernel library without asking it, and Ernie its attention
without the options that would name ours: there the library's own plain functions, and our attention, stand in.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from typing import Any

import comfy.model_management
import comfy.quant_ops
from torch import Tensor
from torch.overrides import TorchFunctionMode

from .own_attention import Attention

_PLAIN_ROPE = "comfy_kitchen.backends.eager.rope"
_OWN_ATTENTION = {"ErnieImageModel": "comfy.ldm.ernie.model"}  # classes that pass no options to their attention
_ATTENTION = "optimized_attention"
_ADDS_IN_PLACE = ("Flux", "Chroma")  # classes whose blocks write `img += ...`, and nowhere `img.add_(...)`


@contextmanager
def differentiable_kernels(net: Any, attention: Attention) -> Iterator[None]:
    """Inside, every kernel of a transformer has derivatives; whatever happens, the host's are put back.

    The switch is one of the whole process, so it is held for one product at a time.
    """
    management: Any = comfy.model_management
    kernels: Any = comfy.quant_ops
    own = _OWN_ATTENTION.get(type(net).__name__)
    module = import_module(own) if own else None
    before = management.in_training, kernels.ck, getattr(module, _ATTENTION, None)
    try:
        management.in_training = True
        kernels.ck = _PlainRope(kernels.ck)
        if module is not None:
            setattr(module, _ATTENTION, lambda *args, **kwargs: attention(before[2], *args, **kwargs))
        with _OutOfPlace() if type(net).__name__ in _ADDS_IN_PLACE else nullcontext():
            yield
    finally:
        management.in_training, kernels.ck = before[:2]
        if module is not None:
            setattr(module, _ATTENTION, before[2])


@contextmanager
def attention_exchanged(net: Any, attention: Attention) -> Iterator[None]:
    """Inside, a class that passes no options to its attention calls ours too; others get it by their options."""
    own = _OWN_ATTENTION.get(type(net).__name__)
    module = import_module(own) if own else None
    before = getattr(module, _ATTENTION, None)
    try:
        if module is not None:
            setattr(module, _ATTENTION, lambda *args, **kwargs: attention(before, *args, **kwargs))
        yield
    finally:
        if module is not None:
            setattr(module, _ATTENTION, before)


class _PlainRope:
    """The host's kernel library, its functions for positions in plain torch where it has them."""

    def __init__(self, library: Any):
        self._library = library
        try:
            self._plain: Any = import_module(_PLAIN_ROPE)
        except ImportError:
            self._plain = None

    def __getattr__(self, name: str) -> Any:
        if "rope" in name and hasattr(self._plain, name):
            return getattr(self._plain, name)
        return getattr(self._library, name)


class _OutOfPlace(TorchFunctionMode):
    """``a += b`` makes a new tensor: a block that adds in place would overwrite what its own derivative needs.

    Torch sees a call of ``add_`` whose result takes the name; where nobody takes the result, nothing would be added.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Call what gives the same without writing."""
        return (Tensor.add if func is Tensor.add_ else func)(*args, **(kwargs or {}))
