"""What training on codes shares: their statistics and ridge regression (Hoerl and Kennard 1970, doi 10.1080/00401706.1970.10488634)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..codes import CodeSpace
from .heads import with_statistics

FEWEST = 8


def prepared(codes: Tensor, space: CodeSpace, embeddings: Tensor) -> tuple[CodeSpace, Tensor, Tensor]:
    """A space with statistics, normalised codes `[n d]` and embeddings `[n e]` in float32.

    Raises:
        ValueError: too few pictures, or as many embeddings as codes there are not.
    """
    space.check(codes)
    if embeddings.dim() != 2 or len(embeddings) != len(codes) or not bool(torch.isfinite(embeddings).all()):
        raise ValueError(f"{len(codes)} codes need the embeddings of the same pictures [{len(codes)} e], got {list(embeddings.shape)}")
    if len(codes) < FEWEST:
        raise ValueError(f"training needs at least {FEWEST} different pictures, better thousands; got {len(codes)}")
    space = measured(codes, space)
    return space, space.normalise(codes), embeddings.float().to(codes.device)


def measured(codes: Tensor, space: CodeSpace) -> CodeSpace:
    """``space`` itself if it has statistics, otherwise with those of ``codes``."""
    return space if space.mean is not None else with_statistics(space, codes)


def checked(**numbers: int) -> None:
    """Refuse counts below 1.

    Raises:
        ValueError: one is.
    """
    for name, value in numbers.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")


def ridge(x: Tensor, y: Tensor, penalty: float, offset: bool = True) -> Tensor:
    """Weights `[d e]`, with ``offset`` as a last row `[d+1 e]`, that read ``y`` `[n e]` off ``x`` `[n d]`.

    Args:
        x: normalised codes.
        y: what to read.
        penalty: on squared weights, in units of n (the offset is free).
        offset: whether there is one.
    """
    x, y = x.double(), y.double()
    mean_x, mean_y = (x.mean(0), y.mean(0)) if offset else (torch.zeros_like(x[0]), torch.zeros_like(y[0]))
    a, b = x - mean_x, y - mean_y
    gram = a.T @ a / len(a) + penalty * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    weights = torch.linalg.solve(gram, a.T @ b / len(a))
    return (torch.cat([weights, (mean_y - mean_x @ weights)[None]]) if offset else weights).float()


def read(x: Tensor, weights: Tensor) -> Tensor:
    """``x`` `[n d]` through weights `[d+1 e]` of :func:`ridge`."""
    return x @ weights[:-1] + weights[-1]
