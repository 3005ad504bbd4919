"""PADA's networks: a distribution of ageing embeddings, and how one changes a code.

Li et al. 2023, arXiv 2303.11086, section 3.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

_LOG_VARIANCE = (-6.0, 2.0)


def _layer(inp: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inp, out), nn.LeakyReLU(0.2))


def _silent(inp: int, out: int, bias: float = 0.0) -> nn.Linear:
    """Build a head that says ``bias`` until it is trained."""
    layer = nn.Linear(inp, out)
    nn.init.zeros_(layer.weight)
    nn.init.constant_(layer.bias, bias)
    return layer


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
        self.shape = tuple(shape)
        self.embedding = embedding
        self.width = width
        self.trunk = nn.Sequential(_layer(embedding, width), _layer(width, width))
        self.mean = _silent(width, embedding)
        self.log_variance = _silent(width, embedding, -2.0)
        self.change = nn.Sequential(_layer(embedding, width), *(_layer(width, width) for _ in range(3)))
        size = math.prod(shape)
        self.scale = _silent(width, size)
        self.shift = _silent(width, size)
        # Scales alone would act on single coordinates, which of a small autoencoder each hold a bit of everything.
        self.into = nn.Linear(size, size, bias=False)
        self.back = nn.Linear(size, size, bias=False)
        for basis in (self.into, self.back):
            nn.init.eye_(basis.weight)

    def distribution(self, guide: Tensor) -> tuple[Tensor, Tensor]:
        """Predict mean and log variance of the ageing embedding, `[b e]` each, for ``guide`` of :func:`spread`."""
        h = self.trunk(guide)
        return guide + self.mean(h), self.log_variance(h).clamp(*_LOG_VARIANCE)

    def forward(self, normal: Tensor, ageing: Tensor) -> Tensor:
        """Age ``normal`` `[b d]` as the ageing embedding `[b e]` has it; nothing changes before training."""
        h = self.change(ageing)
        return normal + self.back(self.scale(h) * self.into(normal) + self.shift(h))


def spread(embedding: Tensor) -> Tensor:
    """Scale unit embeddings `[b e]` to unit variance a coordinate.

    At their own length the noise of the distribution would bury them.
    """
    return embedding * math.sqrt(embedding.shape[-1])


def kl_to(mean: Tensor, log_variance: Tensor, aim: Tensor) -> Tensor:
    """Compute KL(N(mean, variance)

    N(aim, 1)) a coordinate, `[b]`.||It pulls the mean to the guide and the variance to 1 (eq. 8, corrected).
    """
    return 0.5 * (log_variance.exp() + (mean - aim).square() - 1 - log_variance).mean(1)


def drawn(mean: Tensor, log_variance: Tensor, noise: Tensor, temperature: float = 1.0) -> Tensor:
    """Draw an ageing embedding, ``mean + temperature * deviation * noise``."""
    return mean + temperature * (0.5 * log_variance).exp() * noise
