"""The delta mapper of DeltaEdit: code, picture and what changes -> change of the code.

Lyu et al. 2023, arXiv 2303.06285, section 3.3.
"""

from __future__ import annotations

import math

import torch
from einops import rearrange
from torch import Tensor, nn

LAYERS = 4


def groups_of(levels: int) -> list[list[int]]:
    """List the levels of a code that share their mappers: deep, middle and shallow.

    In the paper coarse, medium and fine (level 0 is the finest).
    """
    count = min(3, levels)
    deepest = list(range(levels))[::-1]
    ends = [-(-levels * k // count) for k in range(count + 1)]
    return [deepest[ends[k] : ends[k + 1]] for k in range(count)]


class _Leaky(nn.Module):
    """Leaky ReLU that keeps the variance, as the paper's layers have it."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.leaky_relu(x, 0.2) * math.sqrt(2)


class _PixelNorm(nn.Module):
    """Every vector to unit mean square."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (x.square().mean(-1, keepdim=True) + 1e-8).rsqrt()


def _mapper(inp: int, out: int, width: int, norm: bool) -> nn.Sequential:
    """Build a mapper of four linear layers.

    Unlike the paper's the last one of the fusion has no activation, which would shrink changes of one sign.
    """
    parts: list[nn.Module] = [_PixelNorm()] if norm else []
    for n in range(LAYERS):
        parts.append(nn.Linear(inp if n == 0 else width, out if n == LAYERS - 1 else width))
        if norm or n < LAYERS - 1:
            parts.append(_Leaky())
    return nn.Sequential(*parts)


class _Group(nn.Module):
    """Style, condition and fusion module of the levels of one group."""

    def __init__(self, code: int, embedding: int, width: int):
        super().__init__()
        self.style = _mapper(code, code, width, True)
        self.condition = _mapper(2 * embedding, code, width, True)
        self.fusion = _mapper(2 * code, code, width, False)

    def forward(self, code: Tensor, condition: Tensor) -> Tensor:
        """Map ``code`` `[b l z]` under ``condition`` `[b 2e]`."""
        condition_rows = self.condition(condition)[:, None].expand(-1, code.shape[1], -1)
        return self.fusion(torch.cat([self.style(code), condition_rows], -1))


class DeltaMapper(nn.Module):
    """A change of normalised codes, for codes of one vector (DiffAE) or one a level (HDAE).

    Args:
        shape: of one picture's code, `(z,)` or `(l, z)`.
        embedding: width of the image-text space.
        width: of hidden layers.

    Attributes:
        length: median length of a change between two training pictures, to which predictions are brought.
        relevance: what a coordinate of the code does in the image-text space, unit rows `[d e]`.
        guess: weights and offset `[d+1 e]` of a linear reading of the picture's embedding off its code, for when there
            is no picture.
    """

    length: Tensor
    relevance: Tensor
    guess: Tensor

    def __init__(self, shape: tuple[int, ...], embedding: int, width: int = 256):
        super().__init__()
        self.shape = tuple(shape)
        self.embedding = embedding
        self.width = width
        self.levels = shape[0] if len(shape) == 2 else 1
        size = math.prod(shape)
        self.groups = groups_of(self.levels)
        self.parts = nn.ModuleList(_Group(shape[-1], embedding, width) for _ in self.groups)
        self.register_buffer("length", torch.ones(()))
        self.register_buffer("relevance", torch.zeros(size, embedding))
        self.register_buffer("guess", torch.zeros(size + 1, embedding))

    def forward(self, normal: Tensor, picture: Tensor, change: Tensor) -> Tensor:
        """Change of ``normal`` `[b d]`, given unit embeddings `[b e]` of its picture and of what is to change."""
        code = rearrange(normal, "b (level z) -> b level z", level=self.levels)
        condition = torch.cat([picture, change], 1)
        moved = torch.zeros_like(code)
        for levels, part in zip(self.groups, self.parts, strict=True):
            moved[:, levels] = part(code[:, levels], condition)
        return rearrange(moved, "b level z -> b (level z)")
