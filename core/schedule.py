"""Variance-preserving papers meet the sigma dialect here alone (Karras et al. 2022, arXiv 2206.00364, table 1).

A state is ``x = x0 + sigma * n``. A VP state is ``x_vp = x / sqrt(1 + sigma^2)`` and ``sigma = sqrt((1 - abar) /
abar)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeVar

import torch
from torch import Tensor

ROUNDING = 1e-9  # 0.29 * 100 is 28.999...
_Level = TypeVar("_Level", Tensor, float)
Betas = Literal["linear", "scaled_linear", "cosine"]


def betas(kind: Betas = "linear", steps: int = 1000, start: float = 1e-4, end: float = 0.02) -> Tensor:
    """Noise variances of the forward process, `[steps]` float64.

    Args:
        kind: ``linear`` (Ho et al. 2020), ``scaled_linear`` (linear in the square root, Stable Diffusion: 0.00085 to
            0.012) or ``cosine`` (Nichol and Dhariwal 2021, eq. 17; ``start`` and ``end`` unused).
        steps: length T of the chain.
        start: first beta.
        end: last beta.

    Raises:
        ValueError: an unknown kind, fewer than two steps, or betas outside (0, 1).
    """
    if steps < 2:
        raise ValueError(f"a schedule needs at least two steps, got {steps}")
    if kind != "cosine" and not 0 < start <= end < 1:
        raise ValueError(
            f"betas must rise from start to end within (0, 1), got {start} .. {end}; 0.0001 .. 0.02 is usual"
        )
    if kind == "linear":
        return torch.linspace(start, end, steps, dtype=torch.float64)
    if kind == "scaled_linear":
        return torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64).square()
    if kind == "cosine":
        u = torch.arange(steps + 1, dtype=torch.float64) / steps
        abar = torch.cos((u + 0.008) / 1.008 * math.pi / 2).square()
        return (1 - abar[1:] / abar[:-1]).clamp(max=0.999)
    raise ValueError(f"unknown beta schedule {kind!r}; expected linear, scaled_linear or cosine")


@dataclass(frozen=True)
class Schedule:
    """Step t <-> sigma <-> abar of one discrete chain.

    T may be fractional (linear in log sigma, as the host has it).
    """

    kind: Betas = "linear"
    steps: int = 1000
    start: float = 1e-4
    end: float = 0.02

    @cached_property
    def abar(self) -> Tensor:
        """Compute the cumulative signal power, `[steps]` float64, decreasing."""
        with torch.inference_mode(False):  # it is kept, and must serve differentiated code later
            return torch.cumprod(1 - betas(self.kind, self.steps, self.start, self.end), 0)

    @cached_property
    def sigmas(self) -> Tensor:
        """Noise to signal ratio of every step, `[steps]` float64, increasing."""
        with torch.inference_mode(False):
            return sigma_of_abar(self.abar)

    def sigma(self, t: Tensor | float) -> Tensor:
        """Compute sigma at step ``t`` (any shape, 0 .. steps-1, fractional allowed), float64.

        Negative t means clean: sigma 0.
        """
        t = torch.as_tensor(t, dtype=torch.float64)
        i = t.clamp(0, self.steps - 1)
        low = i.floor().long()
        log = self.sigmas.to(t.device).log()
        value = torch.lerp(log[low], log[(low + 1).clamp(max=self.steps - 1)], i - low).exp()
        return torch.where(t < 0, torch.zeros_like(value), value)

    def t(self, sigma: Tensor | float) -> Tensor:
        """Find the fractional step of ``sigma`` (any shape), float64; clamped to the ends of the chain."""
        sigma = torch.as_tensor(sigma, dtype=torch.float64)
        log = self.sigmas.to(sigma.device).log()
        s = sigma.clamp_min(1e-12).log().clamp(log[0], log[-1]).contiguous()
        high = torch.searchsorted(log, s).clamp(1, self.steps - 1)
        low = high - 1
        return low + (s - log[low]) / (log[high] - log[low])


def sigma_of_abar(abar: Tensor) -> Tensor:
    """Compute ``sqrt((1 - abar) / abar)``."""
    return ((1 - abar) / abar).sqrt()


def abar_of_sigma(sigma: _Level) -> _Level:
    """Compute ``1 / (1 + sigma^2)``."""
    return 1 / (1 + sigma * sigma)


def vp_scale(sigma: float) -> float:
    """Compute ``sqrt(1 + sigma^2)``, by which a sigma state is longer than its variance-preserving one."""
    return math.sqrt(1 + sigma * sigma)


def v_weight(sigma: float) -> float:
    """Compute ``1 + sigma^2``, the squared error of v at a state over that of eps."""
    return 1 + sigma * sigma


def to_vp(x: Tensor, sigma: Tensor | float) -> Tensor:
    """Convert a sigma state to a variance-preserving one. ``x`` `[b ...]`, ``sigma`` `[b]` or a number."""
    return x / _scale(sigma, x)


def from_vp(x: Tensor, sigma: Tensor | float) -> Tensor:
    """Convert a variance-preserving state to a sigma state; the inverse of :func:`to_vp`."""
    return x * _scale(sigma, x)


def relevel(x: Tensor, low: float, high: float) -> Tensor:
    """Take the variance-preserving state of ``x`` at level ``low`` for one of level ``high``, as a sigma state."""
    return x * math.sqrt((1 + high * high) / (1 + low * low))


def denoised_of_v(x: Tensor, v: Tensor, sigma: Tensor) -> Tensor:
    """Turn a v-prediction into the clean image. ``x`` and ``v`` `[b ...]`, ``sigma`` `[b]`."""
    s = _like(sigma, x)
    squared = s * s + 1
    return x / squared - v * s / squared.sqrt()


def rescale_sigma(sigma: float, pixels_from: int, pixels_to: int) -> float:
    """Find the sigma at which a picture of another size holds the same content (sigma grows with pixel size).

    RBE's t0 = 500 is sigma 3.4 at 256 pixels, hence 0.85 at 64.
    """
    return sigma * pixels_to / pixels_from


def _scale(sigma: Tensor | float, x: Tensor) -> Tensor | float:
    return _like(sigma, x).square().add(1).sqrt() if isinstance(sigma, Tensor) else vp_scale(sigma)


def _like(sigma: Tensor, x: Tensor) -> Tensor:
    sigma = sigma.to(x.device, x.dtype)
    return sigma.reshape(-1, *(1,) * (x.dim() - 1)) if sigma.dim() else sigma


def grid(schedule: Schedule, n: int, style: str = "linspace", t0: int | None = None) -> Tensor:
    """List the papers' step grids as integer steps in descending order, `[n]` long.

    Args:
        schedule: the chain.
        n: number of model calls, >= 1.
        style: ``linspace`` (Asyrp, DiffusionCLIP, RBE: ``int(linspace(0, 1, n) * t0)``), ``leading`` (DDIM, diffusers:
            multiples of ``T // n``), ``trailing`` (Lin et al. 2023: ``T - T/n * i - 1``) or ``stride``
            (:func:`stride_steps`).
        t0: highest step; the other styles treat the chain as if it ended there. RBE uses ``linspace, n=40, t0=500``.
            Default: the last step of the chain.

    Raises:
        ValueError: n < 1 or more steps than the chain has, t0 outside the chain, or an unknown style.
    """
    top = schedule.steps - 1 if t0 is None else t0
    if not 0 <= top < schedule.steps:
        raise ValueError(f"t0 must lie in 0 .. {schedule.steps - 1}, got {top}")
    if not 1 <= n <= top + 1:
        raise ValueError(f"steps must be between 1 and {top + 1} for this schedule, got {n}")
    if style == "linspace":
        t = (torch.linspace(0, 1, n, dtype=torch.float64) * top + 1e-6).floor().long()
        return t.flip(0) if n > 1 else torch.tensor([top])
    if style == "leading":
        return (torch.arange(n) * ((top + 1) // n)).flip(0)
    if style == "trailing":
        return (top + 1 - torch.arange(n, dtype=torch.float64) * ((top + 1) / n)).round().long() - 1
    if style == "stride":
        return stride_steps(n, top + 1)
    raise ValueError(f"unknown grid {style!r}; expected linspace, leading, trailing or stride")


def stride_steps(n: int, total: int = 1000) -> Tensor:
    """Make the grid of DiffAE (arXiv 2111.15640) and of guided diffusion's ``ddimN``, `[n]` long.

    Every s-th step from 0, descending.

    Raises:
        ValueError: no stride gives ``n`` steps; :func:`snap_steps` gives the nearest number that works.
    """
    if n != (near := snap_steps(n, total)):
        raise ValueError(f"no stride through {total} steps makes {n} of them; use {near}")
    return torch.arange(0, total, math.ceil(total / n)).flip(0)


def snap_steps(n: int, total: int = 1000) -> int:
    """Find the number of steps nearest to ``n`` that a whole stride through ``total`` can make; on ties the larger.

    Raises:
        ValueError: ``n`` is not within 1 .. ``total``.
    """
    if not 1 <= n <= total:
        raise ValueError(f"steps must be between 1 and {total} for this schedule, got {n}")
    possible = {math.ceil(total / stride) for stride in range(1, total + 1)}
    return min(possible, key=lambda m: (abs(m - n), -m))


def stride_sigmas(levels: Tensor, steps: int) -> tuple[Tensor, int]:
    """Take every s-th of a model's noise levels, as the released DiffAE code does, and 0 behind them.

    Args:
        levels: `[T]`, ascending.
        steps: wanted; the nearest number that a stride makes is taken.

    Returns:
        Sigmas `[n+1]`, descending, and n.
    """
    taken = snap_steps(min(steps, len(levels)), len(levels))
    return torch.cat([levels[stride_steps(taken, len(levels))], torch.zeros(1)]), taken


def grid_sigmas(schedule: Schedule, n: int, style: str = "linspace", t0: int | None = None) -> Tensor:
    """List :func:`grid` as descending sigmas followed by 0, `[n+1]` float64: what a sampler takes."""
    return torch.cat([schedule.sigma(grid(schedule, n, style, t0)), torch.zeros(1, dtype=torch.float64)])


def in_steps(window: tuple[float, float], step: int, steps: int) -> bool:
    """Tell whether a step (0 is the noisiest) lies in a window given in shares of the steps.

    The window is rounded down, as the papers do.
    """
    return int(steps * window[0] + ROUNDING) <= step < int(steps * window[1] + ROUNDING)


def karras(steps: int, high: float, low: float = 0.02) -> Tensor:
    """Make the grid of the host's ``karras`` scheduler, `[steps+1]` float64, ending in 0.

    Karras et al. 2022, arXiv 2206.00364, eq. 5, rho 7.
    """
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    first = high ** (1 / 7)
    last = low ** (1 / 7)
    levels = (first + ramp * (last - first)) ** 7
    return torch.cat([levels, torch.zeros(1, dtype=torch.float64)])
