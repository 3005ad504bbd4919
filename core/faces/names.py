"""Names for what a direction does in the face world: the known factors that moved."""

from __future__ import annotations

from torch import Tensor

from ..embedder import Embedder
from ..measure.names import likely_words
from .embedder import SPACE
from .regressor import Regressor, factor_change
from .words import face_phrases

LEAST = 0.1
"""Share of a factor's range below which a change is not worth a name."""


def name_factors(regressor: Regressor, plain: Tensor, edited: Tensor, most: int = 2) -> list[str]:
    """Say what each edited picture shows against the plain one, such as ``smile +0.42, eye_open -0.13``.

    Args:
        regressor: of the face world.
        plain: `[3 64 64]` in 0..1.
        edited: `[n 3 64 64]` in 0..1.
        most: factors named at most.

    Returns:
        One text a picture, the strongest factor first; ``no known factor`` where no factor moves by a tenth of its
        range.
    """
    change = factor_change(regressor, plain.expand_as(edited), edited)
    texts = []
    for i in range(len(edited)):
        ranked = sorted(((float(v[i]), name) for name, v in change.items()), key=lambda pair: -abs(pair[0]))
        texts.append(
            ", ".join(f"{name} {value:+.2f}" for value, name in ranked[:most] if abs(value) >= LEAST)
            or "no known factor"
        )
    return texts


def name_ends(embedder: Embedder, plain: Tensor, ends: Tensor, words: str = "") -> list[str]:
    """Name towards which words each end of an atlas moved; without any, the face world's own or those for photographs.

    Args:
        embedder: of pictures and words.
        plain: the reconstruction, `[3 h w]` in 0..1.
        ends: `[n 3 h w]` in 0..1.
        words: to choose from, separated by commas.

    Raises:
        ValueError: a single word.
    """
    choice = [word.strip() for word in words.split(",") if word.strip()]
    if not choice and embedder.space == SPACE:
        choice = face_phrases()
    return likely_words(embedder, plain * 2 - 1, ends * 2 - 1, choice)
