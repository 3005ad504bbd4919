"""Which ComfyUI the pack needs: found out before anything of it is used, and said in one line."""

from __future__ import annotations

import inspect
import re
from importlib import import_module

FLOOR = "0.22.0"
"""The oldest ComfyUI on which the pack is known to work. ``requires-comfyui`` in pyproject.toml says the same to the
registry."""

_UPDATE = (
    'update ComfyUI (its own updater or the Manager\'s "Update ComfyUI"; in a clone: git pull, then pip install -r'
    " requirements.txt)"
)


def check_host() -> None:
    """Refuse a ComfyUI that lacks what the pack uses.

    Raises:
        RuntimeError: it is older than :data:`FLOOR`, or a part is missing; which one it is, which is needed, how to
            update.
    """
    version = _version()
    if version and _numbers(version) < _numbers(FLOOR):
        raise RuntimeError(f"ComfyUI-HSpace needs ComfyUI {FLOOR} or newer, but this is {version}; {_UPDATE}")
    missing = _missing()
    if missing:
        raise RuntimeError(
            f"ComfyUI-HSpace needs ComfyUI {FLOOR} or newer; this one ({version or 'of unknown version'}) lacks"
            f" {missing}; {_UPDATE}"
        )


def _version() -> str:
    try:
        return str(import_module("comfyui_version").__version__)
    except (ImportError, AttributeError):
        return ""


def _numbers(version: str) -> tuple[int, ...]:
    """The first three numbers; what cannot be read counts as new enough, and the parts decide."""
    match = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", version)
    return tuple(int(n or 0) for n in match.groups()) if match else (10**9,)


def _missing() -> str:
    """The first part that is not there, or nothing."""
    try:
        if "advanced" not in inspect.signature(import_module("comfy_api.latest").io.Combo.Input).parameters:
            return "inputs that are marked as advanced"
        if not hasattr(import_module("comfy.model_patcher").ModelPatcher, "set_model_middle_block_after_patch"):
            return "the patch point behind a U-Net's middle block"
        if not hasattr(import_module("comfy_execution.utils"), "get_executing_context"):
            return "the context of the node that runs"
    except (ImportError, AttributeError) as error:
        return f"a part of its API ({error})"
    return ""
