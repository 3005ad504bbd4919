"""A trained shift of h as an edit (Asyrp, Kwon et al. 2023, arXiv 2210.10960, section 4)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..networks.delta import Delta, DeltaTable
from .schedule import EditSchedule
from .shift import asymmetric_factor


@dataclass(frozen=True)
class TrainedDelta:
    """A block or a table of shifts, and what it was trained for.

    Attributes:
        delta: ``delta(h, sigma)`` -> shift.
        fingerprint: of the model.
        sigma_edit: lowest noise level at which it acts (t_edit of the paper).
        steps: edited steps of the training run; a run of more steps adds the shift as many times more often, and each counts less.
        sigma_boost: from here down Asyrp draws noise anew (t_boost); 0 is off.
        layer: where it is added.
        label: for people, "face > smiling face".
        extra: figures of the training; ``sigma_start`` is the noisiest level that it saw.
    """

    delta: Delta | DeltaTable
    fingerprint: str
    sigma_edit: float
    steps: int
    sigma_boost: float = 0.0
    layer: str = "middle"
    label: str = ""
    extra: dict = field(default_factory=dict)

    def schedule(self, strength: float, sigma_end: float = 0.0) -> EditSchedule:
        """The levels that it was trained at, at a strength; ``sigma_end`` above 0 is another lowest one."""
        top = self.extra.get("sigma_start", math.inf)
        low = sigma_end or self.sigma_edit
        return EditSchedule(strength, sigma_start=max(float(top), low) if isinstance(top, (int, float)) else math.inf, sigma_end=low)

    def check_model(self, fingerprint: str, layers: tuple[str, ...]) -> None:
        """Refuse a model built on other weights; LoRA and the like may differ.

        Raises:
            ValueError: the fingerprints differ, or the model has no such layer.
        """
        if self.layer not in layers:
            raise ValueError(f"this trained edit acts at layer {self.layer!r}, which this model does not have ({', '.join(layers)})")
        if self.fingerprint != fingerprint.partition("+")[0]:
            raise ValueError(
                f"this edit was trained on model {self.fingerprint}, but the model connected here is {fingerprint}; connect that model, or "
                "train it on this one"
            )


@dataclass(frozen=True)
class DeltaEdit:
    """A trained shift and how far; strength 1 is what was trained, negative is the other way."""

    trained: TrainedDelta
    schedule: EditSchedule

    @property
    def layer(self) -> str:
        """Where it is added."""
        return self.trained.layer

    def check_model(self, fingerprint: str, layers: tuple[str, ...]) -> None:
        """See :meth:`TrainedDelta.check_model`."""
        self.trained.check_model(fingerprint, layers)

    def on(self, sigmas: Tensor, asymmetric: bool) -> DeltaEdit:
        """Itself, times trained steps over edited steps; more in a symmetric run, for which it was not trained."""
        covered = sum(self.schedule.covers(s) for s in sigmas[:-1].tolist())
        factor = self.trained.steps / covered if covered else 1.0
        if not asymmetric:
            factor /= asymmetric_factor([self], sigmas)
        return replace(self, schedule=replace(self.schedule, strength=self.schedule.strength * factor))

    def acts(self, sigma: float) -> bool:
        """Whether it adds anything at ``sigma``."""
        return self.schedule.acts(sigma)

    @torch.no_grad()
    def shift(self, sigma: float, h: Tensor) -> Tensor:
        """What it adds to ``h`` `[b c h w]`.

        Raises:
            ValueError: h has other channels.
        """
        delta = self.trained.delta.to(h.device)
        if delta.channels != h.shape[1]:
            raise ValueError(
                f"this edit was trained for h of {delta.channels} channels, the model has {h.shape[1]}; connect the model it was trained on"
            )
        wide = h.float()
        return (self.schedule.length(sigma, wide) * delta(wide, wide.new_full((len(h),), sigma))).to(h)
