"""Prompt-to-Prompt without attention maps: edited maps are attention with mixed values.

Hertz et al. 2022, arXiv 2208.01626, section 3.2.

With the maps `M_s` and `M_t` of the source and the target, every edit of the paper (replace, refine, reweight, windows)
is ``M' = M_s A + M_t diag(b)``, hence ``M' V_t = Attn(Q_s, K_s, A V_t) + Attn(Q_t, K_t, diag(b) V_t)``: two plain
attentions, of any kernel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ...schedule import ROUNDING
from .tokens import Prompt, token_map


@dataclass(frozen=True)
class WordControl:
    """What one target prompt takes from the source, and when.

    Attributes:
        shares: `[T T]`, see :func:`core.edit.attention.tokens.token_map`.
        alpha: `[T]` in 0..1, how much of the source's map a target token takes.
        weight: `[T]`, by which the map of a target token is multiplied (attention reweighting; not renormalised).
        start, end: `[T]`, the window of every target token as shares of the steps.
    """

    shares: Tensor
    alpha: Tensor
    weight: Tensor
    start: Tensor
    end: Tensor

    def at(self, step: int, steps: int) -> tuple[Tensor, Tensor] | None:
        """Return ``A`` `[T T]` and ``b`` `[T]` at a step (0 is the noisiest), or None where the map stays as it is."""
        first, last = ((edge * (steps + 1) + ROUNDING).floor() for edge in (self.start, self.end))
        inside = ((first <= step) & (step < last)).double()
        mixed = self.shares * (self.alpha * self.weight * inside)
        share = (1 - self.alpha) * self.weight * inside + (1 - inside)
        if not mixed.any() and bool((share == 1).all()):
            return None
        return mixed, share


def word_control(
    source: Prompt,
    target: Prompt,
    mode: str = "auto",
    window: tuple[float, float] = (0.0, 0.8),
    weights: Mapping[str, float] | None = None,
    windows: Mapping[str, tuple[float, float]] | None = None,
) -> WordControl:
    """Build the control of one target row.

    Args:
        source: prompt of the source row.
        target: prompt of this row.
        mode: one of :data:`core.edit.attention.tokens.MODES`.
        window: of all words, shares of the steps from the noisiest on.
        weights: of phrases of the target prompt; those that it lacks are left out.
        windows: of phrases of the target prompt, instead of ``window``; likewise.

    Raises:
        ValueError: see :func:`core.edit.attention.tokens.token_map`; or a window that is none.
    """
    for name, (start, end) in {"all words": window, **(windows or {})}.items():
        if not 0 <= start <= end <= 1:
            raise ValueError(f"the window of {name!r} must lie within 0..1 with its start first, got {start} and {end}")
    shares, alpha = token_map(source, target, mode)
    weight = torch.ones_like(alpha)
    start = torch.full_like(alpha, window[0])
    end = torch.full_like(alpha, window[1])
    for phrase, value in (weights or {}).items():
        weight[target.find(phrase)] = value
    for phrase, (first, last) in (windows or {}).items():
        at = target.find(phrase)
        start[at], end[at] = first, last
    return WordControl(shares, alpha, weight, start, end)


def mix_values(v: Tensor, mixed: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Mix the values into ``A V`` and ``diag(b) V``.

    Args:
        v: values of the target, `[n r*T c]`; hosts repeat a prompt r times to fill a batch, which changes no attention.
        mixed: A, `[n T T]`.
        share: b, `[n T]`.
    """
    split = v.unflatten(1, (-1, share.shape[-1]))
    wide = split.to(torch.promote_types(v.dtype, torch.float32))
    taken = torch.einsum("nij,nrjc->nric", mixed.to(wide), wide)
    unmixed = wide * share.to(wide)[:, None, :, None]
    return taken.flatten(1, 2).to(v.dtype), unmixed.flatten(1, 2).to(v.dtype)
