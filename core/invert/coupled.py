"""What the exact inversions EDICT and BDIA (arXiv 2307.10829) share: float64 states and the pair that is kept.

ArXiv 2211.12446.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..denoiser import Denoiser, predict
from ..trajectory import ExactMethod, Trajectory
from .ddim import levels, lift


class Noise:
    """The noise estimate of float64 states by a network of another dtype.

    It is a function of the rounded state, the same up and down.

    Args:
        model: any denoiser.
        dtype: of the states it is given.

    Attributes:
        denoised: last prediction, for callbacks.
        given: the last two estimates, as many as a step asks for; for :class:`Replayed`.
    """

    def __init__(self, model: Denoiser, dtype: torch.dtype):
        self.model = model
        self.dtype = dtype
        self.denoised: Tensor | None = None
        self.given: list[Tensor] = []

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """Estimate eps of ``x`` `[b c h w]` at ``sigma`` > 0, in the dtype of ``x``."""
        at = x.to(self.dtype)
        denoised = self.denoised = predict(self.model, at, levels(at, sigma))
        eps = (at.to(x) - denoised.to(x)) / sigma
        self.given = [*self.given[-1:], eps]
        return eps

    def lifted(self, x: Tensor, low: float, high: float) -> Tensor:
        """Estimate eps at ``high`` of a state of ``low``, as in convention B of :mod:`core.invert.ddim`."""
        return self(lift(x, low, high, self.model.noising), high)


class Replayed(Noise):
    """Gives back what another one gave, the last first: the step the other way asks at the same states.

    With it the residual of a step costs no call of the network.
    """

    def __init__(self, noise: Noise):
        super().__init__(noise.model, noise.dtype)
        self.given = list(noise.given)

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """See the class."""
        return self.given.pop()


def coupled(
    model: Denoiser,
    grid: Tensor,
    states: list[Tensor],
    pair: tuple[Tensor, Tensor],
    dtype: torch.dtype,
    exact: ExactMethod,
    residual: list[float],
) -> Trajectory:
    """Build the trajectory of a coupled inversion.

    Args:
        model: that was inverted.
        grid: `[n+1]`, descending.
        states: clean first, `[b c h w]` each.
        pair: the two states of the way back.
        dtype: of the trajectory's states.
        exact: which inversion it is, with its parameter.
        residual: relative, of each step undone with its own estimates, clean first.
    """
    return Trajectory(
        grid,
        torch.stack([s.to(dtype) for s in states[::-1]]),
        model.fingerprint,
        f"{exact.method} {exact.parameter:g}",
        residual=torch.tensor(residual[::-1], dtype=torch.float64),
        noising=model.noising,
        exact=exact,
        pair=torch.stack(pair),
    )
