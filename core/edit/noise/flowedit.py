"""FlowEdit: a picture edited by the difference of two prompts, uninverted (Kulikov et al. 2024, arXiv 2412.08629).

The strength dial is that of FlowSlider (arXiv 2604.02088): of the difference only the part that steers is scaled. With
E the edit so far, z_s the noised source and z_t = z_s + E, a step from sigma to sigma' is, for both kinds of states,

    E' = (sigma'/sigma) E + (1 - sigma'/sigma) mean[ D(z_t, source) - D(z_s, source)
                                                     + strength (D(z_t, target) - D(z_t, source)) ]

and the result is x + E. At strength 1 the prediction D(z_t, source) drops out and is not asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ...denoiser import Callback, Noising, check_finite, report_step
from ...noise import fresh_noise

Ask = Callable[[Tensor, float], Tensor]
"""Predict the clean pictures `[b ...]` of states `[b ...]` at one level."""
Noised = Callable[[Tensor, Tensor, float], Tensor]
"""Noise clean pictures `[b ...]` with noise `[b ...]` up to a level."""
USUAL = 7
"""One of so many steps is left out at the noisy end unless a level is given: 4 of 28, the authors' choice for Flux."""
_SAME = 1e-4


@dataclass(frozen=True)
class FlowEditOptions:
    """How far and how steadily a picture is edited.

    Attributes:
        strength: of the steering part, 0 or more: 0 is the source, bit for bit; 1 is plain FlowEdit.
        refine: so many last steps sample the edited picture itself (the paper's n_min).
        average: draws of noise a step (the paper's n_avg), 1 or more.
        seed: of the noise.

    Raises:
        ValueError: one of them out of range.
    """

    strength: float = 1.0
    refine: int = 0
    average: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.strength < float("inf"):
            raise ValueError(f"strength must be 0 (the source) or more, got {self.strength}; 1 is plain FlowEdit")
        if self.refine < 0:
            raise ValueError(f"refine must be a number of steps, 0 or more, got {self.refine}")
        if self.average < 1:
            raise ValueError(f"average must be 1 draw of noise a step or more, got {self.average}")


@dataclass(frozen=True)
class Prompted:
    """A model under the two prompts of an edit.

    Attributes:
        source: asked about `[p ...]` states, one a picture, about `[p * copies ...]`, the copies of a picture side by
            side, or about both, one behind the other.
        target: asked about `[p * copies ...]` states.
        noised: how pictures are noised.
        copies: targets of each picture.
    """

    source: Ask
    target: Ask
    noised: Noised
    copies: int = 1


def noised_as(noising: Noising) -> Noised:
    """Choose how clean pictures are noised, see :data:`core.denoiser.Noising`."""
    if noising == "flow":
        return lambda x, noise, sigma: (1 - sigma) * x + sigma * noise
    return lambda x, noise, sigma: x + sigma * noise


def first_step(sigmas: Tensor, start: float = 0.0) -> int:
    """Count the steps that are left out at the noisy end.

    Args:
        sigmas: `[n+1]`, descending.
        start: the edit begins at or below this level; 0 leaves out one of :data:`USUAL` steps.

    Raises:
        ValueError: no step is left.
    """
    steps = len(sigmas) - 1
    if not start:
        return round(steps / USUAL)
    skip = int((sigmas > start * (1 + _SAME)).sum())
    if skip >= steps:
        raise ValueError(
            f"sigma_start is {start:g}, but the last of the {steps} steps begins at {float(sigmas[-2]):.4g}; set it to"
            " that or more"
        )
    return skip


