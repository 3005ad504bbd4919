"""How PADA judges an aged code, and the picture it stands for (Li et al. 2023, arXiv 2303.11086, section 3.3).

By default everything is judged in code space, by readings off the code (age, the other attributes, the picture's
embedding) that are linear and penalised: freer ones are deceived by codes that no picture has. :class:`ImageLosses`
adds the same judgement on one-step pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..embedder import Embedder
from ..networks.diffae import Coded, DiffAENet
from ..networks.vp import Prediction, VPDenoiser
from ..schedule import Schedule
from .code_readings import read, ridge
from .directional import averaged

PENALTY = 1.0
"""Of the linear readings. At 0.1 they can still be deceived: they say grey of a code whose picture is not."""
OFF_MANIFOLD = 0.05
"""Added to the covariance of the codes."""
FARTHEST = 2.5
"""Deviations along an axis of the codes, beyond which a code lies outside."""
_SIGMAS = (0.34, 3.4)


class TextPairs(NamedTuple):
    """Embeddings `[b e]` of the texts that pictures are to be near to and those they come from, and by how much."""

    aim: Tensor
    source: Tensor
    margin: float


@dataclass(frozen=True)
class ImageLosses:
    """Judges pictures: ``x0`` predicted in one step from a noised picture, with the aged code.

    Attributes:
        pictures: of the codes, `[n c h w]` in -1..1, on any device.
        predict: ``predict(x, sigma, code) -> x0`` of the frozen autoencoder in the sigma dialect.
        embedder: of the guides.
        device: of both networks; codes may be elsewhere.
        rows: pictures a step.
    """

    pictures: Tensor
    predict: Callable[[Tensor, Tensor, Tensor], Tensor]
    embedder: Embedder
    device: torch.device | str = "cpu"
    rows: int = 8

    @property
    def sigmas(self) -> tuple[float, float]:
        """Give the least and greatest noise level.

        They are what t = 100 and 500 of the paper leave of its 256 pixels, at the size of these pictures.
        """
        side = min(self.pictures.shape[-2:])
        low, high = _SIGMAS
        return low * side / 256, high * side / 256

    def loss(self, code: Tensor, rows: Tensor, texts: TextPairs, generator: torch.Generator) -> Tensor:
        """Compute the triplet in the embedder's own eyes, and the absolute change of the picture.

        Args:
            code: aged, not normalised, `[b ...]`; a gradient runs through it.
            rows: numbers of the pictures `[b]`.
            texts: what they are to look like.
            generator: of the noise.
        """
        x0 = self.pictures[rows.to(self.pictures.device)].to(self.device)
        low, high = self.sigmas
        place = torch.rand(len(x0), generator=generator)
        sigma = (low * (high / low) ** place).to(x0)
        noise = torch.randn(x0.shape, generator=generator).to(x0)
        x = x0 + sigma[:, None, None, None] * noise
        shown = self.predict(x, sigma, code.to(x0))
        embedding = self.embedder.embed_image(shown)
        away = triplet(embedding, texts.aim.to(x0), texts.source.to(x0), texts.margin)
        return (away + F.l1_loss(shown, x0)).to(code)


def one_step(net: DiffAENet, schedule: Schedule, prediction: Prediction) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Make the ``predict`` of :class:`ImageLosses` for a frozen autoencoder; differentiable in the code."""

    def predict(x: Tensor, sigma: Tensor, code: Tensor) -> Tensor:
        return VPDenoiser(Coded(net, code), schedule, prediction, fingerprint="frozen")(x, sigma)

    return predict


def ages_between(
    embedder: Embedder, embeddings: Tensor, young: Sequence[str], old: Sequence[str]
) -> tuple[Tensor, Tensor]:
    """Read age and everything else of pictures without labels.

    They lie along and across the direction from the young to the old texts.

    Args:
        embedder: of the texts.
        embeddings: of pictures, unit `[n e]`.
        young, old: texts.

    Returns:
        Ages `[n]`, the 5th and 95th hundredth of the pictures at 0 and 1; and what is left of the embeddings `[n e]`,
        in deviations.
    """
    lists = {"young": young, "old": old}
    ends = [torch.stack([averaged(embedder, text, name) for text in texts]).mean(0) for name, texts in lists.items()]
    direction = F.normalize(ends[1] - ends[0], dim=0)
    direction = direction.to(embeddings)
    along = embeddings @ direction
    low = along.quantile(0.05)
    high = along.quantile(0.95)
    across = embeddings - along[:, None] * direction
    ages = ((along - low) / (high - low).clamp_min(1e-6)).clamp(0, 1)
    others = (across - across.mean(0)) / across.std().clamp_min(1e-6)
    return ages, others


