"""A training run on disk, to go on later: one safetensors file of ours."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..files.exchange import read, write
from ..files.kinds import TRAINING
from ..own_file import AnotherFile
from ..stored import same_shapes
from ..text import cleaned, quoted
from .averaged_state import load_averaged, save_averaged
from .run import Run

MAX_LOSSES = 1_000_000
_MOST_CARRIED = 2**24  # numbers of a picture's states between two steps


def digest_of(*tensors: Tensor) -> str:
    """Hash every value to twelve hex digits, for the facts of a run."""
    digest = hashlib.sha256()
    for value in tensors:
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:12]


def save_state(path: Path | str, run: Run, facts: Mapping[str, Any]) -> Path:
    """Write a run; ``facts`` are compared when it is resumed. A run with a moving average has a layout of its own."""
    if run.ema is not None:
        return save_averaged(Path(path), run, facts)
    state = run.state()
    tensors: dict[str, Tensor] = {}
    for part in ("module", "best", "carry"):
        tensors |= {f"{part}.{name}": value for name, value in state[part].items()}
    for number, slots in state["optimiser"]["state"].items():
        for slot, value in slots.items():
            if value is not None:
                tensors[f"optimiser.{number}.{slot}"] = torch.as_tensor(value, dtype=torch.float32)
    tensors["losses"] = torch.tensor(state["losses"], dtype=torch.float64).float()
    progress = {"i": state["i"], "smooth": state["smooth"] if state["i"] else 0.0}
    progress["least"] = state["least"] if math.isfinite(state["least"]) else None
    return write(path, TRAINING, {"settings": dict(facts), **progress}, tensors)


def load_state(path: Path | str, run: Run, facts: Mapping[str, Any] | None) -> None:
    """Make ``run`` go on where the run of a file stopped; ``facts`` None compares nothing.

    Raises:
        ValueError: not such a file, or a run with other settings.
    """
    path = Path(path)
    if run.ema is not None:
        return load_averaged(path, run, facts or {})
    stored, tensors = read(path, TRAINING, lambda stored, tensors: _check(path, run, stored, facts, tensors))
    try:
        run.resume(_state_from(tensors, stored, run.optimiser.state_dict()))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{path.name!r} does not fit this run: {cleaned(str(error), 200)}; start again under another name"
        ) from error


def _state_from(tensors: dict[str, Tensor], stored: dict[str, Any], optimiser: dict[str, Any]) -> dict[str, Any]:
    """Collect what :meth:`Run.resume` takes; ``optimiser`` gives the groups, which are not stored."""
    parts = _parts(tensors)
    slots: dict[int, dict[str, Any]] = {}
    for key, value in parts.get("optimiser", {}).items():
        number, slot = key.split(".", 1)
        slots.setdefault(int(number), {})[slot] = value
    return {
        "module": parts.get("module", {}),
        "best": parts.get("best", {}),
        "carry": parts.get("carry", {}),
        "optimiser": {**optimiser, "state": slots},
        "losses": tensors["losses"].tolist(),
        "i": int(stored["i"]),
        "smooth": float(stored["smooth"]),
        "least": math.inf if stored["least"] is None else float(stored["least"]),
    }


def _parts(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Group tensors by the first word of their name, under the rest of it."""
    parts: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        part, _, name = key.partition(".")
        parts.setdefault(part, {})[name] = value
    return parts


def _check(
    path: Path, run: Run, stored: dict[str, Any], facts: Mapping[str, Any] | None, tensors: dict[str, Tensor]
) -> None:
    """Refuse a run with other settings, or of another module; the tensors are without values."""
    settings = stored.get("settings")
    if facts is not None and settings != facts:
        known = settings if isinstance(settings, dict) else {}
        other = sorted(name for name in facts if name not in known or known[name] != facts[name])
        raise AnotherFile(
            f"{path.name!r} belongs to a run with other settings ({', '.join(other)}); use those, or another name"
        )
    try:
        _check_shapes(run, tensors)
    except (KeyError, TypeError, ValueError) as error:
        raise AnotherFile(
            f"{path.name!r} does not fit this run: {cleaned(error)}; start again under another name"
        ) from error


def _check_shapes(run: Run, tensors: dict[str, Tensor]) -> None:
    module = run.module.state_dict()
    parts = _parts(tensors)
    same_shapes(module, parts.get("module", {}))
    if best := parts.get("best", {}):
        same_shapes(module, best)
    trained = [p for group in run.optimiser.param_groups for p in group["params"]]
    for name, value in parts.get("optimiser", {}).items():
        number = int(name.partition(".")[0])
        if not 0 <= number < len(trained) or value.shape not in (trained[number].shape, torch.Size()):
            raise ValueError(f"the optimiser's {quoted(name)} is of another network")
    losses = tensors["losses"]
    longest = max(run.total, MAX_LOSSES)
    carried = sum(v.numel() for v in parts.get("carry", {}).values())
    most = sum(v.numel() for v in module.values()) + _MOST_CARRIED
    if losses.dim() != 1 or len(losses) > longest or carried > most:
        raise ValueError("it holds more than a run of this length can")
