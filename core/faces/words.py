"""What can be said about a face: attributes with their phrases, for the embedder and the text-conditional model."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from .factors import EYE_COLORS, HAIR_COLORS, Factors

HUES = ("red", "yellow", "green", "cyan", "blue", "pink")
UNSAID = 0
"""Value of an attribute that is too weak to be called either way."""


@dataclass(frozen=True)
class Attribute:
    """A property with values 1..n, each with the phrases that say so; value 0 is never said."""

    name: str
    phrases: tuple[tuple[str, ...], ...]


_SPELT = {"blond": "blonde", "grey": "gray"}
MOODS = ("smiling", "happy", "cheerful"), ("frowning", "sad", "unhappy"), ("neutral", "serious")
ATTRIBUTES = (
    Attribute("mood", MOODS),
    Attribute("hair_length", (("long hair",), ("short hair",))),
    Attribute("hair_color", tuple((f"{c} hair", f"{_SPELT.get(c, c)} hair") for c in HAIR_COLORS)),
    Attribute("glasses", (("glasses", "spectacles", "eyeglasses"), ("no glasses",))),
    Attribute("eyes", (("closed eyes", "sleepy eyes"), ("open eyes", "wide open eyes"))),
    Attribute("eye_color", tuple((f"{c} eyes",) for c in EYE_COLORS)),
    Attribute("mouth", (("an open mouth",), ("a closed mouth",))),
    Attribute("skin", (("pale skin", "light skin"), ("dark skin", "brown skin"))),
    Attribute("yaw", (("the head turned left",), ("the head turned right",))),
    Attribute("width", (("a narrow face", "a thin face"), ("a wide face", "a round face"))),
    Attribute("nose", (("a small nose",), ("a big nose", "a large nose"))),
    Attribute("brows", (("raised eyebrows",), ("lowered eyebrows",))),
    Attribute("background", tuple((f"a {h} background",) for h in HUES)),
    Attribute("shirt", tuple((f"a {h} shirt",) for h in HUES)),
)
SUBJECTS = ("person", "face", "portrait", "photo", "picture")


def attributes(factors: Factors) -> Tensor:
    """Read the value of every attribute of :data:`ATTRIBUTES` off each face, `[b a]` long."""
    f = factors

    def ends(name: str, low: float, high: float, first_is_high: bool = False) -> Tensor:
        below, above = (2, 1) if first_is_high else (1, 2)
        return torch.where(f[name] < low, below, torch.where(f[name] > high, above, UNSAID))

    mood = torch.where(
        f["smile"] > 0.35, 1, torch.where(f["smile"] < -0.35, 2, torch.where(f["smile"].abs() < 0.2, 3, UNSAID))
    )
    shown = f["eye_open"] > 0.45
    columns = [
        mood,
        ends("hair_length", 0.3, 0.62, first_is_high=True),
        f["hair_color"].long() + 1,
        torch.where(f["glasses"] > 0.5, 1, 2),
        ends("eye_open", 0.35, 0.7),
        torch.where(shown, f["eye_color"].long() + 1, UNSAID),
        torch.where(f["mouth_open"] > 0.45, 1, torch.where(f["mouth_open"] < 0.05, 2, UNSAID)),
        ends("skin", 0.35, 0.65),
        ends("yaw", -0.4, 0.4),
        ends("face_width", -0.35, 0.35),
        ends("nose_size", 0.35, 0.65),
        ends("brow_height", -0.4, 0.4, first_is_high=True),
        _hue(f["bg_hue"]),
        _hue(f["shirt_hue"]),
    ]
    return torch.stack([c.long() for c in columns], 1)


def _hue(turn: Tensor) -> Tensor:
    """Find the nearest named hue, unsaid near the borders between two."""
    place = turn * len(HUES)
    off = (place - place.round()).abs()
    return torch.where(off < 0.35, place.round().long() % len(HUES) + 1, UNSAID)


def describe(values: Tensor, rng: random.Random, most: int = 6) -> tuple[str, list[int]]:
    """Write a sentence about some attributes of one face, in random order and words.

    Args:
        values: of one face, `[a]`, from :func:`attributes`.
        rng: draws which are said, how, and in what order.
        most: at most so many.

    Returns:
        The sentence, and which attributes it mentions.
    """
    sayable = [i for i, v in enumerate(values.tolist()) if v]
    said = rng.sample(sayable, rng.randint(1, min(most, len(sayable))))
    words = {i: rng.choice(ATTRIBUTES[i].phrases[int(values[i]) - 1]) for i in said}
    subject = rng.choice(SUBJECTS)
    mood = words.pop(0, "")
    if 1 in words and 2 in words and rng.random() < 0.7:  # "long red hair"
        words[2] = f"{words.pop(1).split()[0]} {words[2]}"
    clauses = list(words.values())
    rng.shuffle(clauses)
    if subject in ("photo", "picture", "portrait") and rng.random() < 0.8:
        subject = f"{subject} of a {' '.join(w for w in (mood, rng.choice(SUBJECTS[:2])) if w)}"
    elif mood:
        subject = f"{mood} {subject}"
    text = f"a {subject}" + (" with " + " and ".join(clauses) if clauses else "")
    return (text.removeprefix("a ") if rng.random() < 0.2 else text), sorted(said)


def face_phrases() -> list[str]:
    """List the first phrase of every value of every attribute, for whoever looks for the word that fits a picture."""
    return [phrases[0] for attribute in ATTRIBUTES for phrases in attribute.phrases]
