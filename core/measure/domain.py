"""Whether pictures are of a model's world: how hard they are to denoise, held against its own. The measure is ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..denoiser import Callback, Denoiser, Noising, predict, report_step
from ..noise import drawn_rows
from ..picture_facts import WorldFact
from ..sample import sample_ddim
from ..schedule import rescale_sigma

QUANTILES = (0.01, 0.05, 0.5, 0.95, 0.99)
NOISES = 4
USUAL, LIMIT = 1.25, 1.7
"""Ratios up to which nothing is said, and above which a picture is none of the world. Of drawn faces no ratio reaches
1.2; blurred, noisy and moved ones lie between; photographs and textures begin at 1.75."""
SAMPLES = 16
"""Pictures of its own from which the reference of a model without a stored one is made."""
_SIGMA, _SIDE = 0.85, 64  # the level at which faces of 64 pixels and everything else lie furthest apart
_BEYOND = LIMIT / USUAL
_SEED = 85


@dataclass(frozen=True)
class WorldReference:
    """How hard the pictures of a model's world are for it to denoise.

    Attributes:
        sigma: level, in the dialect of the model's states.
        quantiles: of their errors, at :data:`QUANTILES`.
        source: what pictures they were, for people.
    """

    sigma: float
    quantiles: tuple[float, ...]
    source: str

    def __post_init__(self) -> None:
        rising = all(a <= b for a, b in zip(self.quantiles, self.quantiles[1:], strict=False))
        if len(self.quantiles) != len(QUANTILES) or not rising or not self.quantiles[0] > 0:
            raise ValueError(f"quantiles must be {len(QUANTILES)} rising numbers above 0, got {list(self.quantiles)}")

    @property
    def median(self) -> float:
        """Take the error of a usual picture."""
        return self.quantiles[2]


def middle_level(side: int, noising: Noising = "sigma") -> float:
    """Find the level at which to look, for states of ``side`` pixels or latents.

    It is 0.85 for 64 pixels and grows with the side, as a level that hides the same content does. A flow state, whose
    picture is scaled down, has the same ratio of noise to picture at ``s / (1 + s)``.
    """
    sigma = rescale_sigma(_SIGMA, _SIDE, side)
    return sigma / (1 + sigma) if noising == "flow" else sigma


@torch.no_grad()
def denoising_error(model: Denoiser, x0: Tensor, sigma: float, callback: Callback | None = None) -> Tensor:
    """Measure how far pictures are from what a model makes of them under four fixed noises.

    Args:
        model: any denoiser.
        x0: clean states, `[b ...]`.
        sigma: level.
        callback: called after each noise.

    Returns:
        Root mean square over the picture and the noises, `[b]` on the CPU.
    """
    noises = drawn_rows(NOISES, x0.shape[1:], torch.Generator().manual_seed(_SEED))
    squared = torch.zeros(len(x0))
    level = x0.new_full((len(x0),), sigma)
    kept = 1 - sigma if model.noising == "flow" else 1.0
    for i, noise in enumerate(noises):
        denoised = predict(model, kept * x0 + sigma * noise.to(x0), level)
        squared += (denoised - x0).float().flatten(1).square().mean(1).cpu()
        report_step(callback, i, NOISES, denoised=denoised)
    return (squared / NOISES).sqrt()


def reference_from(errors: Tensor, sigma: float, source: str) -> WorldReference:
    """Make the reference of pictures whose errors `[n]` were measured at ``sigma``."""
    levels = torch.tensor(QUANTILES, dtype=torch.float64)
    values = torch.quantile(errors.double(), levels).tolist()
    return WorldReference(sigma, tuple(float(f"{v:.4g}") for v in values), source)


@torch.no_grad()
def draw_reference(
    model: Denoiser,
    shape: Sequence[int],
    sigmas: Tensor,
    sigma: float,
    device: torch.device | str = "cpu",
    callback: Callback | None = None,
) -> WorldReference:
    """Let a model draw :data:`SAMPLES` pictures, one after another, and make a reference of them.

    Args:
        model: any denoiser.
        shape: of one picture, `(c, h, w)`.
        sigmas: `[n+1]`, the steps in which it draws, descending to 0.
        sigma: level at which the errors are measured.
        device: of the model.
        callback: called after every step.

    Raises:
        ValueError: a grid refused by :mod:`core.inputs`.
    """
    noise = drawn_rows(SAMPLES, shape, torch.Generator().manual_seed(_SEED + 1))
    errors = []
    for i, row in enumerate(noise):
        state = float(sigmas[0]) * row[None].to(device)
        picture = sample_ddim(model, state, sigmas, callback=callback)
        errors.append(denoising_error(model, picture, sigma))
        report_step(callback, i, SAMPLES, denoised=picture)
    return reference_from(torch.cat(errors), sigma, f"{SAMPLES} pictures that the model drew")


def compare(reference: WorldReference, errors: Tensor) -> WorldFact:
    """Hold the errors of pictures `[b]` against a reference.

    A world whose own pictures differ more than drawn faces do has wider limits: nothing is said of what lies inside of
    its 99 %.
    """
    own = reference.quantiles[-1] / reference.median
    ratios = (errors.double() / reference.median).tolist()
    usual = max(USUAL, own)
    return WorldFact(reference.sigma, tuple(ratios), usual, max(LIMIT, _BEYOND * usual))


def world_text(fact: WorldFact) -> str:
    """Tell people what a fact means; empty where there is nothing to tell."""
    if fact.is_usual:
        return ""
    figure = f"{fact.worst:.1f} times as hard to denoise as the model's own (usual: up to {fact.usual:.3g})"
    if len(fact.ratios) > 1:
        figure = f"picture {fact.ratios.index(fact.worst) + 1} of {len(fact.ratios)} is {figure}"
    if fact.is_outside:
        return f"not a picture of this model's world: {figure}. Edits will be smears; take a model of such pictures"
    return f"unusual for this model (blur, noise or another framing): {figure}"
