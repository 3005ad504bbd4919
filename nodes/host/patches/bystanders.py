"""What other nodes have put on a MODEL, by the names that users know, for messages; and whether the MODEL answers twice
alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from ..types import Model

_FUNCTIONS = (
    "sampler_pre_cfg_function",
    "sampler_post_cfg_function",
    "sampler_cfg_function",
    "sampler_calc_cond_batch_function",
    "model_function_wrapper",
)
_OURS = __name__.rpartition(".")[0].rpartition(".")[0]
_AMBIGUOUS = (  # what PyTorch says of `if sigma < ...:` for a batch; stock RenormCFG does
    "more than one value is ambiguous"
)
_DRAWN = "calling .item() on a Tensor"  # what PyTorch says of it
_APART = 1e-4
_HALF_APART = 3e-2


def bystanders(model: Model) -> list[str]:
    """Names of the nodes whose functions are on a MODEL; of unknown ones what their code is called. Ours are left
    out.
    """
    return list(dict.fromkeys(filter(None, map(_named, _functions(model)))))


def foreign_functions(model: Model) -> list[Any]:
    """The functions of other packs on a MODEL, replaced parts of it included; ours are left out."""
    return [one for one in (*_functions(model), *model.object_patches.values()) if _named(one) is not None]


def among(model: Model) -> str:
    """They in a message: " (on this MODEL: HyperTile, FreeU)"."""
    names = bystanders(model)
    return f" (on this MODEL: {', '.join(names[:6])})" if names else ""


@contextmanager
def naming_bystanders(model: Model, rows: int) -> Iterator[None]:
    """Name the nodes on a MODEL if one of them fails: it is made for one picture at a time, or draws numbers where
    derivatives are taken.

    Args:
        model: MODEL.
        rows: pictures at a time.

    Raises:
        RuntimeError: it did.
    """
    try:
        yield
    except RuntimeError as error:
        if _DRAWN in str(error):
            raise RuntimeError(
                f"a node on this MODEL{among(model)} draws numbers inside of the network (HyperTile does), which"
                " derivatives cannot follow; take it off the MODEL here (it may stay on the sampler's)"
            ) from error
        if rows < 2 or _AMBIGUOUS not in str(error):
            raise
        raise RuntimeError(
            f"a node of the guidance on this MODEL takes one picture at a time{among(model)}, and this is a batch of"
            f" {rows} (a pair, or the frames of a morph, are a batch too); take it off this MODEL. It said: {error}"
        ) from error


def _functions(model: Model) -> Iterator[Any]:
    options = model.model_options
    inside = options.get("transformer_options", {})
    for kind in _FUNCTIONS:
        functions = options.get(kind, ())
        yield from functions if isinstance(functions, (list, tuple)) else (functions,)
    for those in inside.get("patches", {}).values():
        yield from (one[1] if isinstance(one, tuple) else one for one in those)
    for kind in inside.get("patches_replace", {}).values():
        yield from kind.values()
    for wrappers in (model.wrappers, inside.get("wrappers", {})):
        yield from (one for kind in wrappers.values() for those in kind.values() for one in those)
    yield options.get("context_handler")


def _named(function: Any) -> str | None:
    if function is None:
        return None
    code = getattr(function, "__func__", function)
    module = getattr(code, "__module__", None) or type(code).__module__
    if module.startswith(_OURS):
        return None
    name = getattr(code, "__qualname__", type(code).__qualname__)
    # Nodes make their functions where they run: "HyperTile.execute.<locals>.hypertile_in".
    return name.partition(".")[0] if ".<locals>." in name else f"{re.split(r'[./]', module)[-1]}.{name}"


def check_steady(model: Model, first: Tensor, second: Tensor) -> None:
    """Refuse a MODEL whose answers to one question differ.

    Args:
        model: MODEL.
        first, second: what it answered, `[b c h w]`.

    Raises:
        ValueError: they differ by more than rounding; the nodes on it are named.
    """
    apart = float((first - second).abs().max() / first.abs().max().clamp_min(1e-6))
    if not apart <= (_APART if model.model.get_dtype_inference().itemsize >= 4 else _HALF_APART):
        raise ValueError(
            f"this MODEL answers the same question differently each time (by {apart:.1e} of its range){among(model)}: a"
            " node upstream draws random numbers or keeps a memory from step to step, as HyperTile, TomePatchModel and"
            " APG with a momentum do. What is found by looking at it would hold for one moment only; take that node"
            " off the MODEL here (it may stay on the sampler's)"
        )
