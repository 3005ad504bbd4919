"""What the exact inversions EDICT (arXiv 2211.12446) and BDIA (arXiv 2307.10829) share: float64 states and the pair that is kept."""

from __future__ import annotations

import torch
from torch import Tensor

from ..denoiser import Denoiser, is_flow
from ..trajectory import Trajectory
from .ddim import levels, lift


def wide(x: Tensor) -> Tensor:
    """``x`` in float64, in which steps are undone to the last digits; float32 where the device has no float64."""
    return x if x.device.type == "mps" else x.double()


class Noise:
    """The noise estimate of float64 states by a network of another dtype: a function of the rounded state, the same up and down.

    Args:
        model: any denoiser.
        dtype: of the states it is given.

    Attributes:
        denoised: last prediction, for callbacks.
    """

    def __init__(self, model: Denoiser, dtype: torch.dtype):
        self.model, self.dtype, self.flow = model, dtype, is_flow(model)
        self.denoised: Tensor | None = None

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """Eps of ``x`` `[b c h w]` at ``sigma`` > 0, in the dtype of ``x``."""
        at = x.to(self.dtype)
        denoised = self.denoised = self.model(at, levels(at, sigma))
        return (at.to(x) - denoised.to(x)) / sigma

    def lifted(self, x: Tensor, low: float, high: float) -> Tensor:
        """Eps at ``high`` of a state of ``low``, as in convention B of :mod:`core.invert.ddim`."""
        return self(lift(x, low, high, self.flow), high)


def coupled(model: Denoiser, grid: Tensor, states: list[Tensor], pair: tuple[Tensor, Tensor], dtype: torch.dtype, **how) -> Trajectory:
    """The trajectory of a coupled inversion.

    Args:
        model: that was inverted.
        grid: `[n+1]`, descending.
        states: clean first, `[b c h w]` each.
        pair: the two states of the way back.
        dtype: of the trajectory's states.
        how: ``method`` ("edict", "bdia") and its parameter, to be found again in ``extra["exact"]``.
    """
    number = next(v for k, v in how.items() if k != "method")
    extra = {"flow": is_flow(model), "exact": how, "pair": torch.stack(pair)}
    return Trajectory(grid, torch.stack([s.to(dtype) for s in states[::-1]]), model.fingerprint, f"{how['method']} {number:g}", extra=extra)
