"""Null-text optimisation: unconditional embeddings that undo the drift of guidance.

Mokady et al. 2022, arXiv 2211.09794, alg. 1.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..denoiser import Callback, NotFinite, check_finite, report_step
from ..schedule import abar_of_sigma
from ..trajectory import Trajectory
from .ddim import levels

STEPS = 10
RATE = 1e-2
TOLERANCE = 1e-5
_SLACK = 1e-3  # the released code forgives 2e-5 more at each of its 50 steps
_ENDING = 0.5  # and ends at half its learning rate


class TwoPrompts(Protocol):
    """A model whose two predictions of classifier-free guidance can be had apart.

    Attributes:
        fingerprint: as of any denoiser.
    """

    fingerprint: str

    def positive(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Predict the denoised image for the prompt; ``x`` `[b c h w]`, ``sigma`` `[b]`."""
        ...

    def negative(self, x: Tensor, sigma: Tensor, embedding: Tensor) -> Tensor:
        """Predict the denoised image for an unconditional embedding `[b n d]`, differentiable with respect to it."""
        ...


@dataclass(frozen=True)
class NullText:
    """What the optimisation found.

    Attributes:
        embeddings: `[steps b n d]`, one for every step of the trajectory, noisiest first.
        before: `[steps b]`, loss of each step with the embedding that it began with.
        after: `[steps b]`, with the one kept: never above ``before``.
        image: `[b c h w]`, where guided sampling with them ends.
    """

    embeddings: Tensor
    before: Tensor
    after: Tensor
    image: Tensor


@dataclass(frozen=True)
class NullTextSettings:
    """How the embeddings are fitted.

    Learning rate and tolerance change along the path as in the released code: from ``lr`` to half of it, from
    ``tolerance`` to 1e-3 above.

    Attributes:
        steps: updates of Adam a step; 0 only follows the plain embedding.
        lr: first learning rate.
        tolerance: mean squared error (of variance-preserving states) at which a step is good enough; at the noisiest
            step.

    Raises:
        ValueError: a bad option.
    """

    steps: int = STEPS
    lr: float = RATE
    tolerance: float = TOLERANCE

    def __post_init__(self) -> None:
        if self.steps < 0 or not self.lr > 0 or not self.tolerance >= 0:
            raise ValueError(
                f"steps and tolerance must be 0 or more and lr above 0, got {self.steps}, {self.tolerance} and"
                f" {self.lr}; 10, 1e-5 and 0.01 are usual"
            )


def optimise_null_text(
    model: TwoPrompts,
    trajectory: Trajectory,
    embedding: Tensor,
    cfg: float,
    settings: NullTextSettings | None = None,
    *,
    callback: Callback | None = None,
) -> NullText:
    """Walk down with guidance and fit the unconditional embedding at each step.

    Every step then lands on the stored state.

    Each step begins with the embedding of the one before, and keeps the best of every image.

    Args:
        model: see :class:`TwoPrompts`.
        trajectory: of the images, inverted without guidance (DDIM, cfg 1).
        embedding: to begin with, `[1 or b n d]`: that of the empty prompt.
        cfg: guidance scale of the edit, 7.5 in the paper.
        settings: how.
        callback: called after every evaluation, with ``loss`` besides the usual keys.

    Returns:
        Embeddings, losses and the picture that they give.

    Raises:
        ValueError: another model's trajectory, one of a flow model, cfg 1, or an embedding of another batch.
    """
    settings = settings or NullTextSettings()
    _check(model, trajectory, embedding, cfg)
    s = trajectory.sigmas.tolist()
    n = len(trajectory.sigmas) - 1
    b = trajectory.states.shape[1]
    x = trajectory.noisiest
    current = embedding.detach().float().expand(b, -1, -1)
    results: list[tuple[Tensor, Tensor, Tensor]] = []
    for i in range(n):
        sigma = s[i]
        rows = levels(x, s[i])
        ratio = s[i + 1] / sigma
        target = trajectory.states[i + 1]
        scale = abar_of_sigma(s[i + 1])
        with torch.no_grad():
            positive = check_finite(x, rows, model.positive(x, rows))
        current = current.clone().requires_grad_(True)
        adam = torch.optim.Adam([current], settings.lr * (1 - _ENDING * i / n))
        limit = settings.tolerance + _SLACK * i / n
        fit = _Fit(current.detach(), x)
        for k in range(settings.steps + 1):
            with torch.set_grad_enabled(k < settings.steps):
                negative = _negative(model, x, rows, current, k)
                guided = negative + cfg * (positive - negative)
                below = guided + ratio * (x - guided)
                losses = scale * (below - target).square().flatten(1).mean(1)
            worst = float(losses.detach().max())
            if not torch.isfinite(losses.detach()).all():
                raise RuntimeError(f"the loss became {worst} at sigma {sigma:.3g}; lower the learning rate")
            least = fit.take(losses.detach(), current.detach(), below.detach())
            report_step(callback, i, n, x=fit.reached, sigma=sigma, denoised=guided.detach(), loss=worst)
            if k == settings.steps or float(least.max()) < limit:
                break
            adam.zero_grad(set_to_none=True)
            losses.sum().backward()
            adam.step()
        x = fit.reached
        current = fit.best
        results.append((fit.best, fit.first, fit.least))
    embeddings, before, after = (torch.stack(values) for values in zip(*results, strict=True))
    return NullText(embeddings, before, after, x)


