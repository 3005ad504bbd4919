"""Local blend of Prompt-to-Prompt: a mask from cross-attention maps.

Hertz et al. 2022, arXiv 2208.01626, section 4, "local editing".
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

# pixels a map should have: 16x16 of 512 pixels passes, 8x8 and 12x12 do not; of small pictures a quarter of the finest
COARSEST = 150


def attention_map(q: Tensor, k: Tensor, heads: int) -> Tensor:
    """Average the probabilities of ``q`` `[n q heads*d]` and ``k`` `[n k heads*d]` over heads, `[n q k]` float32."""
    q, k = (rearrange(t, "n t (head d) -> n head t d", head=heads).float() for t in (q, k))
    return (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1).mean(1)


def blend_mask(maps: Tensor, size: tuple[int, int], threshold: float = 0.3, pool: bool = True) -> Tensor:
    """Mark where the words are, 0 or 1, `[r h w]`: each row's own, united with that of the source (row 0).

    Args:
        maps: attention of the words summed over steps, `[r h' w']`.
        size: height and width of the state.
        threshold: share of a map's highest value.
        pool: widen by one pixel of the map (not done for words that are taken out).
    """
    maps = maps[:, None]
    if pool:
        maps = F.max_pool2d(maps, 3, 1, 1)
    maps = F.interpolate(maps, size)[:, 0]
    region = maps > threshold * maps.amax((1, 2), keepdim=True)
    return (region | region[:1]).float()


def blend(x: Tensor, mask: Tensor) -> Tensor:
    """Keep the source (row 0) outside of each row's mask: ``x_src + m (x - x_src)``, exact where m is 0 or 1.

    Args:
        x: `[r c h w]`.
        mask: `[r h w]` in 0..1.
    """
    return torch.lerp(x[:1].expand_as(x), x, mask[:, None].to(x))


def target_masks(mask: Tensor, rows: int, scale: int) -> Tensor:
    """Pick the masks of the targets, at the size of the picture.

    Args:
        mask: `[b h w]` of a batch of pairs.
        rows: of a pair, its source first.
        scale: pixels of a side for one of the state.

    Returns:
        `[n h*scale w*scale]`.
    """
    targets = [i for i in range(len(mask)) if i % rows]
    return F.interpolate(mask[targets][:, None], scale_factor=scale)[:, 0]


def map_level(sizes: dict[int, int]) -> int:
    """Choose the level of a U-Net to look at, of ``{level: pixels of its maps}``: the coarsest not too coarse."""
    least = min(COARSEST, max(sizes.values()) / 4)
    return max(level for level, pixels in sizes.items() if pixels >= least)
