"""Weights held in place while something is differentiated, and room beside them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

import comfy.model_management
from torch import nn

from .model.blocks import beside_blocks, blocks_of, together

_FORWARDS = 5  # passes of the network whose memory a product of one vector takes beside the weights of a part of it
_FLOAT32 = 4  # bytes
_SHARE = 0.7  # of the free memory that a batch may take: the host's figure is an estimate
_DELEGATES: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


def hold_in_place(patcher):
    """A clone of a ModelPatcher whose weights the host does not page in and out: a kept graph would refer to memory
    given away.

    Raises:
        ValueError: the host cannot load this model in another way.
    """
    if not getattr(patcher, "is_dynamic", bool)():
        return patcher.clone()
    # The host loads such a model anew; clones share it.
    patcher.non_dynamic_delegate_model = _DELEGATES.get(patcher.model, patcher.non_dynamic_delegate_model)
    try:
        delegate = patcher.get_non_dynamic_delegate()
    except RuntimeError as error:
        raise ValueError(
            f"the host cannot hold this model in place for derivatives ({error}); load it with a stock loader, or start"
            " ComfyUI with --highvram"
        ) from error
    _DELEGATES[patcher.model] = patcher.non_dynamic_delegate_model
    return delegate


def rows_at_once(patcher, shape, most: int) -> int:
    """How many pictures go through the network at a time: ``most``, or as many as fit beside the weights.

    Args:
        patcher: MODEL.
        shape: of one picture's state, `(c, h, w)`.
        most: beyond which nothing is gained.
    """
    missing = max(0, patcher.model_size() - patcher.loaded_size())
    free: Any = comfy.model_management.get_free_memory(patcher.load_device)
    one = max(1.0, patcher.memory_required([1, *shape]))
    return max(1, min(most, int(_SHARE * (free - missing) / one)))


def product_passes(patcher, shape) -> int:
    """Forward passes of ``shape`` whose memory one Jacobian product takes: what the host is asked for when it loads.

    The weights of one part of the network are float32 meanwhile. What more vectors take is asked for once it is known,
    by :class:`Room`.
    """
    forward = max(1.0, patcher.memory_required(list(shape)))
    return _FORWARDS + math.ceil(_largest_part(patcher.model.diffusion_model) * _FLOAT32 / forward)


def _largest_part(net: nn.Module) -> int:
    """Numbers in the weights of the largest block of the decoder, of as many blocks of a transformer as go together, or
    of a network that has no such list.
    """
    sizes = sorted(_numbers(block.module) for block in blocks_of(net))
    if sizes:
        return sum(sizes[-together(len(sizes)) :]) + sum(map(_numbers, beside_blocks(net)))
    blocks = getattr(net, "output_blocks", None)
    parts: Iterable[nn.Module] = net.children() if blocks is None else blocks
    return max(map(_held_at_once, parts), default=0)


def _held_at_once(part: nn.Module) -> int:
    """Numbers in the weights of a block; of a chain of transformers, which go one by one, those of the largest."""
    numbers = _numbers(part)
    for layer in part.children():
        sizes = [_numbers(one) for one in getattr(layer, "transformer_blocks", ())]
        numbers -= sum(sizes) - max(sizes, default=0)
    return numbers


def _numbers(part: nn.Module) -> int:
    return sum(math.prod(p.shape) for p in part.parameters())


class Room:
    """Has the host unload models, other than those that a run uses, until so many bytes are free.

    Args:
        models: ModelPatchers of the run; the first says where.
    """

    def __init__(self, *models: Any):
        self.models = models

    def beside(self, *models: Any) -> Room:
        """The same for a run that uses further models."""
        return Room(*self.models, *models)

    def __call__(self, needed: int) -> None:
        """Ask for so many bytes where the first of the models computes."""
        device = self.models[0].load_device
        if device.type == "cpu":  # what is unloaded stays in the same memory
            return
        host = comfy.model_management
        networks = {id(patcher.model) for patcher in self.models}
        kept = [one for one in host.current_loaded_models if one.model is not None and id(one.model.model) in networks]
        host.free_memory(needed + host.extra_reserved_memory(), device, keep_loaded=kept)
