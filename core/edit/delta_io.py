"""Files of trained shifts: ours (safetensors), and the released ones of Asyrp (arXiv 2210.10960) through the one reader.

Ours: tensors ``delta.*`` (``block.*`` and ``step.*``, or ``shifts`` and ``levels``); facts ``format`` "hspace.delta", ``version`` 1,
``kind`` (ddpm, guided or table), ``ddpm_step`` (which step embedding), ``fingerprint``, ``layer``,
``sigma_edit``, ``sigma_boost``, ``steps``, ``label`` and ``extra``.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..networks.delta import Delta, DeltaTable, form_of
from ..networks.read import read_tensors
from ..networks.step import StepEmbedding
from ..own_file import filled, read_own, write_own
from .delta import TrainedDelta

FORMAT, VERSION, MAX_BYTES = "hspace.delta", 1, 256 * 2**20
RELEASED_STEPS = 40
_LAYER, _FINGERPRINT = re.compile(r"middle|up\.\d{1,3}"), re.compile(r"[0-9a-f]{6,64}")


def save_delta(path: Path | str, trained: TrainedDelta, half: bool = True) -> Path:
    """Write a trained shift, as float16 unless told otherwise. The file appears complete or not at all.

    Raises:
        ValueError: weights that are not finite.
    """
    facts = delta_to_payload(trained)
    tensors = facts.pop("tensors")
    return write_own(path, {f"delta.{k}": v.half() if half and "levels" not in k else v for k, v in tensors.items()}, facts)


def load_delta(path: Path | str) -> TrainedDelta:
    """Read a file of :func:`save_delta`.

    Raises:
        ValueError: not such a file, damaged, or with values that cannot be.
    """
    tensors, facts = read_own(path, FORMAT, VERSION, MAX_BYTES)
    try:
        return delta_from_payload({**facts, "tensors": {k.removeprefix("delta."): v for k, v in tensors.items()}})
    except ValueError as error:
        raise ValueError(f"{Path(path).name!r}: {error}") from error


def delta_to_payload(trained: TrainedDelta) -> dict[str, Any]:
    """What goes onto an ``HSPACE_DELTA`` socket: the facts named above, and ``tensors`` by name, float32."""
    kind = "table" if isinstance(trained.delta, DeltaTable) else trained.delta.form
    return {
        "format": FORMAT, "version": VERSION, "kind": kind, "fingerprint": trained.fingerprint, "layer": trained.layer,
        "sigma_edit": trained.sigma_edit, "sigma_boost": trained.sigma_boost, "steps": trained.steps, "label": trained.label,
        "extra": trained.extra, "ddpm_step": isinstance(trained.delta, Delta) and trained.delta.step.ddpm,
        "tensors": {k: v.detach().float().cpu() for k, v in trained.delta.state_dict().items()},
    }  # fmt: skip


def delta_from_payload(payload: object) -> TrainedDelta:
    """The trained shift that came in on a socket.

    Raises:
        ValueError: anything else, or damaged.
    """
    if not isinstance(payload, dict) or payload.get("format") != FORMAT or payload.get("version") != VERSION:
        raise ValueError(
            f"expected a trained edit ({FORMAT}, version {VERSION}); connect Train Asyrp, Load Trained Edit or Load Asyrp Checkpoint"
        )
    try:
        facts, state = payload, payload["tensors"]
        numbers = [facts[k] for k in ("sigma_edit", "sigma_boost")]
        good = (
            all(isinstance(v, (int, float)) and math.isfinite(v) and 0 <= v <= 1e6 for v in numbers)
            and type(facts["steps"]) is int and 1 <= facts["steps"] <= 100_000
            and isinstance(facts["layer"], str) and _LAYER.fullmatch(facts["layer"])
            and isinstance(facts["fingerprint"], str) and _FINGERPRINT.fullmatch(facts["fingerprint"])
            and isinstance(facts["label"], str) and len(facts["label"]) <= 300 and facts["label"].isprintable()
            and isinstance(facts["extra"], dict)
        )  # fmt: skip
        if not good:
            raise ValueError("its metadata is out of range")
        made: Delta | DeltaTable
        if facts["kind"] == "table":
            made = DeltaTable(state["shifts"], state["levels"])
        elif facts["kind"] in ("ddpm", "guided"):
            width, base = state["step.first.weight"].shape

            def make() -> Delta:
                step = StepEmbedding(base, width, bool(facts["ddpm_step"]), state["step.levels"])
                return Delta(_channels(state, "block."), step, facts["kind"])

            made = filled(make, state)
        else:
            raise ValueError(f"its kind must be ddpm, guided or table, got {ascii(facts['kind'])[:40]}")
        if not bool((made.state_dict()["levels" if facts["kind"] == "table" else "step.levels"] >= 0).all()):
            raise ValueError("its noise levels are negative")
    except Exception as error:  # missing keys and shapes raise their own kinds
        raise ValueError(f"this is not a usable trained edit: {error}; train it again, or get it from where it came") from error
    return TrainedDelta(
        made.requires_grad_(False), facts["fingerprint"], float(facts["sigma_edit"]), facts["steps"], float(facts["sigma_boost"]),
        facts["layer"], facts["label"], facts["extra"],
    )  # fmt: skip


def load_released(
    path: Path | str, net: nn.Module, levels: Tensor, fingerprint: str, *, channels: int, sigma_edit: float, sigma_boost: float = 0.0,
    steps: int = RELEASED_STEPS,
) -> list[TrainedDelta]:  # fmt: skip
    """The shifts of a released Asyrp checkpoint, for the network that it was trained on.

    Layouts: ``{"0": block, "1": block, ..., "optimizer", "scheduler"}``, and tables ``{"<t>": shift}`` where 0 is the global one.

    Args:
        path: ``.pth`` or the like.
        net: the base network.
        levels: noise level of each of its steps, `[t]`.
        fingerprint: of the base network.
        channels: of its h.
        sigma_edit, sigma_boost: the file does not say; t_edit about 500 and t_boost about 200 of 1000 for faces.
        steps: edited steps it was trained with.

    Raises:
        ValueError: not such a file, or for a base network of another family or width.
    """
    name = Path(path).name
    content = read_tensors(path)
    if not isinstance(content, dict):
        raise ValueError(f"{name}: expected a dictionary of trained blocks, got {type(content).__name__}; it is not an Asyrp checkpoint")
    label = re.sub(r"_LC_.*|\.\w+$", "", name)
    blocks = {str(k): v for k, v in content.items() if str(k).isdigit()}
    if not blocks:
        raise ValueError(
            f"{name}: it has no numbered blocks, so it is not an Asyrp checkpoint; load networks with Load Pixel Diffusion Model"
        )
    made: list[tuple[Delta | DeltaTable, str]] = []
    if all(isinstance(v, Tensor) for v in blocks.values()):
        shifts = {int(k): v.detach().float().reshape(-1, *v.shape[-3:])[0] for k, v in blocks.items()}
        if next(iter(shifts.values())).shape[0] != channels:
            raise ValueError(f"{name}: its shifts have {next(iter(shifts.values())).shape[0]} channels, the h of this model has {channels}")
        single = shifts.pop(0, None)
        if shifts:
            made.append((DeltaTable(torch.stack(list(shifts.values())), levels[[min(t, len(levels) - 1) for t in shifts]]), label))
        if single is not None:
            made.append((DeltaTable(single[None], levels[len(levels) // 2 :][:1]), f"{label}, global"))
    else:
        form = "ddpm" if hasattr(net, "temb") else "guided"
        for key, state in sorted(blocks.items(), key=lambda item: int(item[0])):
            found = form_of(state) if isinstance(state, dict) else None
            if found is None:
                raise ValueError(f"{name}: block {key} has none of the two known layouts; it is damaged or of another method")
            if found != form:
                raise ValueError(f"{name}: it was trained for a network of the {found} family, the model connected is of the {form} family")
            delta = Delta(channels, StepEmbedding.of(net, levels), form)
            wrong = {k for k, v in delta.block.state_dict().items() if k not in state or state[k].shape != v.shape}
            if wrong or set(state) != set(delta.block.state_dict()):
                raise ValueError(
                    f"{name}: its block {key} fits a network of {_channels(state)} channels, the h of this model has {channels} (and an "
                    f"embedding of {delta.step.second.weight.shape[0]}); load the network that it was trained on"
                )
            delta.block.load_state_dict({k: v.float() for k, v in state.items()})
            made.append((delta, label if len(blocks) == 1 else f"{label} {key}"))
    for delta, _ in made:
        if not all(bool(torch.isfinite(v).all()) for v in delta.state_dict().values()):
            raise ValueError(f"{name}: its weights hold NaN or infinite values; get another copy")
    known = fingerprint.partition("+")[0]
    return [TrainedDelta(d.requires_grad_(False), known, sigma_edit, steps, sigma_boost, "middle", text) for d, text in made]


def _channels(state: dict[str, Tensor], prefix: str = "") -> int:
    for key in ("conv1.weight", "in_layers.2.weight"):
        if prefix + key in state:
            return state[prefix + key].shape[0]
    raise ValueError("it holds no block")
