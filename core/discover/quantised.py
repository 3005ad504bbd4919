"""Quantised weights taken out into float32 while something is differentiated, and put back.

A layer of such weights multiplies by a kernel that has no derivative, or rounds what comes in as well. With its weights
in float32 it is an ordinary layer of the same function. Every kind is known by what it offers, not by its name: a
tensor class with a ``dequantize`` of its own (the host's fp8, int8 and int4 layouts, torchao), or a layer that unpacks
its tensors by ``get_weight(tensor, dtype)`` (the community's GGUF loader). Scales are theirs; nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack

_HOOKS = "weight_function"
"""The host's layers run these functions on their weights, and then neither round what comes in nor multiply packed."""


def is_quantised(net: nn.Module) -> bool:
    """Whether some weights are packed, so that no derivative runs through the layer that holds them."""
    return any(True for _ in _packed(net))


def is_rounded(net: nn.Module) -> bool:
    """Whether some weights are packed, or stored in eight bits: the network is a rounded copy of another."""
    return is_quantised(net) or any(_computes_in_fp8(module) for module in net.modules())


def check_dequantisable(net: nn.Module) -> None:
    """Refuse weights that cannot be taken out. One layer of each kind is tried.

    Raises:
        ValueError: some cannot; the layer is named, and its kind.
    """
    tried: set[tuple[type, ...]] = set()
    names = {module: name for name, module in net.named_modules()}
    for module, key, value in _packed(net):
        kind = (type(module), type(value), type(getattr(value, "_params", None)))
        if kind in tried:
            continue
        tried.add(kind)
        reason = _refusal(module, value)
        if reason:
            raise ValueError(
                f"the weights of this model are quantised in a way that has no derivatives: {names[module]}.{key}"
                f" ({type(module).__name__}) holds {type(value).__name__} of {value.dtype}, {reason}; load the fp16,"
                " fp8 or GGUF release"
            )


@contextmanager
def dequantised(*nets: nn.Module) -> Iterator[None]:
    """Inside, quantised weights are float32, as their layers themselves would unpack them."""
    with _as_outside():
        places = [place for net in nets for place in _packed(net)]
        unpacked = [nn.Parameter(_unpacked(module, value), requires_grad=False) for module, _, value in places]
    try:
        with unrounded(*nets):
            for (module, key, _), value in zip(places, unpacked, strict=True):
                module._parameters[key] = value
            yield
    finally:
        for module, key, value in places:
            module._parameters[key] = value


@contextmanager
def unrounded(*nets: nn.Module) -> Iterator[None]:
    """Inside, the host's quantised layers unpack a weight when they need it and take what comes in as it is."""
    with _as_outside():
        packed = [module for net in nets for module, _, _ in _packed(net)]
        narrow = [module for net in nets for module in net.modules() if _computes_in_fp8(module)]
    layers: list[Any] = [layer for layer in dict.fromkeys([*packed, *narrow]) if hasattr(layer, _HOOKS)]
    before = [vars(layer).get(_HOOKS) for layer in layers]  # None: it has those of its class
    try:
        for layer in layers:
            setattr(layer, _HOOKS, [*getattr(layer, _HOOKS), _same])
        yield
    finally:
        for layer, functions in zip(layers, before, strict=True):
            vars(layer).pop(_HOOKS, None)
            if functions is not None:
                setattr(layer, _HOOKS, functions)


@contextmanager
def _as_outside() -> Iterator[None]:
    """What a layer computes to unpack its weights is its own affair.

    With its floats widened on their way (``Widened``) it would round otherwise, and a transform of ``torch.func`` would
    wrap what it looks into.
    """
    with torch._C.DisableTorchFunction(), temporarily_clear_interpreter_stack():
        yield


def _packed(net: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Parameter]]:
    for module in net.modules():
        for key, value in module._parameters.items():
            if value is not None and (_is_packed(value) or _unpacks(module, value)):
                yield module, key, value


def _is_packed(value: Tensor) -> bool:
    return not value.is_floating_point() or type(value).dequantize is not Tensor.dequantize


def _unpacks(module: nn.Module, value: Tensor) -> bool:
    """Whether the layer has its own way to a tensor, which may be stored as it is (norms in float32) or packed."""
    return hasattr(value, "tensor_type") and callable(getattr(module, "get_weight", None))


def _computes_in_fp8(module: nn.Module) -> bool:
    weight = module._parameters.get("weight")
    return weight is not None and weight.is_floating_point() and weight.element_size() == 1


def _unpacked(module: nn.Module, value: Tensor) -> Tensor:
    if _unpacks(module, value):
        return cast(Any, module).get_weight(value, torch.float32).as_subclass(Tensor)
    # A class that calls itself float says in which of them it unpacks; of others the numbers themselves would be cast.
    return (value.to(dtype=torch.float32) if value.is_floating_point() else value).dequantize().float()


def _refusal(module: nn.Module, value: Tensor) -> str:
    """Why a weight cannot be taken out; empty if it can."""
    if type(value).dequantize is Tensor.dequantize and not _unpacks(module, value):
        return "which neither the tensor nor the layer can unpack"
    try:
        found = _unpacked(module, value)
    except Exception as error:
        return f"which cannot be unpacked ({str(error).splitlines()[0][:120] if str(error) else type(error).__name__})"
    if found.dtype != torch.float32 or tuple(found.shape) != tuple(value.shape):
        return f"which unpacks into {found.dtype} of {tuple(found.shape)} instead of {tuple(value.shape)}"
    return ""


def _same(weight: Tensor) -> Tensor:
    return weight
