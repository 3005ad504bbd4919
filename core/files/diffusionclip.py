"""Fine-tuned weights in the names that stock LoRA loaders know, on a LORA_MODEL socket or as one safetensors file.

``<prefix>.<weight without its ending>.diff`` and ``.diff_b`` are whole differences of a weight and of a bias,
``.lora_up.weight`` `[o r ..]` and ``.lora_down.weight`` `[r i ..]` thin ones. In a file, our metadata names the model
as well (format "hspace.weights").
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ..networks.weight_difference import WeightDelta
from ..text import label, labels, quoted
from .exchange import load, write
from .kinds import WEIGHTS

PREFIX = "diffusion_model.net."  # where a pixel network sits in the host's MODEL
_UP = ".lora_up.weight"
_DOWN = ".lora_down.weight"
_DIFF = ".diff"
_DIFF_B = ".diff_b"


class LoraWeights(dict):
    """A LORA_MODEL: names to tensors, for any node that takes one.

    ``facts`` says for ours which model it belongs to.
    """

    def __init__(self, tensors: Mapping[str, Tensor], facts: dict[str, Any]):
        super().__init__(tensors)
        self.facts = facts


def to_lora(delta: WeightDelta) -> LoraWeights:
    """Put a difference under the names of LoRA files."""
    out: dict[str, Tensor] = {}
    for name, value in delta.full.items():
        stem, _, kind = name.rpartition(".")
        out[f"{PREFIX}{stem}{_DIFF if kind == 'weight' else _DIFF_B}"] = value
    for name, (up, down) in delta.thin.items():
        stem = PREFIX + name.removesuffix(".weight")
        out[stem + _UP], out[stem + _DOWN] = up, down
    return LoraWeights(
        out, {"fingerprint": delta.fingerprint, "label": label(delta.label), "extra": labels(delta.extra)}
    )


def from_lora(tensors: object) -> WeightDelta:
    """Read the difference that a LORA_MODEL holds, of :func:`to_lora` or of a file in its layout.

    Raises:
        ValueError: anything else: a LoRA for another kind of network, or one with parts of which this layout knows
            nothing.
    """
    if not isinstance(tensors, Mapping) or not tensors or not all(isinstance(v, Tensor) for v in tensors.values()):
        raise ValueError(
            "expected LORA_MODEL from Train DiffusionCLIP, Load Fine-Tuned Weights or Load DiffusionCLIP Checkpoint"
        )
    full: dict[str, Tensor] = {}
    thin: dict[str, tuple[Tensor, Tensor]] = {}
    for key, value in tensors.items():
        name = key.removeprefix(PREFIX)
        if name == key or not key.endswith((_UP, _DOWN, _DIFF, _DIFF_B)):
            raise ValueError(
                f"this LORA_MODEL holds {quoted(key, 80)}, which is not of a pixel model; apply LoRAs of Stable"
                " Diffusion with the stock Load LoRA node"
            )
        if key.endswith(_UP):
            down = tensors.get(key.removesuffix(_UP) + _DOWN)
            if down is None or min(value.dim(), down.dim()) < 2 or down.shape[0] != value.shape[1]:
                raise ValueError(f"this LORA_MODEL has {quoted(key, 80)} without its other half; get the file again")
            thin[name.removesuffix(_UP) + ".weight"] = (value.flatten(1), down.flatten(1))
        elif key.endswith(_DOWN) and key.removesuffix(_DOWN) + _UP not in tensors:
            raise ValueError(f"this LORA_MODEL has {quoted(key, 80)} without its other half; get the file again")
        elif key.endswith(_DIFF_B):
            full[name.removesuffix(_DIFF_B) + ".bias"] = value
        elif key.endswith(_DIFF):
            full[name.removesuffix(_DIFF) + ".weight"] = value
    facts = getattr(tensors, "facts", {})
    return WeightDelta(full, thin, facts.get("fingerprint", ""), facts.get("label", ""), facts.get("extra", {}))


def released_name(name: str) -> tuple[str, int]:
    """Read label and t0 off a released file's name: ``curly_hair_t401.pth`` is ("curly hair", 401); 0 without one."""
    stem = Path(name).stem
    found = re.search(r"_t(\d{1,4})(?!\d)", stem)
    return (stem[: found.start()] if found else stem).replace("_", " "), int(found.group(1)) if found else 0


def save_weights(path: Path | str, delta: WeightDelta, half: bool = True, new: bool = False) -> Path:
    """Write a difference, as float16 unless told otherwise; stock LoRA loaders read it.

    ``new``: see :func:`core.own_file.write_own`.
    """
    made = to_lora(delta)
    return write(path, WEIGHTS, made.facts, made, half, new)


def load_weights(path: Path | str) -> WeightDelta:
    """Read a file of :func:`save_weights`.

    Raises:
        ValueError: not such a file, or damaged.
    """
    return load(path, WEIGHTS, _difference, _difference)


def _difference(facts: dict[str, Any], tensors: dict[str, Tensor]) -> WeightDelta:
    return from_lora(LoraWeights(tensors, facts))
