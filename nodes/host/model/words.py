"""Words for a network to look for, by the text encoder of its checkpoint."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..types import CLIP


def encoded_text(clip: CLIP, text: str) -> list:
    """CONDITIONING of a text.

    Raises:
        ValueError: the text encoder gives several entries (hooks).
    """
    entries = clip.encode_from_tokens_scheduled(clip.tokenize(text))
    if len(entries) != 1 or not isinstance(entries[0][0], Tensor):
        raise ValueError(f"words need a plain CLIP, but this one gives {len(entries)} entries; take its hooks off")
    return entries


def word_tokens(clip: CLIP, word: str) -> Tensor:
    """What a word became in the text encoder, `[m d]`: its own tokens, without those that every text has.

    Raises:
        ValueError: it has none.
    """
    tokens, empty = clip.tokenize(word), clip.tokenize("")
    # Encoders with several towers lay the longest last: T5 behind CLIP (Stable Diffusion 3), or alone (Flux).
    tower = max(tokens, key=lambda name: (_length(tokens[name]), name not in "lgh"))
    known = {_id(entry) for chunk in empty[tower] for entry in chunk}
    encoded = encoded_text(clip, word)[0][0][0]
    # Instructions to a language model stand before the text, and the host cuts them off.
    shift = len(encoded) - _length(tokens[tower])
    entries = [entry for chunk in tokens[tower] for entry in chunk]
    places = []
    for i, entry in enumerate(entries, shift):
        if i >= 0 and _id(entry) not in known:
            places.append(i)
    if not places:
        raise ValueError(f"the text encoder has no token of its own for {word!r:.60}; write another word")
    return encoded[places]


def words_prompt(base: list, tokens: list[Tensor]) -> list:
    """CONDITIONING in which the tokens of words `[m d]` stand in the place of the text; all else is that of ``base``."""
    facts: dict[str, Any] = {name: value for name, value in base[0][1].items() if name != "attention_mask"}
    return [[torch.cat(tokens)[None], facts]]


def _length(chunks: list) -> int:
    return sum(len(chunk) for chunk in chunks)


def _id(entry: tuple) -> object:
    """Number of a token; a textual inversion is itself."""
    return entry[0] if isinstance(entry[0], int) else id(entry[0])
