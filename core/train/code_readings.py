"""What training on codes shares: statistics, ridge regression (Hoerl and Kennard, 10.1080/00401706.1970.10488634)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..codes import CodeSpace
from ..float64 import widen
from .heads import with_statistics

FEWEST = 8


@dataclass(frozen=True)
class EncodedPictures:
    """Pictures as two networks see them.

    Attributes:
        codes: of n pictures, `[n z]` or `[n l z]`, not normalised.
        space: of the codes; without statistics, those of ``codes`` are taken.
        embeddings: of the same pictures, unit `[n e]`.
    """

    codes: Tensor
    space: CodeSpace
    embeddings: Tensor

    def normalised(self) -> tuple[CodeSpace, Tensor, Tensor]:
        """Return a space with statistics, normalised codes `[n d]` and embeddings `[n e]` in float32.

        Raises:
            ValueError: too few pictures, or as many embeddings as codes there are not.
        """
        codes = self.codes
        embeddings = self.embeddings
        self.space.check(codes)
        if embeddings.dim() != 2 or len(embeddings) != len(codes) or not bool(torch.isfinite(embeddings).all()):
            raise ValueError(
                f"{len(codes)} codes need the embeddings of the same pictures [{len(codes)} e], got"
                f" {list(embeddings.shape)}"
            )
        if len(codes) < FEWEST:
            raise ValueError(f"training needs at least {FEWEST} different pictures, better thousands; got {len(codes)}")
        space = measured(codes, self.space)
        return space, space.normalise(codes), embeddings.float().to(codes.device)


@dataclass(frozen=True)
class CodeEditSettings:
    """How an edit of codes is trained.

    Attributes:
        steps: of the optimiser (Adam; the rate falls to 0 along a cosine).
        batch: codes, or pairs of them, at a time.
        lr: learning rate.
        width: of hidden layers.
        seed: of first weights and of what is drawn.
    """

    steps: int = 3000
    batch: int = 64
    lr: float = 1e-3
    width: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("batch", "width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


def measured(codes: Tensor, space: CodeSpace) -> CodeSpace:
    """Return ``space`` itself if it has statistics, otherwise with those of ``codes``."""
    return space if space.mean is not None else with_statistics(space, codes)


def ridge(x: Tensor, y: Tensor, penalty: float, offset: bool = True) -> Tensor:
    """Fit weights `[d e]`, with ``offset`` as a last row `[d+1 e]`, that read ``y`` `[n e]` off ``x`` `[n d]`.

    Args:
        x: normalised codes.
        y: what to read.
        penalty: on squared weights, in units of n (the offset is free).
        offset: whether there is one.
    """
    x = widen(x)
    y = widen(y)
    mean_x = x.mean(0) if offset else torch.zeros_like(x[0])
    mean_y = y.mean(0) if offset else torch.zeros_like(y[0])
    a = x - mean_x
    b = y - mean_y
    gram = a.T @ a / len(a) + penalty * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    weights = torch.linalg.solve(gram, a.T @ b / len(a))
    if offset:
        weights = torch.cat([weights, (mean_y - mean_x @ weights)[None]])
    return weights.float()


def read(x: Tensor, weights: Tensor) -> Tensor:
    """Read ``x`` `[n d]` through weights `[d+1 e]` of :func:`ridge`."""
    return x @ weights[:-1] + weights[-1]
