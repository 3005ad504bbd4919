"""Plain captions of faces, said from their factors."""

from __future__ import annotations

import random

from .factors import EYE_COLORS, HAIR_COLORS, Factors


def caption(factors: Factors, i: int, rng: random.Random | None = None) -> str:
    """Write one sentence about face ``i``.

    Args:
        factors: a batch of faces.
        i: which one.
        rng: if given, clauses are shuffled and some dropped, as people do.

    Returns:
        Such as "a smiling person with long red hair and glasses and blue eyes".
    """
    value = {name: float(v[i]) for name, v in factors.items()}
    mood = "smiling" if value["smile"] > 0.35 else "frowning" if value["smile"] < -0.35 else "neutral"
    length = "long " if value["hair_length"] > 0.62 else "short " if value["hair_length"] < 0.3 else ""
    clauses = [f"{length}{HAIR_COLORS[int(value['hair_color'])]} hair"]
    if value["glasses"] > 0.5:
        clauses.append("glasses")
    clauses.append("closed eyes" if value["eye_open"] < 0.35 else f"{EYE_COLORS[int(value['eye_color'])]} eyes")
    if value["mouth_open"] > 0.45:
        clauses.append("an open mouth")
    if rng is not None:
        rng.shuffle(clauses)
        clauses = clauses[: rng.randint(1, len(clauses))]
    return f"a {mood} person with " + " and ".join(clauses)
