"""The host's modules and the pack's in this process, without a server."""

from __future__ import annotations

import sys
import types
from importlib import import_module
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
PACK = "hspace_pack"


def host(cpu: bool) -> None:
    """Make ``comfy`` importable, and the pack under :data:`PACK`: like the host, it has a top-level module called
    ``nodes``.
    """
    folder = ROOT / ".host" / "ComfyUI"
    if not folder.is_dir():
        raise SystemExit("the host is not there; run: python dev.py demo")
    sys.path.append(str(folder))
    sys.modules[PACK] = types.ModuleType(PACK)
    sys.modules[PACK].__path__ = [str(ROOT)]
    options = import_module("comfy.cli_args").args
    options.cpu, options.use_pytorch_cross_attention = cpu, True


def pack(name: str) -> ModuleType:
    """A module of the pack, such as ``nodes.host.model.run``."""
    return import_module(f"{PACK}.{name}")