def triplet(embedding: Tensor, aim: Tensor, source: Tensor, margin: float) -> Tensor:
    """Compute ``max(0, margin + d(embedding, aim) - d(embedding, source))`` in cosine distance, the mean over `[b e]`.

    Between pictures and texts there is a gap, which cancels in the difference.
    """
    to_aim = F.cosine_similarity(embedding, aim)
    to_source = F.cosine_similarity(embedding, source)
    return (margin - to_aim + to_source).clamp_min(0).mean()


class Judge:
    """What is read off normalised codes, linearly.

    Args:
        normal: codes of the training pictures `[n d]`.
        embeddings: of the same, `[n e]`.
        ages: signs of age, 0 young .. 1 old, `[n s]`.
        others: attributes that are to stay, `[n k]`.

    Raises:
        ValueError: as many ages or attributes as codes there are not, or ages that are all the same.
    """

    def __init__(self, normal: Tensor, embeddings: Tensor, ages: Tensor, others: Tensor):
        if len(ages) != len(normal) or others.dim() != 2 or len(others) != len(normal):
            raise ValueError(
                f"{len(normal)} codes need as many ages and rows of attributes, got {list(ages.shape)} and"
                f" {list(others.shape)}"
            )
        if float(ages.min()) < -1e-6 or float(ages.max()) > 1 + 1e-6 or float(ages.std(0).min()) < 1e-3:
            raise ValueError("ages must differ, from 0 (young) to 1 (old); connect pictures of both")
        self._age = ridge(normal, ages, PENALTY)
        self._others = ridge(normal, others, PENALTY)
        self._embedding = ridge(normal, embeddings, PENALTY)
        readings = self.age(normal)
        # A penalised reading stays nearer to the middle than the age itself; this line says by how much.
        lines = [ridge(ages[:, k, None], readings[:, k, None], 0.0) for k in range(ages.shape[1])]
        self._typical = torch.cat(lines, 1)
        covariance = normal.T @ normal / len(normal)
        eye = torch.eye(len(covariance)).to(covariance)
        self._inverse = torch.linalg.inv(covariance + OFF_MANIFOLD * eye)
        variances, axes = torch.linalg.eigh(covariance)
        variances = variances.clamp_min(0)
        self._white = axes / (variances + OFF_MANIFOLD).sqrt()
        relative = variances * variances.sum() / variances.square().sum()
        self._root = (axes * relative.sqrt()) @ axes.T

    def age(self, normal: Tensor) -> Tensor:
        """Read the age `[b s]`, 0 young .. 1 old."""
        return read(normal, self._age)

    def aim(self, ages: Tensor) -> Tensor:
        """Read the average off pictures of ``ages`` `[b s]`: a penalised reading keeps to the middle."""
        return ages * self._typical[0] + self._typical[1]

    def others(self, normal: Tensor) -> Tensor:
        """Read all else `[b k]`."""
        return read(normal, self._others)

    def embedding(self, normal: Tensor) -> Tensor:
        """Read the embedding `[b e]`, about unit."""
        return read(normal, self._embedding)

    def outside(self, normal: Tensor) -> Tensor:
        """Measure how far a code lies beyond :data:`FARTHEST` deviations along any axis, squared and summed, `[b]`."""
        beyond = (normal @ self._white).abs() - FARTHEST
        return beyond.clamp_min(0).square().sum(1)

    def visible(self, change: Tensor) -> Tensor:
        """Measure the length `[b]`, directions weighted by how much pictures differ along them.

        Pictures are as far apart as by the plain length.
        """
        return (change @ self._root).norm(dim=1)

    def length(self, change: Tensor) -> Tensor:
        """Measure the squared Mahalanobis length a coordinate, `[b]`: long where codes do not vary."""
        return ((change @ self._inverse) * change).mean(1)
