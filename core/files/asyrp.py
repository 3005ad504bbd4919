"""Files of Asyrp's trained shifts (arXiv 2210.10960): ours, and the released ones.

Ours hold ``block.*`` and ``step.*``, or ``shifts`` and ``levels`` of a table, behind the prefix ``delta.``. Of their
facts, ``kind`` is ddpm, guided or table, ``ddpm_step`` says which step embedding, and ``whole_steps`` is absent or 0
where nobody knows.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..fingerprint import without_patches
from ..networks.asyrp import DDPMShift, Form, GuidedShift, ShiftBlock, ShiftTable, TrainedAsyrp, form_of
from ..networks.step import StepEmbedding
from ..own_file import filled
from ..text import cleaned, label, labels, quoted
from .checkpoint import read_tensors
from .exchange import Exchange
from .kinds import ASYRP

RELEASED_STEPS = 40
MAX_SHIFTS = 10_000


def _facts(trained: TrainedAsyrp) -> dict[str, Any]:
    shift = trained.shift
    return {
        "kind": "table" if isinstance(shift, ShiftTable) else shift.form,
        "fingerprint": trained.fingerprint,
        "layer": trained.layer,
        "sigma_edit": trained.sigma_edit,
        "sigma_boost": trained.sigma_boost,
        "steps": trained.steps,
        "label": label(trained.label),
        "extra": labels(trained.extra),
        "whole_steps": trained.whole_steps,
        "ddpm_step": isinstance(shift, ShiftBlock) and shift.step.ddpm,
    }


def _trained(facts: dict[str, Any], tensors: dict[str, Tensor]) -> TrainedAsyrp:
    shift = _shift(facts, tensors)
    levels = shift.levels if isinstance(shift, ShiftTable) else shift.step.levels
    if not bool((levels >= 0).all()):
        raise ValueError("its noise levels are negative")
    return TrainedAsyrp(
        shift.requires_grad_(False),
        facts["fingerprint"],
        float(facts["sigma_edit"]),
        facts["steps"],
        float(facts["sigma_boost"]),
        facts["layer"],
        facts["label"],
        facts["extra"],
        facts.get("whole_steps", 0),
    )


def _shift(facts: dict[str, Any], tensors: dict[str, Tensor]) -> ShiftBlock | ShiftTable:
    """Build the block or the table, whose tensors may be without values."""
    if 0 < facts.get("whole_steps", 0) < facts["steps"]:
        raise ValueError(f"its metadata is out of range: whole_steps must be 0, or at least steps, {facts['steps']}")
    if facts["kind"] == "table":
        if set(tensors) != {"shifts", "levels"}:
            raise ValueError("a table holds shifts and levels")
        return ShiftTable(tensors["shifts"], tensors["levels"])
    width, base = tensors["step.first.weight"].shape

    def make() -> ShiftBlock:
        step = StepEmbedding(base, width, facts["ddpm_step"], tensors["step.levels"])
        return ShiftBlock(_channels(tensors, "block."), step, facts["kind"])

    return filled(make, tensors)


_EXCHANGE = Exchange(ASYRP, _facts, lambda trained: trained.shift.state_dict(), _trained, _shift)
save_asyrp, load_asyrp = _EXCHANGE.save, _EXCHANGE.load
asyrp_to_payload, asyrp_from_payload = _EXCHANGE.to_payload, _EXCHANGE.from_payload


def load_released_asyrp(
    path: Path | str,
    net: nn.Module,
    levels: Tensor,
    fingerprint: str,
    *,
    channels: int,
    sigma_edit: float,
    sigma_boost: float = 0.0,
    steps: int = RELEASED_STEPS,
) -> list[TrainedAsyrp]:
    """Load the shifts of a released Asyrp checkpoint, for the network that it was trained on.

    Layouts: ``{"0": block, "1": block, ..., "optimizer", "scheduler"}``, and tables ``{"<t>": shift}`` where 0 is the
        global one and
    None stands for steps that are not edited.

    Args:
        path: ``.pth`` or the like.
        net: the base network.
        levels: noise level of each of its steps, `[t]`.
        fingerprint: of the base network.
        channels: of its h.
        sigma_edit, sigma_boost: the file does not say; t_edit about 500 and t_boost about 200 of 1000 for faces.
        steps: all steps of its training, from the last one to 0 (``ngen`` in the names of released files).

    Raises:
        ValueError: not such a file, or for a base network of another family or width.
    """
    name = cleaned(Path(path).name, 120)
    edits = label(re.sub(r"_LC_.*|\.\w+$", "", Path(path).name))
    found: dict[str, Any] = {}

    def fits(content: Any) -> None:
        found.update(_released_blocks(name, content, net, channels))

    read_tensors(path, fits)
    made: list[tuple[ShiftBlock | ShiftTable, str]] = []
    if all(isinstance(v, Tensor) for v in found.values()):
        shifts = {int(k): v.detach().float().reshape(v.shape[-3:]).clone() for k, v in found.items()}
        single = shifts.pop(0, None)
        if shifts:
            made.append(
                (
                    ShiftTable(torch.stack(list(shifts.values())), levels[[min(t, len(levels) - 1) for t in shifts]]),
                    edits,
                )
            )
        if single is not None:
            made.append((ShiftTable(single[None], levels[len(levels) // 2 :][:1]), f"{edits}, global"))
    else:
        for key, state in sorted(found.items(), key=lambda item: int(item[0])):
            delta = ShiftBlock(channels, StepEmbedding.of(net, levels), _form(net))
            delta.block.load_state_dict({k: v.float() for k, v in state.items()})
            made.append((delta, edits if len(found) == 1 else f"{edits} {key}"))
    for delta, _ in made:
        if not all(bool(torch.isfinite(v).all()) for v in delta.state_dict().values()):
            raise ValueError(f"{name}: its weights hold NaN or infinite values; get another copy")
    known = without_patches(fingerprint)
    edited = edited_steps(levels, steps, sigma_edit)
    return [
        TrainedAsyrp(d.requires_grad_(False), known, sigma_edit, edited, sigma_boost, "middle", text, {}, steps)
        for d, text in made
    ]


def edited_steps(levels: Tensor, whole: int, sigma_edit: float) -> int:
    """Count the edited of ``whole`` steps from the last one of ``levels`` `[t]` to 0, at least 1, as released."""
    grid = (torch.linspace(0, 1, whole, dtype=torch.float64) * (len(levels) - 1) + 1e-6).long()
    return max(1, int((levels[grid] >= sigma_edit * (1 - 1e-5)).sum()))


def _form(net: nn.Module) -> Form:
    return "ddpm" if hasattr(net, "temb") else "guided"


def _released_blocks(name: str, content: Any, net: nn.Module, channels: int) -> dict[str, Any]:
    """Collect the numbered blocks or shifts of a released file; names and shapes are checked, no value is read."""
    if not isinstance(content, dict):
        raise ValueError(
            f"{name}: expected a dictionary of trained blocks, got {type(content).__name__}; it is not an Asyrp"
            " checkpoint"
        )
    numbered = {
        str(k): v
        for k, v in content.items()
        if isinstance(k, (str, int)) and re.fullmatch(r"\d{1,6}", str(k), re.ASCII)
    }
    # None stands for the steps that are not edited, where a mean was taken over another number of steps than those of
    # the training.
    blocks = {k: v for k, v in numbered.items() if v is not None}
    if not blocks:
        raise ValueError(
            f"{name}: it has no numbered blocks, so it is not an Asyrp checkpoint; load networks with Load Pixel"
            " Diffusion Model"
        )
    if all(isinstance(v, Tensor) for v in blocks.values()):
        shapes = {tuple(v.shape[-3:]) for v in blocks.values()}
        shape = next(iter(shapes))
        whole = all(v.dim() == 3 or (v.dim() == 4 and v.shape[0] == 1) for v in blocks.values())
        if not whole or len(shapes) > 1 or 0 in shape or len(blocks) > MAX_SHIFTS:
            raise ValueError(
                f"{name}: its shifts must have one shape, [c h w] or [1 c h w], got {quoted(sorted(shapes)[:3], 80)};"
                " it is damaged or of another method"
            )
        if shape[-3] != channels:
            raise ValueError(f"{name}: its shifts have {shape[-3]} channels, the h of this model has {channels}")
        return blocks
    form = _form(net)
    width = StepEmbedding.of(net, torch.ones(1)).second.weight.shape[0]
    with torch.device("meta"):
        expected = (DDPMShift if form == "ddpm" else GuidedShift)(channels, width).state_dict()
    for key, state in blocks.items():
        known = (
            form_of(state) if isinstance(state, dict) and all(isinstance(v, Tensor) for v in state.values()) else None
        )
        if known is None:
            raise ValueError(
                f"{name}: block {key} has none of the two known layouts; it is damaged or of another method"
            )
        if known != form:
            raise ValueError(
                f"{name}: it was trained for a network of the {known} family, the model connected is of the {form}"
                " family"
            )
        if set(state) != set(expected) or any(state[k].shape != v.shape for k, v in expected.items()):
            raise ValueError(
                f"{name}: its block {key} fits a network of {_channels(state)} channels, the h of this model has"
                f" {channels} (and an embedding of {width}); load the network that it was trained on"
            )
    return blocks


def _channels(state: dict[str, Tensor], prefix: str = "") -> int:
    for key in ("conv1.weight", "in_layers.2.weight"):
        if prefix + key in state:
            return state[prefix + key].shape[0]
    raise ValueError("it holds no block")
