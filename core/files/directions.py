"""Files of directions: nothing in them is ever executed or used as a path.

Tensors: ``vectors`` `[t k ...]`, ``gain`` and ``leak`` `[t k]`, ``spectrum`` `[n]`, and optionally ``mask`` `[h w]`.
Of the facts, ``labels`` are k texts or none, and ``sigmas`` t numbers. Calibrated directions have the tensors ``unit``
`[2 k]` and ``area`` `[k]` as well, and the fact ``calibration``: ``sigma_start``, ``sigma_end``, ``size`` and
``picture``. Version 2 had no calibration. Version 1 held `[t k c h w]` at layers ``middle`` and ``up.k`` alone. Both
are still read.
"""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..atomic_file import write_bytes
from ..calibration import Calibration, calibration_of
from ..directions import Directions
from ..fields import LAYER
from ..own_file import pack, read_own, read_stream, shown_name, usable
from .exchange import checked, marked, stored
from .kinds import DIRECTIONS

_TENSORS = ("vectors", "gain", "leak", "spectrum", "mask")
_CALIBRATION = ("unit", "area")
_UNIT = 1e-3
_UNIT_HALF = 1e-2
"""How far the length of a direction may be from 1, and what float16 makes of it."""


def save_directions(path: Path | str, directions: Directions, half: bool = False, new: bool = False) -> Path:
    """Write directions to ``path``; the file appears complete or not at all.

    Args:
        path: where; an existing file is replaced unless it is to be ``new`` (:func:`core.paths.save_new` finds a free
            name).
        directions: what.
        half: store the vectors as float16, half the size, error 5e-4.
        new: see :func:`core.atomic_file.write_bytes`.

    Returns:
        The path.

    Raises:
        ValueError: the directions break a rule of the format (limits, unit norm, labels), so that no reader would take
            them.
    """
    facts = {
        "layer": directions.layer,
        "fingerprint": directions.fingerprint,
        "method": directions.method,
        "labels": list(directions.labels),
        "sigmas": [float(s) for s in directions.sigmas],
    }
    tensors = {name: getattr(directions, name) for name in _TENSORS}
    tensors = {name: value.float() for name, value in tensors.items() if value is not None}
    if directions.calibration is not None:
        facts["calibration"] = directions.calibration.facts
        tensors |= {name: getattr(directions.calibration, name).float() for name in _CALIBRATION}
    data = pack(stored(DIRECTIONS, tensors, half), marked(DIRECTIONS, facts))
    read_directions(data)
    return write_bytes(path, data, new)


def load_directions(path: Path | str) -> Directions:
    """Read a file of directions.

    Raises:
        ValueError: no such file, too large, or anything that :func:`read_directions` refuses.
    """
    return _built(shown_name(path), *read_own(path, DIRECTIONS, checked(DIRECTIONS, _check)))


def read_directions(data: bytes, name: str = "direction file") -> Directions:
    """Read directions out of the bytes of a file; any bytes whatever give directions or a ValueError.

    Args:
        data: the whole file.
        name: for messages.

    Raises:
        ValueError: not such a file, damaged, beyond the limits, or with values that directions cannot have.
    """
    file = io.BytesIO(data)
    outline = checked(DIRECTIONS, _check)
    return _built(name, *read_stream(file, len(data), name, DIRECTIONS, outline))


def _check(facts: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Refuse lists of another length than the vectors have; these are without values."""
    t, k, *axes = tensors["vectors"].shape
    if facts["version"] == 1:
        LAYER.check("layer", facts["layer"])
        if len(axes) != 3:
            raise ValueError(f"tensor vectors must have 5 axes, got {2 + len(axes)}")
    if len(facts["sigmas"]) != t:
        raise ValueError(f"it must name {t} sigmas, got {len(facts['sigmas'])}")
    if len(facts["labels"]) not in (0, k):
        raise ValueError(f"its labels must be {k}, or none, got {len(facts['labels'])}")
    parts = {"calibration" in facts, *(name in tensors for name in _CALIBRATION)}
    if len(parts) > 1 or (facts["version"] < 3 and True in parts):
        raise ValueError("a calibration is the tensors unit and area and the fact calibration, from version 3 on")
    if "calibration" in facts and set(facts["calibration"]) != {"sigma_start", "sigma_end", "size", "picture"}:
        raise ValueError("its calibration must hold exactly sigma_start, sigma_end, size and picture")


def _built(name: str, tensors: dict[str, Tensor], facts: dict[str, Any], types: dict[str, str]) -> Directions:
    with usable(DIRECTIONS, name):
        return Directions(
            vectors=_unit(tensors["vectors"], types["vectors"] == "F16"),
            sigmas=torch.tensor(facts["sigmas"], dtype=torch.float64),
            gain=tensors["gain"],
            leak=tensors["leak"],
            layer=facts["layer"],
            fingerprint=facts["fingerprint"],
            mask=_within(tensors.get("mask"), "the mask", 1.0),
            method=facts["method"],
            labels=tuple(facts["labels"]),
            spectrum=_within(tensors["spectrum"], "the spectrum"),
            calibration=_calibration(tensors, facts),
        )


def _calibration(tensors: dict[str, Tensor], facts: dict[str, Any]) -> Calibration | None:
    if "calibration" not in facts:
        return None
    return calibration_of(tensors["unit"], tensors["area"], facts["calibration"])


def _unit(vectors: Tensor, half: bool) -> Tensor:
    """Check the lengths of `[t k ...]`; vectors that were rounded to float16 are brought to length 1 again."""
    norms = torch.stack([step.double().norm(dim=1) for step in vectors.flatten(2)])
    if not bool(((norms - 1).abs() <= (_UNIT_HALF if half else _UNIT)).all()):
        raise ValueError("a direction has not unit length")
    further = (1,) * (vectors.dim() - 2)
    return (vectors / norms.reshape(*norms.shape, *further)).float() if half else vectors


def _within(value: Any, name: str, high: float = math.inf) -> Any:
    """Check that values, if there are any, lie in 0..``high``."""
    if value is not None and not bool(((value >= 0) & (value <= high)).all()):
        raise ValueError(f"{name} must have values in 0..{high:g}")
    return value
