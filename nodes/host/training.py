"""The one way out of the host's inference mode: weights that a gradient may run through, and everything put back afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ...core.trajectory import Trajectory
from .denoiser import Prompts, with_denoiser

T = TypeVar("T")


def ordinary(value: Tensor) -> Tensor:
    """A tensor made in inference mode as one that autograd may save: the same memory, no copy."""
    if not value.is_inference():
        return value
    alias = torch.empty(0, dtype=value.dtype, device=value.device)
    return alias.set_(value.untyped_storage(), value.storage_offset(), value.size(), value.stride())


@contextmanager
def gradients(*modules: nn.Module) -> Iterator[None]:
    """Inside, autograd works, and the weights of ``modules`` are ordinary and frozen. They are swapped where they lie, after loading."""
    swapped: list[tuple[dict[str, Any], str, Tensor]] = []
    with torch.inference_mode(False):
        try:
            for module in (part for m in modules for part in m.modules()):
                stores: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
                for store in stores:
                    for name, value in store.items():
                        if value is None or not value.is_inference():
                            continue
                        swapped.append((store, name, value))
                        alias: Any = ordinary(value.detach())
                        store[name] = nn.Parameter(alias, requires_grad=False) if store is module._parameters else alias
            yield
        finally:
            for store, name, value in reversed(swapped):
                store[name] = value


def with_training(model, shape: torch.Size | tuple[int, ...], prompts: Prompts, work: Callable[..., T]) -> T:
    """As :func:`with_denoiser`, for work that trains something beside the frozen MODEL.

    Args:
        model: MODEL.
        shape: of the largest batch.
        prompts: what the model is conditioned on.
        work: called with the denoiser, outside of inference mode. Further networks that a gradient runs through it wraps in
            :func:`gradients` itself.
    """

    def inside(denoiser):
        with gradients(model.model.diffusion_model):
            return work(denoiser)

    return with_denoiser(model, shape, prompts, inside, gradients=True)


def ordinary_path(path: Trajectory, device: torch.device) -> Trajectory:
    """A trajectory whose tensors autograd may save, on a device."""
    moved = path.to(device)
    return replace(moved, **{k: ordinary(v) for k, v in vars(moved).items() if isinstance(v, Tensor)})


def networks_of(embedder) -> list[nn.Module]:
    """What a gradient runs through in an embedder: itself, or the host's picture tower."""
    return [embedder] if isinstance(embedder, nn.Module) else [embedder.network]
