"""Show foreign values in a few plain characters, and check foreign tensors and prompts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeGuard

import torch
from torch import Tensor

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_LONGEST = 60


def shown(value: Any) -> str:
    """Quote a value of any kind for an error: at most 60 plain characters."""
    if isinstance(value, Tensor):
        text = (
            "a nested tensor"
            if value.is_nested
            else f"a tensor {list(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
        )
    elif isinstance(value, (list, tuple, dict)):
        text = f"a {type(value).__name__} of {len(value)}"
    elif type(value) is int and value.bit_length() > 128:  # Python refuses to write out long ones
        text = f"a whole number of {value.bit_length()} bits"
    elif value is None or isinstance(value, (bool, int, float, str)):
        text = ascii(value)
    else:
        text = f"an object of type {ascii(type(value).__name__)[1:-1]}"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


@contextmanager
def named(name: str) -> Iterator[None]:
    """Make an error inside say of which input it speaks.

    Raises:
        ValueError: the error, behind the name.
    """
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def is_dense(value: Any, *ranks: int) -> TypeGuard[Tensor]:
    """Say whether a value is an ordinary tensor of real numbers, not empty, of one of these ranks (or of any)."""
    return is_real(value) and (not ranks or value.dim() in ranks) and 0 not in value.shape


def is_real(value: Any) -> TypeGuard[Tensor]:
    """Say whether a value is an ordinary tensor of floating point numbers."""
    return (
        isinstance(value, Tensor)
        and not value.is_nested
        and value.layout == torch.strided
        and value.device.type != "meta"
        and value.dtype in FLOATS
    )


def is_finite(value: Tensor) -> bool:
    """Say whether no value is NaN or infinite."""
    return bool(torch.isfinite(value).all())


def is_number(value: object) -> TypeGuard[int | float]:
    """Say whether a value is a finite number, and no truth value."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -1e30 < value < 1e30


def check_conditioning(value: object, name: str) -> None:
    """Refuse what is no CONDITIONING of the host: a list of ``[tensor [b n d], facts]``, at least one.

    Raises:
        ValueError: what was expected, what came, what to do.
    """
    remedy = "connect CLIP Text Encode, or another node that gives CONDITIONING"
    if not isinstance(value, list) or not value:
        raise ValueError(f"{name} must be a CONDITIONING of at least one prompt, got {shown(value)}; {remedy}")
    for i, entry in enumerate(value):
        if not isinstance(entry, (list, tuple)) or len(entry) != 2 or not isinstance(entry[1], dict):
            raise ValueError(
                f"{name} must hold pairs of a tensor and a dict, but entry {i} is {shown(entry)}; {remedy}"
            )
        for what, tensor, ranks in (
            ("its tensor", entry[0], (3,)),
            ("its pooled_output", entry[1].get("pooled_output"), (1, 2, 3)),
        ):
            if tensor is None and what == "its pooled_output":
                continue
            if not is_dense(tensor, *ranks):
                expected = "[prompts tokens width]" if ranks == (3,) else "[prompts width]"
                raise ValueError(
                    f"{name}: {what} must be {expected}, not empty, but in entry {i} it is {shown(tensor)}; {remedy}"
                )
            if not is_finite(tensor):
                raise ValueError(
                    f"{name} holds NaN or infinite values; encode the prompt again, in fp32 if half precision overflows"
                )
        _check_part(entry[1], f"{name} (entry {i})")


def _check_part(facts: dict, name: str) -> None:
    """Check what a prompt says of the part of the picture and of the steps that it holds for."""
    for key in ("start_percent", "end_percent", "strength", "mask_strength"):
        if key in facts and not is_number(facts[key]):
            raise ValueError(
                f"{name}: its {key} must be a finite number, got {shown(facts[key])}; set it again, or leave it out"
            )
    mask = facts.get("mask")
    area = facts.get("area")
    if mask is not None and not (is_dense(mask, 2, 3, 4) and is_finite(mask)):
        raise ValueError(
            f"{name}: its mask must be a finite MASK, got {shown(mask)}; connect Conditioning (Set Mask) again"
        )
    sides = area[1:] if isinstance(area, (list, tuple)) and area and area[0] == "percentage" else area
    if area is not None and not (isinstance(sides, (list, tuple)) and len(sides) == 4 and all(map(is_number, sides))):
        raise ValueError(
            f"{name}: its area must be height, width, y and x, got {shown(area)}; connect Conditioning (Set Area) again"
        )
