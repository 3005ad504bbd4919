"""PADA's networks (Li et al. 2023, arXiv 2303.11086, section 3): a distribution of ageing embeddings, and how one changes a code."""

from __future__ import annotations

import math

from torch import Tensor, nn

_LOG_VARIANCE = (-6.0, 2.0)


def _layer(inp: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inp, out), nn.LeakyReLU(0.2))


def _silent(inp: int, out: int, bias: float = 0.0) -> nn.Linear:
    """A head that says ``bias`` until it is trained."""
    made = nn.Linear(inp, out)
    nn.init.zeros_(made.weight)
    nn.init.constant_(made.bias, bias)
    return made


class PADA(nn.Module):
    """Ageing of normalised codes, guided by the embedding of a text or of a reference picture.

    The code is scaled and shifted (section 3.2), in a basis that is trained with the rest and starts as the code's own.

    Args:
        shape: of one picture's code, `(z,)` or `(l, z)`.
        embedding: width of the image-text space.
        width: of hidden layers.
    """

    def __init__(self, shape: tuple[int, ...], embedding: int, width: int = 256):
        super().__init__()
        self.shape, self.embedding, self.width = tuple(shape), embedding, width
        self.trunk = nn.Sequential(_layer(embedding, width), _layer(width, width))
        self.mean, self.log_variance = _silent(width, embedding), _silent(width, embedding, -2.0)
        self.change = nn.Sequential(_layer(embedding, width), *(_layer(width, width) for _ in range(3)))
        size = math.prod(shape)
        self.scale, self.shift = _silent(width, size), _silent(width, size)
        # Scales alone would act on single coordinates, which of a small autoencoder each hold a bit of everything.
        self.into, self.back = nn.Linear(size, size, bias=False), nn.Linear(size, size, bias=False)
        for basis in (self.into, self.back):
            nn.init.eye_(basis.weight)

    def distribution(self, guide: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance of the ageing embedding, `[b e]` each, for ``guide`` of :func:`spread`."""
        h = self.trunk(guide)
        return guide + self.mean(h), self.log_variance(h).clamp(*_LOG_VARIANCE)

    def forward(self, normal: Tensor, ageing: Tensor) -> Tensor:
        """``normal`` `[b d]` as the ageing embedding `[b e]` has it; itself before training."""
        h = self.change(ageing)
        return normal + self.back(self.scale(h) * self.into(normal) + self.shift(h))


def spread(embedding: Tensor) -> Tensor:
    """Unit embeddings `[b e]` with unit variance a coordinate: at their own length the noise of the distribution would bury them."""
    return embedding * math.sqrt(embedding.shape[-1])


def kl_to(mean: Tensor, log_variance: Tensor, aim: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(aim, 1)) a coordinate, `[b]`: pulls the mean to the guide and the variance to 1 (eq. 8, corrected)."""
    return 0.5 * (log_variance.exp() + (mean - aim).square() - 1 - log_variance).mean(1)


def drawn(mean: Tensor, log_variance: Tensor, noise: Tensor, temperature: float = 1.0) -> Tensor:
    """An ageing embedding, ``mean + temperature * deviation * noise``."""
    return mean + temperature * (0.5 * log_variance).exp() * noise
