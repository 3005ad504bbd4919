"""Names for what a direction does: near words of an image-text space (CLIP, arXiv 2103.00020)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..embedder import Embedder
from ..foreign import named

STILL = 1e-3  # shortest way in the space that counts as a move

LIKE = 0.2
"""Cosine below which a change is not worth a word."""

WORDS = (
    "a smile",
    "a frown",
    "an open mouth",
    "closed eyes",
    "wide open eyes",
    "glasses",
    "sunglasses",
    "a beard",
    "makeup",
    "earrings",
    "a hat",
    "blond hair",
    "black hair",
    "red hair",
    "grey hair",
    "long hair",
    "short hair",
    "curly hair",
    "bangs",
    "a bald head",
    "pale skin",
    "tanned skin",
    "an old person",
    "a young person",
    "a child",
    "a man",
    "a woman",
    "an angry person",
    "a sad person",
    "a surprised person",
    "the head turned left",
    "the head turned right",
    "a bright picture",
    "a dark picture",
    "a blurry picture",
    "a red background",
    "a blue background",
    "a green background",
    "a white background",
    "trees",
    "a building",
    "water",
    "snow",
    "fire",
)
"""Offered to an embedder of photographs if nobody says which words to try."""


@torch.no_grad()
def likely_words(
    embedder: Embedder, plain: Tensor, edited: Tensor, words: Sequence[str] = (), most: int = 2
) -> list[str]:
    """Find the words towards which each edited picture moved against the plain one.

    Such as ``smiling 0.61, open eyes 0.35``.

    A word's direction is its place in the space less the mean place of all words, so that what they have in common says
    nothing.

    Args:
        embedder: of pictures and texts.
        plain: `[3 h w]` in -1..1.
        edited: `[n 3 h w]` in -1..1.
        words: to choose from, at least two; none: :data:`WORDS`.
        most: words named at most.

    Returns:
        One text a picture, the nearest word first with its cosine; ``no word`` where none is near.

    Raises:
        ValueError: a single word.
    """
    chosen = list(words or WORDS)
    if len(chosen) < 2:
        raise ValueError(
            f"naming compares words with each other and needs at least two words, got {len(chosen)}; separate them by"
            " commas"
        )
    with named("words"):
        places = embedder.embed_text(chosen).to(edited.device)
    directions = F.normalize(places - places.mean(0), dim=1)
    moved = embedder.embed_image(edited) - embedder.embed_image(plain[None])
    # Of a picture that has not moved only rounding is left, and that points somewhere too.
    scores = F.normalize(moved, dim=1) @ directions.T * (moved.norm(dim=1, keepdim=True) > STILL)
    texts = []
    for row in scores.tolist():
        ranked = sorted(zip(row, chosen, strict=True), reverse=True)[:most]
        texts.append(", ".join(f"{word} {value:.2f}" for value, word in ranked if value >= LIKE) or "no word")
    return texts
