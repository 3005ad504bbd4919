"""Where words stand in a picture, by attention (ConceptAttention, Helbling et al. 2025, arXiv 2502.04320).

Tokens of words run beside the prompt through the weights of its text, and look at themselves and the picture. Nothing
looks at them, so that the picture stays what it was. A place belongs to a word as far as their outputs of attention
agree.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def attend_beside(q: Tensor, k: Tensor, v: Tensor, seen: tuple[Tensor, Tensor], scale: float | None = None) -> Tensor:
    """Attention of words to themselves and the picture, section 3.

    Args:
        q, k, v: of the words' tokens, `[b heads m d]`.
        seen: keys and values of the picture's tokens, `[b heads n d]`.
        scale: of the scores; default ``d ** -0.5``.

    Returns:
        `[b m heads*d]`.
    """
    keys = torch.cat([k, seen[0].to(k)], 2)
    values = torch.cat([v, seen[1].to(v)], 2)
    return F.scaled_dot_product_attention(q, keys, values, scale=scale).transpose(1, 2).flatten(2)


def word_shares(words: Tensor, picture: Tensor, groups: Sequence[slice]) -> Tensor:
    """How much of each place belongs to each word: softmax over words of the product of both outputs.

    Args:
        words: outputs of attention for the words' tokens, `[m c]`.
        picture: those of the picture's tokens, `[n c]`.
        groups: tokens of each word, whose mean is the word.

    Returns:
        `[len(groups) n]`, adding up to 1 over the words.
    """
    means = torch.stack([words[group].float().mean(0) for group in groups])
    return (means @ picture.float().T).softmax(0)


def added_by(word: Tensor, plain: Tensor) -> Tensor:
    """How far a word changes each place's output of cross-attention, where words have no outputs of their own.

    Args:
        word: output of cross-attention with the word as prompt, `[n c]`.
        plain: with the picture's own prompt, of the same queries.

    Returns:
        `[n]`.
    """
    return (word.float() - plain.float()).norm(dim=-1)
