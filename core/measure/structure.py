"""Structure of a picture: self-similarity of features.

Splicing ViT Features, arXiv 2201.00424, section 3; DINO, arXiv 2104.14294.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

# of the sides that a picture is scaled to
_SHORT = 224
_LONG = 480

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


class Features(Protocol):
    """What sees the structure of a picture.

    Attributes:
        name: stated in every report; figures of different features must not be compared.
    """

    name: str

    def __call__(self, images: Tensor) -> Tensor:
        """Describe pictures `[b 3 h w]` in 0..1 as `[b t d]`, one vector a place."""
        ...


class _Block(nn.Module):
    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim, 1e-6)
        self.norm2 = nn.LayerNorm(dim, 1e-6)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(dim, 3 * dim), "proj": nn.Linear(dim, dim)})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(dim, 4 * dim), "fc2": nn.Linear(4 * dim, dim)})

    def qkv(self, x: Tensor) -> Tensor:
        """Compute queries, keys and values of tokens: `[b t d]` -> `[3 b t d]`."""
        return torch.stack(self.attn["qkv"](self.norm1(x)).chunk(3, -1))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = rearrange(self.qkv(x), "part b t (head d) -> part b head t d", head=self.heads)
        seen = F.scaled_dot_product_attention(q, k, v)
        x = x + self.attn["proj"](rearrange(seen, "b head t d -> b t (head d)"))
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))


class DinoKeys(nn.Module):
    """Keys of the last layer of a DINO vision transformer, as PIE-Bench takes them.

    Args:
        dim: width.
        patch: pixels of a side of a patch.
        depth: blocks; 12 in the release, so that the last is layer 11.
        grid: patches of a side that it was trained with.
        scale: brightness of white. The benchmark feeds 0..255 to a network of 0..1; 1 is what the network was trained
            on.
    """

    def __init__(self, dim: int = 768, patch: int = 8, depth: int = 12, grid: int = 28, scale: float = 255.0):
        super().__init__()
        self.patch = patch
        self.grid = grid
        self.scale = scale
        self.name = f"DINO ViT {dim}/{patch}, keys of layer {depth - 1}, white = {scale:g}"
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + grid**2, dim))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, dim, patch, patch)})
        self.blocks = nn.ModuleList(_Block(dim, dim // 64) for _ in range(depth))

    def forward(self, images: Tensor) -> Tensor:
        """See :class:`Features`."""
        x = images.to(self.cls_token)
        # Without antialiasing, as torchvision did to tensors then.
        x = F.interpolate(x, _scaled(*x.shape[-2:]), mode="bilinear")
        mean, std = (x.new_tensor(v)[:, None, None] for v in (_MEAN, _STD))
        x = self.patch_embed["proj"]((x * self.scale - mean) / std)
        places = self._places(*x.shape[-2:])
        patches = rearrange(x, "b d h w -> b (h w) d")
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), patches], 1) + places
        for block in self.blocks[:-1]:
            x = block(x)
        last: Any = self.blocks[-1]
        return last.qkv(x)[1]

    def _places(self, height: int, width: int) -> Tensor:
        if (height, width) == (self.grid, self.grid):
            return self.pos_embed
        whole = rearrange(self.pos_embed[:, 1:], "1 (h w) d -> 1 d h w", h=self.grid)
        # The release scales by a tenth of a patch more, so that rounding never drops one.
        scaled = F.interpolate(
            whole, scale_factor=((height + 0.1) / self.grid, (width + 0.1) / self.grid), mode="bicubic"
        )
        return torch.cat([self.pos_embed[:, :1], rearrange(scaled, "1 d h w -> 1 (h w) d")], 1)


def structure_distance(features: Features, a: Tensor, b: Tensor) -> Tensor:
    """Compare the cosine self-similarities of two pictures' features by mean square, `[b]`; 0 for equal ones.

    Args:
        features: what sees the structure.
        a: `[b 3 h w]` in 0..1.
        b: the same shape.
    """
    distances = []
    for x, y in zip(a.split(1), b.split(1), strict=True):  # one by one: the matrices of 785 places are large
        first, second = (_self_similarity(features(v)[0]) for v in (x, y))
        distances.append((first - second).square().mean())
    return torch.stack(distances).cpu()


def _self_similarity(tokens: Tensor) -> Tensor:
    length = tokens.norm(dim=-1, keepdim=True)
    return tokens @ tokens.mT / (length @ length.mT).clamp_min(1e-8)


def _scaled(height: int, width: int) -> tuple[int, int]:
    """Scale the shorter side to 224, unless the longer one would exceed 480."""
    short, long = sorted((height, width))
    new_short = _SHORT
    new_long = int(_SHORT * long / short)
    if new_long > _LONG:
        new_short = int(_LONG * new_short / new_long)
        new_long = _LONG
    return (new_short, new_long) if height <= width else (new_long, new_short)
