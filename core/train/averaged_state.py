"""The state file of a run with a moving average, of hours or days: one flat safetensors file (no paper).

``net.*`` are the weights, ``ema.*`` their moving average, ``m.*`` and ``v.*`` AdamW's moments; ``step``, ``seconds``
and ``settings`` are in its metadata. Nothing else is stored, so that data has to follow from the step alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from ..own_file import write_bytes
from ..stored import Header, all_finite, read_header
from ..text import cleaned, quoted
from .run import Run

_PARTS = ("net", "ema", "m", "v")


def save_averaged(path: Path, run: Run, settings: Mapping[str, Any]) -> Path:
    """Write the state of a run with a moving average; the file of before stays whole until the new one is."""
    tensors: dict[str, Tensor] = {}
    for name, weight in run.weights.items():
        moments = run.optimiser.state[weight]
        values = (weight, run.average[name], moments["exp_avg"], moments["exp_avg_sq"])
        for part, value in zip(_PARTS, values, strict=True):
            tensors[f"{part}.{name}"] = value.detach().cpu().contiguous()
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {"step": str(run.i), "seconds": f"{run.seconds:.1f}", "settings": json.dumps(settings)}
    write_bytes(path, save(tensors, facts))
    return path


@torch.no_grad()
def load_averaged(path: Path, run: Run, settings: Mapping[str, Any]) -> None:
    """Make ``run`` go on where that of a state file stopped.

    Raises:
        ValueError: it is of other settings, of another network, or no such file.
    """
    header, step, seconds, stored_settings = _read_header(path)
    _check_settings(path, settings, stored_settings)
    _check_shapes(path, run, header)
    state = load_file(path)
    if not all(all_finite(value) for value in state.values()):
        raise ValueError(f"{path} holds NaN or infinite values; name another file, or start without --resume")
    run.resume_at(step, seconds)
    for name, weight in run.weights.items():
        weight.copy_(state[f"net.{name}"])
        run.average[name].copy_(state[f"ema.{name}"])
        # Copied, as what was read is mapped and the next save replaces the file.
        run.optimiser.state[weight] = {
            "step": torch.tensor(float(step)),
            "exp_avg": state[f"m.{name}"].to(weight.device, copy=True),
            "exp_avg_sq": state[f"v.{name}"].to(weight.device, copy=True),
        }


def _read_header(path: Path) -> tuple[Header, int, float, dict[str, Any]]:
    """Read the shapes of a state file, its step, seconds and settings."""
    try:
        if not path.is_file():
            raise ValueError("there is no such file")
        with path.open("rb") as file:
            header = read_header(file, path.stat().st_size)
        facts = header.metadata
        settings = dict(json.loads(facts.get("settings", "{}")))
        return header, int(facts["step"]), float(facts["seconds"]), settings
    except (OSError, KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is not the state of a run ({cleaned(error, 200)}); start without --resume, or name another file"
        ) from error


def _check_settings(path: Path, settings: Mapping[str, Any], stored: Mapping[str, Any]) -> None:
    """Refuse another run; a setting that a file does not name yet is not compared."""
    other = sorted(name for name in settings.keys() & stored.keys() if settings[name] != stored[name])
    if other:
        was = ", ".join(f"{name} {quoted(stored[name])} and not {settings[name]}" for name in other)
        raise ValueError(f"{path} is of a run with other settings ({was}); use those, or another name")


def _check_shapes(path: Path, run: Run, header: Header) -> None:
    expected = {f"{part}.{name}": weight.shape for part in _PARTS for name, weight in run.weights.items()}
    stored = {name: torch.Size(value.shape) for name, value in header.tensors.items()}
    odd = sorted(name for name in stored.keys() | expected.keys() if stored.get(name) != expected.get(name))
    if odd:
        names = ", ".join(quoted(name)[1:-1] for name in odd[:3])
        raise ValueError(
            f"{path} is the state of another network ({names}); name another file, or start without --resume"
        )