class _Fit:
    """The best embedding of every image so far in one step, its loss, and the state that it reaches."""

    def __init__(self, best: Tensor, reached: Tensor):
        self.best = best
        self.reached = reached
        self.first = torch.zeros(0)
        self.least = torch.zeros(0)

    def take(self, losses: Tensor, embedding: Tensor, below: Tensor) -> Tensor:
        """Take in one evaluation, `[b]` losses; returns the least of each image."""
        if not len(self.first):
            self.first = losses
            self.least = torch.full_like(losses, torch.inf)
        better = losses < self.least
        self.least = torch.minimum(losses, self.least)
        self.best = torch.where(better[:, None, None], embedding, self.best)
        self.reached = torch.where(better[:, None, None, None], below, self.reached)
        return self.least


def _negative(model: TwoPrompts, x: Tensor, sigma: Tensor, embedding: Tensor, step: int) -> Tensor:
    try:
        return check_finite(x, sigma, model.negative(x, sigma, embedding))
    except NotFinite as error:
        if step:  # with the embedding that it began with it was finite
            raise NotFinite(
                f"the embedding diverged at sigma {float(sigma[0]):.4g}; lower the learning rate (lr)"
            ) from error
        raise


def windows(trajectory: Trajectory) -> list[tuple[float, float]]:
    """Find the highest and lowest sigma for which the embedding of each step holds.

    Half-way (in log) to its neighbours, without gaps.
    """
    s = trajectory.sigmas[:-1].tolist()
    between = [(a * b) ** 0.5 for a, b in itertools.pairwise(s)]
    return list(zip([float("inf"), *between], [*between, 0.0], strict=True))


def _check(model: TwoPrompts, trajectory: Trajectory, embedding: Tensor, cfg: float) -> None:
    trajectory.check_model(model.fingerprint)
    if trajectory.noising == "flow":
        raise ValueError(
            "null-text optimisation is for models that were trained with dropped prompts and noised as x0 + sigma n,"
            " not flow models"
        )
    trajectory.check_euler("null-text optimisation")
    if trajectory.exact is not None or trajectory.noises is not None:
        raise ValueError(
            f"null-text optimisation follows the steps of DDIM, this trajectory is of {trajectory.method}; invert with"
            " the fixed point"
        )
    if not cfg > 1:
        raise ValueError(
            f"cfg must be above 1: without guidance there is no unconditional embedding to fit, got {cfg}; the paper"
            " uses 7.5"
        )
    if embedding.dim() != 3 or embedding.shape[0] not in (1, trajectory.states.shape[1]):
        raise ValueError(
            f"the embedding must be [1 or {trajectory.states.shape[1]} n d], got {list(embedding.shape)}; connect one"
            " prompt"
        )
