"""Structure of a picture: self-similarity of features (Splicing ViT Features, arXiv 2201.00424, section 3; DINO, arXiv 2104.14294)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..faces.regressor import SIZE, Regressor
from ..networks.read import read_tensors

_SHORT, _LONG = 224, 480  # of the sides that a picture is scaled to
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Features(Protocol):
    """What sees the structure of a picture.

    Attributes:
        name: stated in every report; figures of different features must not be compared.
    """

    name: str

    def __call__(self, images: Tensor) -> Tensor:
        """Pictures `[b 3 h w]` in 0..1 -> `[b t d]`, one vector a place."""
        ...


class FaceFeatures:
    """The stand-in in the face world: what the attribute regressor sees, at 16x16 places. Unlike DINO it sees colours as much as shapes.

    Args:
        regressor: of the face world.
    """

    name = "face regressor, layer 2 (stand-in for DINO)"

    def __init__(self, regressor: Regressor):
        self.layers = regressor.features[:5]  # two convolutions; the second before its activation, as keys of a transformer are

    def __call__(self, images: Tensor) -> Tensor:
        """See :class:`Features`."""
        if images.shape[-2:] != (SIZE, SIZE):
            images = F.interpolate(images, (SIZE, SIZE), mode="bilinear", antialias=True)
        device = next(self.layers.parameters()).device
        return self.layers(images.to(device, torch.float32) * 2 - 1).flatten(2).mT


class _Block(nn.Module):
    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim, 1e-6), nn.LayerNorm(dim, 1e-6)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(dim, 3 * dim), "proj": nn.Linear(dim, dim)})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(dim, 4 * dim), "fc2": nn.Linear(4 * dim, dim)})

    def qkv(self, x: Tensor) -> Tensor:
        """`[b t d]` -> `[3 b t d]`."""
        return torch.stack(self.attn["qkv"](self.norm1(x)).chunk(3, -1))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (self.heads, -1)).transpose(2, 3)
        x = x + self.attn["proj"](F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))


class DinoKeys(nn.Module):
    """Keys of the last layer of a DINO vision transformer, as PIE-Bench takes them.

    Args:
        dim: width.
        patch: pixels of a side of a patch.
        depth: blocks; 12 in the release, so that the last is layer 11.
        grid: patches of a side that it was trained with.
        scale: brightness of white. The benchmark feeds 0..255 to a network of 0..1; 1 is what the network was trained on.
    """

    def __init__(self, dim: int = 768, patch: int = 8, depth: int = 12, grid: int = 28, scale: float = 255.0):
        super().__init__()
        self.patch, self.grid, self.scale = patch, grid, scale
        self.name = f"DINO ViT {dim}/{patch}, keys of layer {depth - 1}, white = {scale:g}"
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + grid**2, dim))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, dim, patch, patch)})
        self.blocks = nn.ModuleList(_Block(dim, dim // 64) for _ in range(depth))

    def forward(self, images: Tensor) -> Tensor:
        """See :class:`Features`."""
        x = images.to(self.cls_token)
        x = F.interpolate(x, _scaled(*x.shape[-2:]), mode="bilinear")  # without antialiasing, as torchvision did to tensors then
        mean, std = (x.new_tensor(v)[:, None, None] for v in (_MEAN, _STD))
        x = self.patch_embed["proj"]((x * self.scale - mean) / std)
        places = self._places(*x.shape[-2:])
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x.flatten(2).mT], 1) + places
        for block in self.blocks[:-1]:
            x = block(x)
        last: Any = self.blocks[-1]
        return last.qkv(x)[1]

    def _places(self, height: int, width: int) -> Tensor:
        if (height, width) == (self.grid, self.grid):
            return self.pos_embed
        whole = self.pos_embed[:, 1:].mT.unflatten(2, (self.grid, self.grid))
        # The release scales by a tenth of a patch more, so that rounding never drops one.
        scaled = F.interpolate(whole, scale_factor=((height + 0.1) / self.grid, (width + 0.1) / self.grid), mode="bicubic")
        return torch.cat([self.pos_embed[:, :1], scaled.flatten(2).mT], 1)


def load_dino(path: str | Path, scale: float = 255.0) -> DinoKeys:
    """DINO from its release (``dino_vitbase8_pretrain.pth``), or the same weights as safetensors.

    Raises:
        ValueError: the file cannot be read or is no vision transformer of DINO.
    """
    state = read_tensors(path)
    try:
        dim, _, patch, _ = state["patch_embed.proj.weight"].shape
        depth = 1 + max(int(k.split(".")[1]) for k in state if k.startswith("blocks."))
        grid = round((state["pos_embed"].shape[1] - 1) ** 0.5)
        if dim % 64 or not 0 < depth <= 48 or not 0 < grid <= 256 or dim > 2048:
            raise ValueError(f"width {dim}, depth {depth} and grid {grid} are none of DINO's")
        with torch.device("meta"):
            net = DinoKeys(dim, patch, depth, grid, scale)
        net.load_state_dict({k: v.float() for k, v in state.items() if not k.startswith(("norm.", "head."))}, assign=True)
    except Exception as error:  # a file may hold anything
        raise ValueError(
            f"{Path(path).name} is no vision transformer of DINO ({str(error)[:200]}); get dino_vitbase8_pretrain.pth of its release"
        ) from error
    return net.eval().requires_grad_(False)


def structure_distance(features: Features, a: Tensor, b: Tensor) -> Tensor:
    """Mean squared difference of the cosine self-similarities of two pictures' features, `[b]`; 0 for equal ones.

    Args:
        features: what sees the structure.
        a: `[b 3 h w]` in 0..1.
        b: the same shape.
    """
    found = []
    for x, y in zip(a.split(1), b.split(1), strict=True):  # one by one: the matrices of 785 places are large
        first, second = (_self_similarity(features(v)[0]) for v in (x, y))
        found.append((first - second).square().mean())
    return torch.stack(found).cpu()


def _self_similarity(tokens: Tensor) -> Tensor:
    length = tokens.norm(dim=-1, keepdim=True)
    return tokens @ tokens.mT / (length @ length.mT).clamp_min(1e-8)


def _scaled(height: int, width: int) -> tuple[int, int]:
    """The shorter side 224, unless the longer one would exceed 480."""
    short, long = sorted((height, width))
    new_short, new_long = _SHORT, int(_SHORT * long / short)
    if new_long > _LONG:
        new_short, new_long = int(_LONG * new_short / new_long), _LONG
    return (new_short, new_long) if height <= width else (new_long, new_short)
