"""Directions of a layer of a network: the result of discovery, the input of every edit."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Directions:
    """``k`` unit directions, shared by all steps (t = 1) or one set for each of ``t`` noise levels.

    Attributes:
        vectors: `[t k c h w]` float32, each of unit Euclidean norm.
        sigmas: `[t]` float64, the noise level at which each set was found.
        gain: `[t k]`, norm of the response inside the mask per unit step in h (0 if unknown).
        leak: `[t k]`, the same outside the mask.
        layer: where they live, ``middle`` or ``up.k``, or ``x`` for the state itself.
        fingerprint: of the model they were found on.
        mask: `[h w]` in 0..1 at image resolution, or None for the whole picture.
        method: how they were found, for people ("generalized tau 0.1").
        labels: one name a direction, or empty.
        spectrum: `[n]` singular values of the masked Jacobian, for plots; may be empty.
    """

    vectors: Tensor
    sigmas: Tensor
    gain: Tensor
    leak: Tensor
    layer: str
    fingerprint: str
    mask: Tensor | None = None
    method: str = ""
    labels: tuple[str, ...] = ()
    spectrum: Tensor = field(default_factory=lambda: torch.zeros(0))

    def __post_init__(self) -> None:
        if self.vectors.dim() != 5 or 0 in self.vectors.shape:
            raise ValueError(f"direction vectors must be [t k c h w] and not empty, got {list(self.vectors.shape)}")
        t, k = self.vectors.shape[:2]
        if self.sigmas.shape != (t,) or self.gain.shape != (t, k) or self.leak.shape != (t, k):
            raise ValueError(
                f"sigmas, gain and leak must be [{t}], [{t} {k}] and [{t} {k}] for these vectors; "
                f"got {list(self.sigmas.shape)}, {list(self.gain.shape)} and {list(self.leak.shape)}"
            )
        if self.labels and len(self.labels) != k:
            raise ValueError(f"{k} directions need {k} labels, got {len(self.labels)}")
        if not torch.isfinite(self.vectors).all():
            raise ValueError("the directions hold NaN or infinite values; discover them again")

    def __len__(self) -> int:
        return self.vectors.shape[1]

    def at(self, sigma: float) -> Tensor:
        """The set found nearest to ``sigma`` in log scale, `[k c h w]`."""
        if len(self.sigmas) == 1:
            return self.vectors[0]
        log = self.sigmas.clamp_min(1e-8).log()
        return self.vectors[int((log - torch.tensor(max(sigma, 1e-8), dtype=log.dtype).log()).abs().argmin())]

    def label(self, i: int) -> str:
        """Name of direction ``i`` (0-based)."""
        return self.labels[i] if self.labels else f"#{i + 1}"

    def select(self, indices: list[int]) -> Directions:
        """Some of the directions, in the given order.

        Raises:
            ValueError: an index out of range.
        """
        bad = [i for i in indices if not 0 <= i < len(self)]
        if bad or not indices:
            raise ValueError(f"choose directions between 1 and {len(self)}, got {[i + 1 for i in bad] or 'none'}")
        labels = tuple(self.label(i) for i in indices)
        return replace(self, vectors=self.vectors[:, indices], gain=self.gain[:, indices], leak=self.leak[:, indices], labels=labels)

    def check_model(self, fingerprint: str, layers: tuple[str, ...]) -> None:
        """Refuse a model built on other weights than those they were found on; LoRA and the like may differ.

        Raises:
            ValueError: the fingerprints differ, or the model has no such layer.
        """
        if self.layer == "x" and "x" not in layers:
            raise ValueError("these directions move the noisy picture itself, not h; apply them with Edit State instead of Steer")
        if self.layer not in layers:
            raise ValueError(f"these directions live at layer {self.layer!r}, which this model does not have ({', '.join(layers)})")
        if self.fingerprint != fingerprint.partition("+")[0]:
            raise ValueError(
                f"these directions were found on model {self.fingerprint}, but the model connected here is {fingerprint}; "
                "connect that model, or discover directions on this one"
            )
