"""What comes into a node, held against its schema before it runs: the host checks what is typed into widgets, and
nothing that is linked.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any

from comfy_api.latest import io

from ...core.foreign import shown
from .socket_checks import FORMATS, NOTHING, SOCKETS

CHECKS = "checks_inputs"  # mark of an ``execute`` that does
_QUICK = {"INT", "FLOAT", "BOOLEAN", "STRING", "COMBO"}  # are checked first
_LONGEST = 1_000_000  # characters of a text


def checked(execute: Callable[..., Any]) -> Callable[..., Any]:
    """``execute`` of a node, its inputs checked before it runs.

    Raises:
        ValueError: an input that the schema does not allow; it is named.
    """
    signature = inspect.signature(execute)

    @functools.wraps(execute)
    def run(cls: type[io.ComfyNode], *args: Any, **kwargs: Any) -> Any:
        schema = cls.SCHEMA or cls.define_schema()  # the host locks the class that runs
        given = list(_given(schema, signature.bind(cls, *args, **kwargs)))
        for declared, value, absent in sorted(given, key=lambda one: one[0].io_type not in _QUICK):
            if value is None:
                _check_absence(declared, absent)
            elif declared.io_type == "COMBO":
                _check_choice(cls, declared, value)
            else:
                check_input(declared, value)
        return execute(cls, *args, **kwargs)

    setattr(run, CHECKS, True)
    return run


def check_input(declared: io.Input, value: Any) -> None:
    """Refuse a value that the input does not allow.

    Raises:
        ValueError: what was expected, what came, what to do.
    """
    if isinstance(declared, (io.Int.Input, io.Float.Input)):
        _check_number(declared, value)
    elif isinstance(declared, io.Boolean.Input):
        if not isinstance(value, bool):
            raise ValueError(f"{declared.id} must be true or false, got {shown(value)}; connect or choose one")
    elif isinstance(declared, io.String.Input):
        _check_text(declared.id, value)
    elif isinstance(declared, io.MultiType.Input):
        form = value.get("format") if isinstance(value, dict) else None
        SOCKETS[FORMATS.get(form if isinstance(form, str) else "", "LORA_MODEL")](value, declared.id)
    else:
        SOCKETS[declared.io_type](value, declared.id)


def _given(schema: io.Schema, bound: inspect.BoundArguments) -> Iterator[tuple[io.Input, Any, Any]]:
    """Each input that came, one by one where a node takes lists: its value, and what ``execute`` takes if it is not
    connected.
    """
    parameters = bound.signature.parameters
    given = dict(bound.arguments)
    for parameter in parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            given.update(given.pop(parameter.name, {}))
    for declared in schema.inputs:
        if declared.id not in given:
            continue
        value = given[declared.id]
        absent = getattr(parameters.get(declared.id), "default", inspect.Parameter.empty)
        if not schema.is_input_list or value is absent:
            yield declared, value, absent
        elif not isinstance(value, (list, tuple)) or not value:
            raise ValueError(
                f"{declared.id} must come as a list of at least one, got {shown(value)}; connect or type one"
            )
        else:
            yield from ((declared, one, absent) for one in value)


def _check_absence(declared: io.Input, absent: Any) -> None:
    """None passes where that is what ``execute`` takes for an input that is not connected."""
    if absent not in (None, (None,)):
        nothing = NOTHING.get(declared.io_type, f"connect {declared.id} elsewhere")
        raise ValueError(f"{declared.id} came as None, from a node that gave nothing there; {nothing}")


def _check_number(declared: io.Int.Input | io.Float.Input, value: Any) -> None:
    whole = isinstance(declared, io.Int.Input)
    kind = "a whole number" if whole else "a number"
    good = not isinstance(value, bool) and isinstance(value, int if whole else (int, float))
    if not good or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(f"{declared.id} must be {kind}, got {shown(value)}; connect or type one")
    low = declared.min
    high = declared.max
    if (low is not None and value < low) or (high is not None and value > high):
        raise ValueError(
            f"{declared.id} must lie in {low}..{high}, got {shown(value)}; connect or type a number in that range"
        )


def _check_text(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a text, got {shown(value)}; connect or type one")
    if len(value) > _LONGEST:
        raise ValueError(f"{name} must be a text of at most {_LONGEST} characters, got {len(value)}; shorten it")
    bad = next((c for c in value if c == "\0" or "\ud800" <= c <= "\udfff"), None)
    if bad is not None:
        raise ValueError(f"{name} must be a text of readable characters, got {bad!a} in it; type it again")


def _check_choice(cls: type[io.ComfyNode], declared: io.Input, value: Any) -> None:
    """A choice must be among the options, as they are now: those of files grow while the host runs."""
    options = getattr(declared, "options", None) or []
    if not isinstance(value, str) or value not in options:
        fresh = next(i for i in cls.define_schema().inputs if i.id == declared.id)
        options = getattr(fresh, "options", None) or []
    if not isinstance(value, str) or value not in options:
        some = ", ".join(ascii(o)[1:-1][:60] for o in options[:12]) or "there is none yet"
        raise ValueError(f"{declared.id} must be one of its options ({some}), got {shown(value)}; choose one")
