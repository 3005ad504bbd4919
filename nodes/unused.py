"""Inputs that cannot act in the setting that a node is in: hidden in the editor, and refused by name if they are set all
the same, so that no dial is turned for nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from .host.api import Node

ONLY_WITH = "hspace_only_with"
"""Key of an input's declaration that ``web/hidden_dials.js`` reads."""
_NONE: Mapping[str, Any] = MappingProxyType({})
Declared = TypeVar("Declared")


def only_with(declared: Declared, **settings: Iterable[str]) -> Declared:
    """Say in which settings an input acts; the editor hides it in all others while it is at its default.

    Args:
        declared: an input.
        settings: for each combo that decides, the options with which the input acts.

    Returns:
        a copy of the input that knows them.
    """
    marked: Any = copy.copy(declared)
    marked.extra_dict = {**marked.extra_dict, ONLY_WITH: {name: list(options) for name, options in settings.items()}}
    return marked


def refuse_unused(
    node: type[Node], why: str, *, instead: str = "", former: Mapping[str, Any] = _NONE, **given: Any
) -> None:
    """Refuse inputs that are away from their defaults, or connected, where they cannot act.

    A value that asks for what happens anyway (a switch that turns off what is off) is not ignored: leave it out.

    Args:
        node: whose schema knows the defaults; a socket's is None.
        why: what they belong to, and where that is set; completes "tau ...".
        instead: what else can be done about it than to put the default back.
        former: defaults of earlier versions, which saved workflows hold without anybody having turned the dial.
        given: inputs by id.

    Raises:
        ValueError: one of them is not at its default.
    """
    other = f"{instead}, or " if instead else ""
    for declared in (node.SCHEMA or node.define_schema()).inputs if given else ():
        if declared.id not in given or (value := given[declared.id]) is None:
            continue
        default = neutral(declared)
        if default is None:
            raise ValueError(f"'{declared.id}' is connected, but it {why}; {other}disconnect it")
        if value not in (default, former.get(declared.id, default)):
            raise ValueError(
                f"'{declared.id}' is {_shown(value)}, but it {why}; {other}set it back to {_shown(default)}"
            )


def neutral(declared: Any) -> Any:
    """Default of an input: the first option of a combo that names none, None for a socket."""
    default, options = getattr(declared, "default", None), getattr(declared, "options", None)
    return options[0] if default is None and options else default


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else repr(value)[:60]
