"""A trained shift of h as an edit (Asyrp, Kwon et al. 2023, arXiv 2210.10960, section 4)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...edit_schedule import EditSchedule
from ...networks.asyrp import TrainedAsyrp
from .shift import asymmetric_factor


@dataclass(frozen=True)
class AsyrpEdit:
    """A trained shift and how far; strength 1 is what was trained, negative is the other way."""

    trained: TrainedAsyrp
    schedule: EditSchedule

    @property
    def layer(self) -> str:
        """Name the layer at which it is added."""
        return self.trained.layer

    def check_model(self, fingerprint: str, layers: tuple[str, ...]) -> None:
        """See :meth:`TrainedAsyrp.check_model`."""
        self.trained.check_model(fingerprint, layers)

    def on(self, sigmas: Tensor, asymmetric: bool) -> AsyrpEdit:
        """Scale it by trained over edited steps; by more in a symmetric run, for which it was not trained."""
        factor = self.trained.factor(sum(self.schedule.covers(s) for s in sigmas[:-1].tolist()), len(sigmas) - 1)
        if not asymmetric:
            factor /= asymmetric_factor([self], sigmas)
        return replace(self, schedule=replace(self.schedule, strength=self.schedule.strength * factor))

    def acts(self, sigma: float) -> bool:
        """Say whether it adds anything at ``sigma``."""
        return self.schedule.acts(sigma)

    @torch.no_grad()
    def shift(self, sigma: float, h: Tensor) -> Tensor:
        """Compute what it adds to ``h`` `[b c h w]`.

        Raises:
            ValueError: h has other channels.
        """
        shift = self.trained.shift.to(h.device)
        if shift.channels != h.shape[1]:
            raise ValueError(
                f"this edit was trained for h of {shift.channels} channels, the model has {h.shape[1]}; connect the"
                " model it was trained on"
            )
        wide = h.float()
        return (self.schedule.length(sigma, wide) * shift(wide, wide.new_full((len(h),), sigma))).to(h)
