"""Semantic image editing inside diffusion models: tensors in, tensors out; never imports ComfyUI.

Installed, this package is ``hspace``. Its five calls are ``load``, ``invert``, ``discover``, ``steer`` and ``measure``,
see :mod:`core.api`. PyTorch is imported by the first of them and not before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .stage import import_part

if TYPE_CHECKING:
    from .api import discover, invert, load, measure, steer

__all__ = ["discover", "invert", "load", "measure", "steer"]

_FUNCTIONS = ("load", "steer")
_STAGES = ("discover", "invert", "measure")


def __getattr__(name: str) -> Any:
    """Import one of the five calls when it is asked for."""
    if name in _FUNCTIONS:
        return getattr(import_part(".api"), name)
    if name in _STAGES:
        return import_part(f".{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
