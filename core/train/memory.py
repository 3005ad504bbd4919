"""What a training step will need, measured on one picture before it starts."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

_ADAM = 4
"""Copies of trained weights: themselves, their gradient and two moments."""
_BEST = 2
"""And on a CPU, where all lie in one memory: the best so far, and the one that takes its place."""


def graph_bytes(step: Callable[[], Tensor], without: Iterable[nn.Module] = ()) -> int:
    """Count the bytes that autograd keeps for the backward pass of ``step()``.

    Each memory counts once, the weights of ``without`` not at all.
    """
    weights = {p.untyped_storage().data_ptr() for m in without for p in m.parameters()}
    sizes: dict[int, int] = {}

    def measure(value: Tensor) -> Tensor:
        store = value.untyped_storage()
        place = store.data_ptr()
        if place not in weights:
            sizes[place] = store.nbytes()
        return value.detach()  # the tensor itself would close a cycle through the graph, which nobody ever frees

    hooks = torch.autograd.graph.saved_tensors_hooks(measure, lambda v: v)
    with torch.enable_grad(), hooks:
        result = step()
    del result
    return sum(sizes.values())


def needed(step: Callable[[], Tensor], batch: int, trained: nn.Module, frozen: Iterable[nn.Module] = ()) -> int:
    """Estimate in bytes of what training takes beside the frozen networks.

    Args:
        step: the loss on one picture.
        batch: pictures at a time.
        trained: what is trained.
        frozen: networks that are there anyway.
    """
    weights = sum(p.numel() * p.element_size() for p in trained.parameters())
    graph = graph_bytes(step, (trained, *frozen))
    on_cpu = all(p.device.type == "cpu" for p in trained.parameters())
    return batch * graph + (_ADAM + _BEST * on_cpu) * weights
