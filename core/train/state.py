"""A training run on disk, to go on later: one safetensors file of ours."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..own_file import read_own, write_own
from .fit import Fit

FORMAT, VERSION, MAX_BYTES = "hspace.training", 2, 2**35


def digest_of(*tensors: Tensor) -> str:
    """Twelve hex digits over every value, for the facts of a run."""
    digest = hashlib.sha256()
    for value in tensors:
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:12]


def save_state(path: Path | str, fit: Fit, facts: dict[str, Any]) -> Path:
    """Write a run; ``facts`` are compared when it is resumed."""
    state = fit.state()
    tensors = {f"{part}.{k}": v for part in ("module", "best", "carry") for k, v in state[part].items()}
    for number, slots in state["optimiser"]["state"].items():
        tensors |= {f"optimiser.{number}.{k}": torch.as_tensor(v, dtype=torch.float32) for k, v in slots.items() if v is not None}
    tensors["losses"] = torch.tensor(state["losses"], dtype=torch.float64).float()
    progress = {"i": state["i"], "smooth": state["smooth"] if state["i"] else 0.0}
    progress["least"] = state["least"] if math.isfinite(state["least"]) else None
    return write_own(path, tensors, {"format": FORMAT, "version": VERSION, "settings": facts, **progress})


def load_state(path: Path | str, fit: Fit, facts: dict[str, Any] | None) -> None:
    """Make ``fit`` go on where the run of a file stopped; ``facts`` None compares nothing.

    Raises:
        ValueError: not such a file, or a run with other settings.
    """
    tensors, found = read_own(path, FORMAT, VERSION, MAX_BYTES)
    if facts is not None and found.get("settings") != facts:
        other = sorted(k for k in facts if not isinstance(found.get("settings"), dict) or found["settings"].get(k) != facts[k])
        raise ValueError(f"{Path(path).name!r} belongs to a run with other settings ({', '.join(other)}); use those, or another name")
    try:

        def part(name: str) -> dict[str, Tensor]:
            return {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")}

        optimiser = fit.optimiser.state_dict()
        slots: dict[int, dict[str, Any]] = {}
        for key, value in part("optimiser").items():
            number, slot = key.split(".", 1)
            slots.setdefault(int(number), {})[slot] = value
        optimiser["state"] = slots
        fit.resume(
            {
                "module": part("module"), "best": part("best"), "optimiser": optimiser, "i": int(found["i"]),
                "losses": tensors["losses"].tolist(), "smooth": float(found["smooth"]), "carry": part("carry"),
                "least": math.inf if found["least"] is None else float(found["least"]),
            }
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{Path(path).name!r} does not fit this run: {str(error)[:200]}; start again under another name") from error
