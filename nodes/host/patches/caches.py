"""Step caches: nodes that answer some calls of a sampler's run from earlier ones. What they answer is no prediction of
the network.

Nodes that look at a network (inversions, Discover, training: all that runs in ``with_denoiser``) take the host's own
caches off a clone, refuse those of other packs by name, and where there are wrappers that nobody knows ask again for
some of the answers, each in a run of its own. In a sampler a cache is the user's wish, so it stays; a second call of
the same step gets a holder of its own, or none.

========================  =============================================================================================
cache                     known by
========================  =============================================================================================
EasyCache, LazyCache      wrappers of the keys ``easycache``, ``lazycache``; transformer option ``easycache`` (ComfyUI)
TeaCache                  transformer options ``rel_l1_thresh``, ``enable_teacache`` (ComfyUI-TeaCache and its kin)
MagCache                  transformer options ``magcache_...``, ``enable_magcache`` (ComfyUI-MagCache)
First Block Cache         code in a module ``fbcache_nodes`` or ``first_block_cache`` (Comfy-WaveSpeed and its kin)
========================  =============================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from ..types import Model

KEYS = ("easycache", "lazycache")
_HOLDER = "easycache"
_FOREIGN = {
    "teacache": "TeaCache",
    "rel_l1_thresh": "TeaCache",
    "magcache": "MagCache",
    "fbcache": "First Block Cache",
    "first_block_cache": "First Block Cache",
    "wavespeed": "First Block Cache",
    "dicache": "DiCache",
    "cache_dit": "Cache-DiT",
}
NEUTRAL = ("hspace", "torch.compile", *KEYS)
"""Beginnings of keys of wrappers that are no edits: ours say by themselves what they do."""
_KNOWN = ("hspace", "torch.compile", "ContextWindows")  # of wrappers that answer every call
_ASKED = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89)  # numbers of the calls that are asked again
_APART = 1e-3
_HALF_APART = 3e-2


def _codes(model: Model) -> Iterator[tuple[Any, Callable]]:
    """Keys and functions that stand around the network of a MODEL."""
    inside = model.model_options.get("transformer_options", {})
    for wrappers in (model.wrappers, inside.get("wrappers", {})):
        yield from ((key, one) for kind in wrappers.values() for key, those in kind.items() for one in those)
    if (wrapper := model.model_options.get("model_function_wrapper")) is not None:
        yield None, wrapper


def foreign_cache(model: Model) -> str | None:
    """Name of another pack's step cache on a MODEL."""
    names = [str(k) for k in model.model_options.get("transformer_options", {})]
    for key, code in (*_codes(model), *model.object_patches.items()):
        function = getattr(code, "__func__", code)
        names += [
            str(key),
            f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__qualname__)}",
        ]
    return next((what for mark, what in _FOREIGN.items() if any(mark in name.lower() for name in names)), None)


def without_caches(model: Model):
    """A clone of MODEL without step caches; the MODEL itself if it has none.

    Raises:
        ValueError: it carries another pack's cache.
    """
    name = foreign_cache(model)
    if name is not None:
        raise ValueError(
            f"this MODEL carries a step cache ({name}), which answers some calls from earlier ones; inversions and"
            f" analyses need every answer from the network: connect the MODEL from before {name} here (the sampler may"
            " keep it)"
        )
    inside = model.model_options.get("transformer_options", {})
    if _HOLDER not in inside and not any(key in KEYS for key, _ in _codes(model)):
        return model
    clone = model.clone()
    for kind in clone.wrappers:
        for key in KEYS:
            clone.remove_wrappers_with_key(kind, key)
    clone.model_options["transformer_options"].pop(_HOLDER, None)
    return clone


def check_second_calls(model: Model, what: str) -> None:
    """Refuse another pack's cache where a step asks the network more than once.

    Raises:
        ValueError: there is one.
    """
    name = foreign_cache(model)
    if name is not None:
        raise ValueError(
            f"{what} asks the network twice a step, which the step cache on this MODEL ({name}) would mix up; take"
            f" {name} off"
        )


def resting(inside: dict[str, Any]) -> dict[str, Any]:
    """Transformer options with which the host's caches let a call through, and forget that it was."""
    return with_holder(inside, second_holder(inside), end_t=math.inf)


def second_holder(inside: dict[str, Any]) -> Any:
    """A holder of the host's caches for further calls of every step, kept for a run; None without a cache."""
    holder = inside.get(_HOLDER)
    if holder is None:
        return None
    second = holder.clone()
    second.start_t = holder.start_t
    second.end_t = holder.end_t
    return second


def with_holder(inside: dict[str, Any], holder: Any, **values: float) -> dict[str, Any]:
    """Transformer options with what :func:`second_holder` gave, on which ``values`` are set."""
    if holder is None:
        return inside
    for name, value in values.items():
        setattr(holder, name, value)
    return {**inside, _HOLDER: holder}


class Witness:
    """Some answers of a run, asked for again where wrappers that nobody knows stand around the network.

    Attributes:
        active: whether there are such wrappers.
    """

    def __init__(self, model: Model):
        self.active = any(key is None or not str(key).startswith(_KNOWN) for key, _ in _codes(model))
        self._count = 0
        self._answers: list[tuple[Callable[[Any, Tensor], Tensor], Tensor, Tensor]] = []

    def note(self, ask: Callable[[Any, Tensor], Tensor], x: Tensor, answer: Tensor) -> Tensor:
        """Keep what ``ask(denoiser, x)`` will be compared with; returns ``answer``."""
        if self.active and not torch.is_grad_enabled():
            if self._count in _ASKED:
                self._answers.append((ask, x.detach().clone(), answer.detach().clone()))
            self._count += 1
        return answer

    def check(self, fresh: Callable[[Callable[[Any], Tensor]], Tensor], half: bool) -> None:
        """Ask again.

        Args:
            fresh: calls its argument with a denoiser in a run of its own, where no cache can hold anything yet.
            half: the network runs in half precision.

        Raises:
            ValueError: an answer was another.
        """
        for ask, x, answer in self._answers:
            again = fresh(lambda model, ask=ask, x=x: ask(model, x))
            error = float((again - answer).abs().max() / again.abs().max().clamp_min(1e-6))
            if not error <= (_HALF_APART if half else _APART):
                raise ValueError(
                    f"the network answers otherwise when it is asked again at the same state (off by {error:.1e}): a"
                    " step cache of another pack, or a patch that draws random numbers, is on this MODEL. Connect the"
                    " MODEL from before it; the sampler may keep it"
                )
