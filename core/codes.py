"""Describe the space of semantic codes.

Shapes, statistics, and the one way in and out of normalised coordinates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

FAR = 2.0
"""For codes of which only mean and deviation are known."""


@dataclass(frozen=True)
class CodeSpace:
    """What must be known of codes besides their values.

    Attributes:
        shape: of one picture's code: `(z,)` for DiffAE, `(l, z)` for HDAE with the finest level first.
        fingerprint: of the autoencoder whose codes they are.
        mean: of the codes of its training pictures, flat `[d]`; None if unknown.
        std: their standard deviation, `[d]`; None if unknown.
        whitening: normalised codes of training pictures times this `[d d]` have unit covariance; None if unknown.
        far: length of a whitened code (root mean square) beyond which a picture is unlike the training pictures.
    """

    shape: tuple[int, ...]
    fingerprint: str
    mean: Tensor | None = None
    std: Tensor | None = None
    whitening: Tensor | None = None
    far: float = FAR

    def __post_init__(self) -> None:
        if len(self.shape) not in (1, 2) or min(self.shape) < 1:
            raise ValueError(f"a code is [z] or [levels z], got shape {self.shape}")
        if (self.mean is None) != (self.std is None):
            raise ValueError("statistics are a mean and a standard deviation; only one was given")
        for name, value in (("mean", self.mean), ("std", self.std)):
            if value is not None and (value.shape != (self.size,) or not bool(torch.isfinite(value).all())):
                raise ValueError(f"{name} must be {self.size} finite values, got {list(value.shape)}")
        if self.whitening is not None and (
            self.whitening.shape != (self.size,) * 2 or not bool(torch.isfinite(self.whitening).all())
        ):
            raise ValueError(f"whitening must be finite and {[self.size] * 2}, got {list(self.whitening.shape)}")
        if not 0 < self.far < math.inf:
            raise ValueError(f"far must be above 0, got {self.far}")
        if self.std is not None and float(self.std.min()) <= 0:
            raise ValueError(
                "standard deviations must be above 0; the statistics are damaged or were taken over a single picture"
            )

    @property
    def size(self) -> int:
        """Count the coordinates of one code, d."""
        return math.prod(self.shape)

    @property
    def levels(self) -> int:
        """Count the codes of a picture: 1 for DiffAE."""
        return self.shape[0] if len(self.shape) == 2 else 1

    def check(self, code: Tensor) -> Tensor:
        """Return ``code`` if it is a batch of this space's codes, `[b z]` or `[b l z]`; refuse anything else.

        Raises:
            ValueError: it is not, or holds NaN.
        """
        if code.dim() != len(self.shape) + 1 or code.shape[1:] != self.shape:
            raise ValueError(
                f"codes of this model are {['b', *self.shape]}, got {list(code.shape)}; encode with the same model"
            )
        if not bool(torch.isfinite(code).all()):
            raise ValueError("the code holds NaN or infinity; encode the picture again in float32")
        return code

    def normalise(self, code: Tensor) -> Tensor:
        """Normalise codes `[b z]` or `[b l z]` to zero mean and unit variance, flat `[b d]` float32.

        Raises:
            ValueError: other codes, or the statistics are missing.
        """
        mean, std = self._statistics(code)
        return (self.check(code).float().flatten(1) - mean) / std

    def restore(self, normal: Tensor) -> Tensor:
        """Invert :meth:`normalise`: `[b d]` -> `[b z]` or `[b l z]`."""
        mean, std = self._statistics(normal)
        return (normal * std + mean).unflatten(1, self.shape)

    def moved(self, code: Tensor, change: Tensor) -> Tensor:
        """Move ``code`` by ``change`` `[b d]` of normalised coordinates; what does not change keeps its bits."""
        _, std = self._statistics(code)
        return self.check(code) + (change * std).unflatten(1, self.shape).to(code.dtype)

    def unlike(self, code: Tensor) -> Tensor:
        """Measure how far each code lies from those of training pictures, `[b]`: above 1 its picture is unlike them.

        The Mahalanobis distance (arXiv 1807.03888) where ``whitening`` is known.

        Raises:
            ValueError: other codes, or the statistics are missing.
        """
        normal = self.normalise(code)
        if self.whitening is not None:
            normal = normal @ self.whitening.to(normal)
        return normal.square().mean(1).sqrt() / self.far

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        if self.mean is None or self.std is None:
            raise ValueError(
                "mean and standard deviation of this model's codes are unknown, which normalised edits need; load the"
                " checkpoint of its latent network, or give Load DiffAE that of its classifier as 'statistics': they"
                " hold conds_mean and conds_std"
            )
        return self.mean.to(like.device, torch.float32), self.std.to(like.device, torch.float32)
