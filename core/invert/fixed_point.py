"""Fixed-point inversion.

Pan et al. 2023, AIDI, arXiv 2309.04907, eq. 8; averaging: Garibi et al. 2024, ReNoise, arXiv 2403.14602, alg. 1.

The sampler's step from ``x'`` down to ``x`` uses eps at ``x'``; its exact inverse solves ``x' = x + (sigma' - sigma)
eps(x', sigma')``. Both papers start where convention B of DDIM does. Here a step starts from the eps of the step below
it, which is worth about two calls.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..denoiser import Callback, Denoiser, Noising, predict, to_eps
from ..inputs import IMAGE_LIMIT, check_image, check_sigmas
from ..trajectory import Trajectory
from .ddim import levels, lift


@dataclass(frozen=True)
class FixedPointOptions:
    """How the equation of a step is iterated.

    Attributes:
        warm: start from the eps of the step below; False starts where convention B asks, as the papers do.
        extrapolate: end in the mix of the two last evaluations whose residual would be smallest, where the residual
            falls and nothing is damped; it costs no call.
        damping: share of the previous iterate that is kept, 0 <= damping < 1; for guided models that oscillate, whose
            mix would overshoot.
        anderson: take that mix between the evaluations too (AIDI); with guidance it can lead away from the picture.
        average: None, or first and last evaluation (counted from 0, both included) whose eps are averaged for the step
            (ReNoise; it smooths where the iteration does not settle, and is less exact where it does).
        tol: stop a step when the relative residual of every sample is at most this.

    Raises:
        ValueError: an option outside its range.
    """

    warm: bool = True
    extrapolate: bool = True
    damping: float = 0.0
    anderson: bool = False
    average: tuple[int, int] | None = None
    tol: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.damping < 1:
            raise ValueError(
                f"damping must lie in 0 <= damping < 1, got {self.damping}; 0 is none, 0.3 calms an oscillation"
            )
        if not self.tol >= 0:
            raise ValueError(f"tol must be 0 or more, got {self.tol}; 1e-5 stops early without a visible loss")

    def check_iterations(self, iterations: int) -> None:
        """Refuse a number of refinements that is none, or too small for the average.

        Raises:
            ValueError: the iterations, or the range of the average.
        """
        if iterations < 0:
            raise ValueError(f"iterations must be 0 or more, got {iterations}; 1 is a good start")
        if self.average is not None and not 0 <= self.average[0] <= self.average[1] <= iterations:
            raise ValueError(
                f"average must be a first and a last evaluation within 0..{iterations}, got {self.average}; raise"
                " iterations or narrow it"
            )

    def describe(self, iterations: int) -> str:
        """Name the method, for a trajectory."""
        text = f"fixed point {iterations}"
        if not self.warm:
            text += " cold"
        if self.average:
            text += f" average {self.average[0]}-{self.average[1]}"
        if self.anderson:
            text += " anderson"
        if self.damping:
            text += f" damping {self.damping:g}"
        return text


CALMING = 0.3
"""The damping under which a strongly guided model comes back."""
_STRONG = 3.0


def damping_for(cfg: float) -> float:
    """Choose the damping for a guidance scale: none, or where guidance is so strong that steps oscillate, some.

    At cfg 5 the worst of four faces comes back at 22 dB without and at 40 dB with it (one iteration, 20 steps).
    """
    return CALMING if cfg > _STRONG else 0.0


def count_calls(steps: int, iterations: int, options: FixedPointOptions) -> int:
    """Count the model calls of an inversion in which no step stops early."""
    return steps * (1 + iterations) + (1 if options.warm else 0)


@torch.no_grad()
def invert_fixed_point(
    model: Denoiser,
    x0: Tensor,
    sigmas: Tensor,
    iterations: int = 1,
    *,
    options: FixedPointOptions | None = None,
    callback: Callback | None = None,
    limit: float | None = IMAGE_LIMIT,
) -> Trajectory:
    """Walk an image up to ``sigmas[0]`` so that sampling back returns it; ``1 + iterations`` model calls a step.

    The first step has no eps below it and takes one call more. Where the iteration diverges, each sample keeps its
    iterate with the smallest residual, so that more iterations never make a step worse there. A cold start without
    iterations equals convention B of :func:`core.invert.ddim.invert_ddim`.

    Args:
        model: any denoiser.
        x0: image `[b c h w]` in -1..1.
        sigmas: `[n+1]`, descending to 0.
        iterations: refinements of each step after its first call, >= 0.
        options: how they are done.
        callback: called after every model call, with ``iteration`` and ``residual`` besides the usual keys.
        limit: largest magnitude of an image; None for latents.

    Returns:
        The trajectory; ``residual`` `[n]` is the worst sample's smallest ``|g(z) - z| / |g(z)|`` of all evaluations, in
        the order of ``sigmas`` (with an average: of those within its range). An extrapolated end is closer than that.

    Raises:
        ValueError: iterations below 0 or too few to average, or an image or grid refused by :mod:`core.inputs`.
    """
    options = options or FixedPointOptions()
    options.check_iterations(iterations)
    x = check_image(x0, limit)
    grid = check_sigmas(sigmas)
    s = grid.tolist()
    n = len(grid) - 1
    states = [x]
    residuals = []
    eps = None
    for i in range(n):
        low = s[n - i]
        high = s[n - 1 - i]
        step = _equation(x, low, high, model.noising)
        start = None if eps is None else step.land(eps)

        def report(state: dict, i: int = i, high: float = high) -> None:
            if callback is not None:
                callback({"i": i, "n": n, "sigma": high, **state})

        x, residual = _Solver(model, options, iterations, report).solve(step, start, lift(x, low, high, model.noising))
        eps = step.eps_of(x) if options.warm else None
        states.append(x)
        residuals.append(residual)
    residual = torch.tensor(residuals[::-1], dtype=torch.float64)
    return Trajectory(
        grid,
        torch.stack(states[::-1]),
        model.fingerprint,
        options.describe(iterations),
        residual=residual,
        noising=model.noising,
    )


@dataclass(frozen=True)
class _Equation:
    """The equation ``z = scale x + width eps(z)`` of one step, with ``eps(z) = (z - clean D(z)) / high``."""

    x: Tensor
    low: float
    high: float
    scale: float
    width: float
    clean: float

    def land(self, eps: Tensor) -> Tensor:
        return self.scale * self.x + self.width * eps

    def map(self, z: Tensor, denoised: Tensor) -> Tensor:
        return self.land((z - self.clean * denoised) / self.high)

    def euler(self, z: Tensor, denoised: Tensor) -> Tensor:
        """Take the step of convention B."""
        return self.x + (self.high - self.low) * to_eps(z, self.high, denoised)

    def eps_of(self, z: Tensor) -> Tensor:
        return (z - self.scale * self.x) / self.width


def _equation(x: Tensor, low: float, high: float, noising: Noising) -> _Equation:
    """Write a step with its noise.

    The velocity ``(z - D) / high`` of a flow model gives the same solution by a map up to ``1 / (1 - high)`` times as
    steep, which oscillates. Only at the very top, where a state is nothing but noise, the noise says nothing of ``x``.
    """
    if noising == "flow" and high < 1:
        scale = (1 - high) / (1 - low)
        return _Equation(x, low, high, scale, high - low * scale, 1 - high)
    return _Equation(x, low, high, 1.0, high - low, 1.0)


@dataclass(frozen=True)
class _Solver:
    """The iteration of one step."""

    model: Denoiser
    options: FixedPointOptions
    iterations: int
    report: Callable[[dict], None]

    def solve(self, step: _Equation, start: Tensor | None, cold: Tensor) -> tuple[Tensor, float]:
        """Find the upper state and its worst residual."""
        options = self.options
        best = _Best(step.x)
        averaged = []
        before = None
        z = cold if start is None else start
        # A warm run without an eps below has to find one first.
        calls = 1 + self.iterations + (1 if start is None and options.warm else 0)
        for k in range(calls):
            denoised = predict(self.model, z, levels(z, step.high))
            # The cold start is a point of another scale: convention B's own step, and no scheme mixes it in.
            guessed = k == 0 and start is None
            now = _Evaluation(z, step.euler(z, denoised) if guessed else step.map(z, denoised))
            if options.average is None or options.average[0] <= k <= options.average[1]:
                averaged.append(now.image)
                best.take(now.image, now.residual, options.tol)
            worst = float(now.residual.max())
            self.report({"x": now.image, "denoised": denoised, "iteration": k, "residual": worst})
            if averaged and worst <= options.tol:
                break
            if before is not None and k == calls - 1 and options.extrapolate and not options.damping:
                best.end_in(_mixed(now, before, 0.0), now.residual < before.residual, options.tol)
            damping = 0.0 if guessed else options.damping
            z = (1 - damping) * now.image + damping * z
            if options.anderson and before is not None:
                z = _mixed(now, before, damping)
            before = None if guessed else now
        # Every iterate is affine in its eps, so that their mean is the step of the mean eps.
        value = best.value if options.average is None else torch.stack(averaged).mean(0)
        return value, float(best.residual.max())


class _Evaluation:
    """A point, what the equation makes of it, and how far apart they are, relative to the latter and of each sample."""

    def __init__(self, point: Tensor, image: Tensor):
        self.point = point
        self.image = image
        self.residual = _norm(image - point) / _norm(image).clamp_min(1e-12)


def _mixed(now: _Evaluation, before: _Evaluation, damping: float) -> Tensor:
    """Mix two evaluations so that the residual of the mix is smallest (Walker and Ni 2011, m = 1)."""
    f = now.image - now.point
    f_old = before.image - before.point
    d = f - f_old
    along = (f * d).flatten(1).sum(1)
    length = d.square().flatten(1).sum(1).clamp_min(1e-20)
    theta = _wide(along / length).clamp(-1, 1)
    step = 1 - damping
    return (1 - theta) * (now.point + step * f) + theta * (before.point + step * f_old)


def _norm(x: Tensor) -> Tensor:
    return x.flatten(1).norm(dim=1)


def _wide(v: Tensor) -> Tensor:
    return v[:, None, None, None]


class _Best:
    """The iterate of the smallest residual of each sample."""

    def __init__(self, x: Tensor):
        self.value = x
        self.residual = x.new_full((x.shape[0],), torch.inf)

    def take(self, value: Tensor, residual: Tensor, tol: float) -> None:
        """Take in an iterate; a sample that is good enough stays as it is, whatever the others still need."""
        better = (residual < self.residual) & (self.residual > tol)
        self.value = torch.where(_wide(better), value, self.value)
        self.residual = torch.where(better, residual, self.residual)

    def end_in(self, value: Tensor, falls: Tensor, tol: float) -> None:
        """End in a value whose residual nobody asked for, where it falls and is not small enough yet."""
        self.value = torch.where(_wide(falls & (self.residual > tol)), value, self.value)
