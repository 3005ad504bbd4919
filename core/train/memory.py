"""What a training step will need, measured on one picture before it starts."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

_ADAM = 6  # copies of trained weights: themselves, their gradient, two moments, the best so far and the one that takes its place


def graph_bytes(step: Callable[[], Tensor], without: Iterable[nn.Module] = ()) -> int:
    """Bytes that autograd keeps for the backward pass of ``step()``, each memory counted once, the weights of ``without`` not at all."""
    there = {p.untyped_storage().data_ptr() for m in without for p in m.parameters()}
    seen: dict[int, int] = {}

    def keep(value: Tensor) -> Tensor:
        store = value.untyped_storage()
        if store.data_ptr() not in there:
            seen[store.data_ptr()] = store.nbytes()
        return value

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda v: v):
        result = step()
    del result
    return sum(seen.values())


def needed(step: Callable[[], Tensor], batch: int, trained: nn.Module, frozen: Iterable[nn.Module] = ()) -> int:
    """Estimate in bytes of what training takes beside the frozen networks.

    Args:
        step: the loss on one picture.
        batch: pictures at a time.
        trained: what is trained.
        frozen: networks that are there anyway.
    """
    weights = sum(p.numel() * p.element_size() for p in trained.parameters())
    return batch * graph_bytes(step, (trained, *frozen)) + _ADAM * weights
