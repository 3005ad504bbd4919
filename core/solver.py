"""Steps of second order along sigma, either way: the midpoint rule (RF-Solver, 2411.04746), FireFlow (2412.07517).

With d(x, sigma) = (x - denoised) / sigma, which is the velocity of a flow model and the noise of the others, the
midpoint rule asks at x and again in the middle of the step, and goes by the second answer. RF-Solver's Taylor step is
this rule, written otherwise. FireFlow goes to the middle by the answer of the step before, and so asks once a step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

from torch import Tensor

from .denoiser import Noising, to_eps
from .schedule import relevel

Solver = Literal["euler", "midpoint", "fireflow"]
"""How sampling goes from one level to the next."""
SOLVERS: tuple[Solver, ...] = get_args(Solver)
Predict = Callable[[Tensor, float], Tensor]
"""Denoised pictures `[b ...]` of states `[b ...]` at one level."""


class SecondOrder:
    """A run of steps, up or down, of one of the two rules.

    Args:
        solver: ``midpoint`` or ``fireflow``.
        predict: asks the model.
        noising: how states are noised.
    """

    def __init__(self, solver: Solver, predict: Predict, noising: Noising) -> None:
        self._reuses = solver == "fireflow"
        self._predict = predict
        self._noising: Noising = noising
        self._slope: Tensor | None = None

    def step(self, x: Tensor, start: float, end: float) -> tuple[Tensor, Tensor]:
        """Take a step from level ``start`` to ``end``, one of which may be 0.

        Returns:
            The state at ``end``, and the prediction in the middle that it went by, both `[b ...]`.
        """
        width = end - start
        kept = self._slope if self._reuses else None
        slope = self._slope_at(x, start, end) if kept is None else kept
        level = start + width / 2
        middle = x + width / 2 * slope
        denoised = self._predict(middle, level)
        slope = self._slope = to_eps(middle, level, denoised)
        return x + width * slope, denoised

    def _slope_at(self, x: Tensor, start: float, end: float) -> Tensor:
        """Ask at ``x``; from the clean end, where no model can be asked, at the other end of the step."""
        if start:
            return to_eps(x, start, self._predict(x, start))
        lifted = x if self._noising == "flow" else relevel(x, 0.0, end)
        return to_eps(lifted, end, self._predict(lifted, end))


def calls_of(solver: Solver, steps: int) -> int:
    """Count the predictions of so many steps."""
    return {"euler": steps, "midpoint": 2 * steps, "fireflow": steps + 1}[solver]
