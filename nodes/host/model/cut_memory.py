"""Which cuts of a MODEL were compared with the whole and passed, remembered from run to run.

What is remembered lies with the model that all clones come from, and goes with it. A cut counts as known where nothing
has changed that it could depend on: the weights and what replaces parts of them, every function of other packs on the
MODEL (the very same one, not one of the same name), the layer, the kernels and the size of the picture. With a
ControlNet, GLIGEN or hooks on a prompt nothing is remembered beyond the run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary, ref

from ..patches.bystanders import foreign_functions
from .sampler_call import SamplerCall

_Key = tuple[Any, ...]
_PASSED: WeakKeyDictionary[Any, list[_Key]] = WeakKeyDictionary()
_KEPT = 64  # a model
_ON_PROMPTS = ("control", "gligen", "hooks")


class CutMemory:
    """Cuts of one MODEL under its prompts.

    Args:
        call: of a sampler, of the MODEL.
        fingerprint: of the MODEL.
    """

    def __init__(self, call: SamplerCall, fingerprint: str):
        facts = _facts(call)
        self._passed = [] if facts is None else _PASSED.setdefault(_origin(call.patcher), [])
        self._facts = (fingerprint, *(facts or ()))

    def knows(self, *cut: Any) -> bool:
        """Whether a cut (layer, kernels, size of the picture) has passed."""
        return (*self._facts, *cut) in self._passed

    def keep(self, *cut: Any) -> None:
        """Remember that it has."""
        self._passed.append((*self._facts, *cut))
        del self._passed[:-_KEPT]


def _origin(patcher: Any) -> Any:
    """The model that a clone comes from."""
    while getattr(patcher, "parent", None) is not None:
        patcher = patcher.parent
    return patcher


def _facts(call: SamplerCall) -> _Key | None:
    """All else that a cut could depend on; None where it cannot be told whether it is the same again."""
    prompts = [prompt for side in call.conds.values() for prompt in side]
    if any(prompt.get(name) is not None for prompt in prompts for name in _ON_PROMPTS):
        return None
    given = tuple(tuple(sorted(prompt.get("model_conds", ()))) for prompt in prompts)
    net = call.patcher.model.diffusion_model
    # Some packs put their own in the place of the network's, without the host's patch points.
    forwards = [
        vars(owner)[name] for owner in (type(net), net) for name in ("forward", "_forward") if name in vars(owner)
    ]
    try:
        functions = tuple(_Same(ref(function)) for function in (*forwards, *foreign_functions(call.patcher)))
    except TypeError:  # it cannot be referred to without holding it
        return None
    return given, call.cfg, functions


@dataclass(frozen=True, eq=False)
class _Same:
    """Equal to another one as long as both refer to the very same living object."""

    to: ref

    def __eq__(self, other: object) -> bool:
        """See the class."""
        return isinstance(other, _Same) and self.to() is other.to() and self.to() is not None

    __hash__ = None  # pyright: ignore[reportAssignmentType]