@torch.no_grad()
def edit_by_difference(
    model: Prompted,
    x: Tensor,
    sigmas: Tensor,
    options: FlowEditOptions | None = None,
    *,
    region: Callable[[float], Tensor] | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Edit clean pictures; a step takes 2 predictions a draw of noise, or 3 where ``strength`` is not 1.

    Args:
        model: the model under both prompts.
        x: source pictures `[p ...]`, of any rank.
        sigmas: `[n+1]`, descending to 0.
        options: see there.
        region: what may change at a level, in 0..1, for `[p * copies ...]`; None is everything.
        callback: called after every step, ``denoised`` being the pictures as edited so far.

    Returns:
        `[p * copies ...]`; a picture does not depend on the others, and at strength 0 is the source, bit for bit.

    Raises:
        ValueError: more steps refine than there are.
    """
    options = options or FlowEditOptions()
    levels = sigmas.tolist()
    n = len(levels) - 1
    if options.refine > n:
        raise ValueError(f"refine is {options.refine}, but the run has {n} steps; set it to {n} or less")
    run = _Edit(model, x, options, region)
    if not options.strength:
        return run.sources
    for i, (sigma, nxt) in enumerate(pairwise(levels)):
        if i < n - options.refine:
            run.move(sigma, nxt)
        else:
            run.sample(sigma, nxt)
        report_step(callback, i, n, x=run.state, sigma=sigma, denoised=run.picture)
    return run.picture


class _Edit:
    """A run: the edit so far, and in the refining steps the state that is sampled.

    Attributes:
        sources: `[p * copies ...]`, each picture once a target.
        edit: what is added to them; None while states are sampled.
        state: that was asked about last, as one step further down.
        picture: as edited so far.
    """

    def __init__(
        self, model: Prompted, x: Tensor, options: FlowEditOptions, region: Callable[[float], Tensor] | None
    ) -> None:
        self._model = model
        self._x = x
        self._options = options
        self._region = region
        self._generator = torch.Generator().manual_seed(options.seed)
        self._held: Tensor | None = None
        self.sources = self._spread(x)
        self._edit = torch.zeros_like(self.sources)
        self.state = self.picture = self.sources

    def _spread(self, value: Tensor) -> Tensor:
        return value.repeat_interleave(self._model.copies, 0)

    def move(self, sigma: float, nxt: float) -> None:
        """Take a step of FlowEdit."""
        draws = self._options.average
        moved = torch.zeros_like(self._edit)
        for _ in range(draws):
            moved = moved + self._difference(sigma) / draws
        edit = (nxt / sigma) * self._edit + (1 - nxt / sigma) * moved
        self._edit = edit if self._region is None else edit * self._region(nxt or sigma).to(edit)
        self.state = self.picture = self.sources + self._edit

    def _difference(self, sigma: float) -> Tensor:
        """What the prompts disagree about, of one draw of noise, `[p * copies ...]`."""
        noised = self._model.noised(self._x, fresh_noise(self._x, self._generator), sigma)
        edited = self._spread(noised) + self._edit
        target = check_finite(edited, sigma, self._model.target(edited, sigma))
        strength = self._options.strength
        if strength == 1:
            return target - self._spread(check_finite(noised, sigma, self._model.source(noised, sigma)))
        both = torch.cat([noised, edited])
        plain, kept = check_finite(both, sigma, self._model.source(both, sigma)).split([len(noised), len(edited)])
        return kept - self._spread(plain) + strength * (target - kept)

    def sample(self, sigma: float, nxt: float) -> None:
        """Take a step of Euler with the edited picture itself."""
        if self._held is None:
            self._held = fresh_noise(self._x, self._generator)
            self.state = self._spread(self._model.noised(self._x, self._held, sigma)) + self._edit
        denoised = self._steered(self.state, sigma)
        state = denoised + (nxt / sigma) * (self.state - denoised)
        if self._region is not None:
            outside = self._spread(self._model.noised(self._x, self._held, nxt)) if nxt else self.sources
            area = self._region(nxt or sigma).to(state)
            state = torch.where(area > 0, torch.lerp(outside, state, area), outside)
        self.state = state
        self.picture = denoised if nxt else state

    def _steered(self, z: Tensor, sigma: float) -> Tensor:
        """Predict edited pictures with the steering part scaled, `[p * copies ...]`."""
        target = check_finite(z, sigma, self._model.target(z, sigma))
        strength = self._options.strength
        if strength == 1:
            return target
        kept = check_finite(z, sigma, self._model.source(z, sigma))
        return kept + strength * (target - kept)
