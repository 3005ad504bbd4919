"""The edits of the drawn PIE benchmark: which factor of a face changes, and how a prompt says it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from core.faces.factors import EYE_COLORS, HAIR_COLORS
from core.faces.words import HUES

Face = dict[str, float]


@dataclass(frozen=True)
class Edit:
    """One kind of edit.

    Attributes:
        name: of the edit.
        kind: ``editing_type_id``.
        factor: that changes.
        parts: of the picture that it draws.
        suits: whether a face can be edited so.
        target: new value of the factor.
        instruction: the edit as a command.
        blended: ``blended_word``; empty: the words that the prompts mark.
        tied: other factors that may move with it.
    """

    name: str
    kind: int
    factor: str
    parts: tuple[str, ...]
    suits: Callable[[Face], bool]
    target: Callable[[Face, random.Random], float]
    instruction: str
    blended: str = ""
    tied: tuple[str, ...] = ()


def _place(face: Face) -> float:
    return face["bg_hue"] * len(HUES)


def _far_hue(face: Face, rng: random.Random) -> float:
    return (round(_place(face)) + rng.choice((2, 3, 4))) % len(HUES) / len(HUES)


def _recoloured(factor: str, count: int) -> Callable[[Face, random.Random], float]:
    return lambda f, rng: float(rng.choice([i for i in range(count) if i != int(f[factor])]))


def _to(value: float) -> Callable[[Face, random.Random], float]:
    return lambda f, rng: value


EDITS = (
    Edit(
        "hair color",
        6,
        "hair_color",
        ("hair", "brows"),
        lambda f: True,
        _recoloured("hair_color", len(HAIR_COLORS)),
        "change the color of the hair",
        "hair hair",
        ("hair_shade",),
    ),
    Edit(
        "add glasses",
        2,
        "glasses",
        ("glasses",),
        lambda f: f["glasses"] < 0.5,
        _to(1.0),
        "add glasses",
        "glasses",
        ("eye_open",),
    ),
    Edit(
        "smile",
        4,
        "smile",
        ("mouth",),
        lambda f: f["smile"] < -0.4 or abs(f["smile"]) < 0.2,
        _to(0.85),
        "make the person smile",
        tied=("mouth_open",),
    ),
    Edit(
        "open mouth",
        5,
        "mouth_open",
        ("mouth",),
        lambda f: f["mouth_open"] < 0.05,
        _to(0.85),
        "open the mouth",
        "mouth",
        ("smile",),
    ),
    Edit(
        "background",
        8,
        "bg_hue",
        ("background",),
        lambda f: abs(_place(f) - round(_place(f))) < 0.35,
        _far_hue,
        "change the color of the background",
        "background background",
    ),
    Edit(
        "remove glasses",
        3,
        "glasses",
        ("glasses",),
        lambda f: f["glasses"] > 0.5,
        _to(0.0),
        "remove the glasses",
        "glasses",
        ("eye_open",),
    ),
    Edit(
        "frown",
        4,
        "smile",
        ("mouth",),
        lambda f: f["smile"] > 0.4 or abs(f["smile"]) < 0.2,
        _to(-0.85),
        "make the person frown",
        tied=("mouth_open",),
    ),
    Edit(
        "eye color",
        6,
        "eye_color",
        ("eyes",),
        lambda f: f["eye_open"] > 0.6,
        _recoloured("eye_color", len(EYE_COLORS)),
        "change the color of the eyes",
        "eyes eyes",
        ("gaze",),
    ),
    Edit(
        "close eyes",
        5,
        "eye_open",
        ("eyes",),
        lambda f: f["eye_open"] > 0.6,
        _to(0.2),
        "close the eyes",
        "eyes eyes",
        ("gaze", "eye_color"),
    ),
    Edit(
        "hair length",
        4,
        "hair_length",
        ("hair",),
        lambda f: f["hair_length"] > 0.65 or f["hair_length"] < 0.27,
        lambda f, rng: 0.1 if f["hair_length"] > 0.5 else 0.9,
        "change the length of the hair",
        "hair hair",
    ),
)


BY_EDIT = {e.name: e for e in EDITS}
