"""Directions of a layer of a network: the result of discovery, the input of every edit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from .calibration import Calibration
from .fingerprint import check_built_on, differences, parts_of, without_patches
from .foreign import is_dense, is_finite, shown


@dataclass(frozen=True)
class Directions:
    """``k`` unit directions, shared by all steps (t = 1) or one set for each of ``t`` noise levels.

    Attributes:
        vectors: `[t k ...]` float32, each of unit Euclidean norm; of a grid of features `[t k c h w]`.
        sigmas: `[t]` float64, the noise level at which each set was found.
        gain: `[t k]`, norm of the response inside the mask per unit step in h (0 if unknown).
        leak: `[t k]`, the same outside the mask.
        layer: where they live, a name that the model offers (``middle``, ``up.k``, ``block.k``), or ``x`` for the state
            itself.
        fingerprint: of the model they were found on.
        mask: `[h w]` in 0..1 at image resolution, or None for the whole picture.
        method: how they were found, for people ("generalized tau 0.1").
        labels: one name a direction, or empty.
        spectrum: `[n]` singular values of the masked Jacobian, for plots; may be empty.
        calibration: the strength at which each changes its region clearly, or None if nobody has measured it.
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
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        if not is_dense(self.vectors) or self.vectors.dim() < 3:
            raise ValueError(f"direction vectors must be [t k ...] and not empty, got {shown(self.vectors)}")
        t, k = self.vectors.shape[:2]
        if self.sigmas.shape != (t,) or self.gain.shape != (t, k) or self.leak.shape != (t, k):
            raise ValueError(
                f"sigmas, gain and leak must be [{t}], [{t} {k}] and [{t} {k}] for these vectors; "
                f"got {list(self.sigmas.shape)}, {list(self.gain.shape)} and {list(self.leak.shape)}"
            )
        if self.labels and len(self.labels) != k:
            raise ValueError(f"{k} directions need {k} labels, got {len(self.labels)}")
        if self.calibration is not None and len(self.calibration) != k:
            raise ValueError(f"the calibration is of {len(self.calibration)} directions, not of {k}; calibrate again")
        if not is_finite(self.vectors):
            raise ValueError("the directions hold NaN or infinite values; discover them again")
        if not is_finite(self.sigmas) or float(self.sigmas.min()) < 0:
            raise ValueError(
                f"the levels of directions must be finite, 0 or more, got {self.sigmas.tolist()[:8]}; discover them"
                " again"
            )
        for name in ("gain", "leak", "spectrum"):
            if not is_finite(getattr(self, name)):
                raise ValueError(f"the {name} of the directions holds NaN or infinite values; discover them again")
        if self.mask is not None and not is_finite(self.mask):
            raise ValueError("the mask of the directions holds NaN or infinite values; discover them again")

    def __len__(self) -> int:
        return self.vectors.shape[1]

    def at(self, sigma: float) -> Tensor:
        """Pick the set that belongs to the level nearest to ``sigma`` in log scale, `[k ...]`."""
        if len(self.sigmas) == 1:
            return self.vectors[0]
        log = self.sigmas.clamp_min(1e-8).log()
        level = torch.tensor(max(sigma, 1e-8), dtype=log.dtype).log()
        return self.vectors[int((log - level).abs().argmin())]

    def label(self, i: int) -> str:
        """Name of direction ``i`` (0-based)."""
        return self.labels[i] if self.labels else f"#{i + 1}"

    def select(self, indices: list[int]) -> Directions:
        """Select some of the directions, in the given order.

        Raises:
            ValueError: an index out of range.
        """
        bad = [i for i in indices if not 0 <= i < len(self)]
        if bad or not indices:
            raise ValueError(f"choose directions between 1 and {len(self)}, got {[i + 1 for i in bad] or 'none'}")
        labels = tuple(self.label(i) for i in indices)
        return replace(
            self,
            vectors=self.vectors[:, indices],
            gain=self.gain[:, indices],
            leak=self.leak[:, indices],
            labels=labels,
            calibration=self.calibration and self.calibration.select(indices),
        )

    def on_copy(self, fingerprint: str) -> tuple[Directions, str]:
        """Hand them to a copy of their model whose weights are rounded; says what tells the two apart, if anything.

        Only the weights may differ: what else does is left for :meth:`check_model` to refuse.
        """
        here = without_patches(fingerprint)
        mine = without_patches(self.fingerprint)
        if {**parts_of(mine), "weights": ""} != {**parts_of(here), "weights": ""} or mine == here:
            return self, ""
        note = (
            f"these directions were found on model {self.fingerprint}; the quantised one connected here differs in"
            f" {differences(mine, here)}. They serve it if it is a copy of that model"
        )
        return replace(self, fingerprint=here), note

    def check_model(self, fingerprint: str, layers: tuple[str, ...]) -> None:
        """Refuse a model built on other weights, or sampling otherwise, than that they were found on.

        LoRA and the like may differ.

        Raises:
            ValueError: the fingerprints differ, or the model has no such layer.
        """
        if self.layer == "x" and "x" not in layers:
            raise ValueError(
                "these directions move the noisy picture itself, not h; apply them with Edit State instead of Steer"
            )
        if self.layer not in layers:
            raise ValueError(
                f"these directions live at layer {self.layer!r}, which this model does not have ({', '.join(layers)})"
            )
        check_built_on(
            self.fingerprint,
            fingerprint,
            "these directions were found",
            "connect that model, or discover directions on this one",
        )


def scaled(vectors: Tensor, factors: Tensor) -> Tensor:
    """Multiply ``vectors`` `[t k ...]` by one factor each, ``factors`` `[t k]` or `[k]`."""
    return vectors * factors.reshape(*factors.shape, *(1,) * (vectors.dim() - 2))


def aligned(sets: Sequence[Directions]) -> tuple[list[Tensor], Directions]:
    """Bring all vectors to `[t k ...]` with one t, and return with them the set whose steps they share."""
    base = max(sets, key=lambda s: len(s.sigmas))
    t = len(base.sigmas)
    device = base.vectors.device
    for s in sets:
        s.check_model(base.fingerprint, (base.layer,))
        if s.vectors.shape[2:] != base.vectors.shape[2:]:
            raise ValueError(
                f"directions of {list(base.vectors.shape[2:])} and {list(s.vectors.shape[2:])} cannot be combined; "
                "discover both at one image size"
            )
        if len(s.sigmas) not in (1, t) or (
            len(s.sigmas) > 1 and not torch.allclose(s.sigmas.cpu(), base.sigmas.cpu(), rtol=1e-4)
        ):
            raise ValueError(
                "these sets were found step by step on different noise levels; discover them on the same trajectory"
                " grid"
            )
    return [s.vectors.to(device).expand(t, *s.vectors.shape[1:]) for s in sets], base
