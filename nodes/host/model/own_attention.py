"""Attention of our own, through which derivatives pass: written out for every kind, fused for reverse mode."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

OVERRIDE = "optimized_attention_override"
"""Under which transformer options name the attention that a call is to use."""

Attention = Callable[..., Tensor]
"""Stands in for the host's attention; its first argument is what it stands in for."""

Kernel = Callable[[Tensor, Tensor, Tensor, "Tensor | None", "float | None", bool], Tensor]
"""From q, k and v `[b heads n d]`, a mask, a scale, and whether k and v have fewer heads, to `[b heads n d]`."""


def as_override(kernel: Kernel) -> Attention:
    """Give a kernel the signature of the host's attention."""

    def attention(
        _: Callable,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        heads: int,
        mask: Tensor | None = None,
        attn_precision=None,
        skip_reshape: bool = False,
        skip_output_reshape: bool = False,
        **kwargs,
    ) -> Tensor:
        """Attend.

        Args:
            q, k, v: `[b n heads*d]`, or `[b heads n d]` with ``skip_reshape``.
            heads: number of heads.
            mask: additive, or boolean with True for what may be seen.
            skip_output_reshape: give `[b heads n d]` back.
        """
        if not skip_reshape:
            q, k, v = _heads_apart(q, k, v, heads)
        if mask is not None:
            mask = _with_heads(mask)
        grouped = bool(kwargs.get("enable_gqa")) and k.shape[-3] != q.shape[-3]
        out = kernel(q, k, v, mask, kwargs.get("scale"), grouped)
        return out if skip_output_reshape else out.transpose(1, 2).flatten(2)

    return attention


def _written_out(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float | None, grouped: bool) -> Tensor:
    """Softmax attention through which forward mode, reverse mode and vmap all pass, unlike fused kernels."""
    if grouped:
        times = q.shape[-3] // k.shape[-3]
        k = k.repeat_interleave(times, -3)
        v = v.repeat_interleave(times, -3)
    # In float32, as fused kernels accumulate: half-precision scores overflow on some models.
    scores = (q.float() * (q.shape[-1] ** -0.5 if scale is None else scale)) @ k.float().transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
    return scores.softmax(-1).to(v.dtype) @ v


def _fused(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float | None, grouped: bool) -> Tensor:
    """The same by torch's own kernel, which never holds the scores and passes in reverse mode alone.

    It is not the host's choice of the day, as some of those have no derivative at all.
    """
    if mask is not None and mask.dtype != torch.bool:
        mask = mask.to(q.dtype)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale, enable_gqa=grouped)


plain_attention = as_override(_written_out)
fused_attention = as_override(_fused)


def _heads_apart(q: Tensor, k: Tensor, v: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """`[b n heads*d]` as `[b heads n d]`."""
    # Rows are those of q, as in the host's own kernels: HyperTile cuts q alone into tiles, and k and v follow.
    rows = q.shape[0]
    width = q.shape[-1] // heads
    q, k, v = (part.reshape(rows, -1, heads, width).transpose(1, 2) for part in (q, k, v))
    return q, k, v


def _with_heads(mask: Tensor) -> Tensor:
    """A mask `[n m]`, `[b n m]` or `[b heads n m]` for scores `[b heads n m]`."""
    if mask.dim() == 2:
        return mask[None, None]
    return mask[:, None] if mask.dim() == 3 else mask


def chained(override: Callable | None, attention: Attention = plain_attention) -> Callable:
    """An attention of ours, inside of another node's attention override if there is one."""
    if override is None:
        return attention

    def outer(function: Callable, *args, **kwargs) -> Tensor:
        def inner(*inner_args, **inner_kwargs) -> Tensor:
            return attention(function, *inner_args, **inner_kwargs)

        return override(inner, *args, **kwargs)

    return outer
