"""Weights held in place while something is differentiated."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

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
