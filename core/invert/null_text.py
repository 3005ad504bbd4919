"""Null-text optimisation (Mokady et al. 2022, arXiv 2211.09794, alg. 1): unconditional embeddings that undo the drift of guidance."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..denoiser import Callback
from ..trajectory import Trajectory
from .ddim import levels

STEPS, RATE, TOLERANCE = 10, 1e-2, 1e-5
_SLACK = 1e-3  # the released code forgives 2e-5 more at each of its 50 steps
_ENDING = 0.5  # and ends at half its learning rate


class TwoPrompts(Protocol):
    """A model whose two predictions of classifier-free guidance can be had apart.

    Attributes:
        fingerprint: as of any denoiser.
    """

    fingerprint: str

    def positive(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Denoised image for the prompt; ``x`` `[b c h w]`, ``sigma`` `[b]`."""
        ...

    def negative(self, x: Tensor, sigma: Tensor, embedding: Tensor) -> Tensor:
        """Denoised image for an unconditional embedding `[b n d]`, differentiable with respect to it."""
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


def optimise_null_text(
    model: TwoPrompts, trajectory: Trajectory, embedding: Tensor, cfg: float, *, steps: int = STEPS, lr: float = RATE,
    tolerance: float = TOLERANCE, callback: Callback | None = None,
) -> NullText:  # fmt: skip
    """Walk down with guidance, at each step fitting the unconditional embedding so that the step lands on the stored state.

    Each step begins with the embedding of the one before, and keeps the best of every image. Learning rate and tolerance change along
    the path as in the released code: from ``lr`` to half of it, from ``tolerance`` to 1e-3 above.

    Args:
        model: see :class:`TwoPrompts`.
        trajectory: of the images, inverted without guidance (DDIM, cfg 1).
        embedding: to begin with, `[1 or b n d]`: that of the empty prompt.
        cfg: guidance scale of the edit, 7.5 in the paper.
        steps: updates of Adam a step; 0 only follows the plain embedding.
        lr: first learning rate.
        tolerance: mean squared error (of variance-preserving states) at which a step is good enough; at the noisiest step.
        callback: called after every evaluation, with ``loss`` besides the usual keys.

    Returns:
        Embeddings, losses and the picture that they give.

    Raises:
        ValueError: another model's trajectory, one of a flow model, cfg 1, a bad option, or an embedding of another batch.
    """
    _check(model, trajectory, embedding, cfg, steps, lr, tolerance)
    s, n, b = trajectory.sigmas.tolist(), len(trajectory.sigmas) - 1, trajectory.states.shape[1]
    x, current = trajectory.noisiest, embedding.detach().float().expand(b, -1, -1)
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for i in range(n):
        sigma, rows = s[i], levels(x, s[i])
        ratio, target, scale = s[i + 1] / sigma, trajectory.states[i + 1], 1 / (1 + s[i + 1] ** 2)
        with torch.no_grad():
            positive = model.positive(x, rows)
        current = current.clone().requires_grad_(True)
        adam = torch.optim.Adam([current], lr * (1 - _ENDING * i / n))
        limit, first, least, best, reached = tolerance + _SLACK * i / n, None, None, current.detach(), x
        for k in range(steps + 1):
            with torch.set_grad_enabled(k < steps):
                negative = model.negative(x, rows, current)
                guided = negative + cfg * (positive - negative)
                below = guided + ratio * (x - guided)
                losses = scale * (below - target).square().flatten(1).mean(1)
            seen = losses.detach()
            if not torch.isfinite(seen).all():
                raise RuntimeError(f"the loss became {float(seen.max())} at sigma {sigma:.3g}; lower the learning rate")
            better = torch.ones_like(seen, dtype=torch.bool) if least is None else seen < least
            first, least = (seen if first is None else first), (seen if least is None else torch.minimum(seen, least))
            best = torch.where(better[:, None, None], current.detach(), best)
            reached = torch.where(better[:, None, None, None], below.detach(), reached)
            if callback is not None:
                callback({"i": i, "n": n, "x": reached, "sigma": sigma, "denoised": guided.detach(), "loss": float(seen.max())})
            if k == steps or float(least.max()) < limit:
                break
            adam.zero_grad(set_to_none=True)
            losses.sum().backward()
            adam.step()
        x, current = reached, best
        found.append((best, first, least))  # pyright: ignore[reportArgumentType]
    embeddings, before, after = (torch.stack(values) for values in zip(*found, strict=True))
    return NullText(embeddings, before, after, x)


def windows(trajectory: Trajectory) -> list[tuple[float, float]]:
    """Highest and lowest sigma for which the embedding of each step holds: half-way (in log) to its neighbours, without gaps."""
    s = trajectory.sigmas[:-1].tolist()
    between = [(a * b) ** 0.5 for a, b in itertools.pairwise(s)]
    return list(zip([float("inf"), *between], [*between, 0.0], strict=True))


def _check(model, trajectory: Trajectory, embedding: Tensor, cfg: float, steps: int, lr: float, tolerance: float) -> None:
    trajectory.check_model(model.fingerprint)
    if trajectory.extra.get("flow"):
        raise ValueError(
            "null-text optimisation is for models that were trained with dropped prompts and noised as x0 + sigma n, not flow models"
        )
    if "exact" in trajectory.extra or trajectory.noises is not None:
        raise ValueError(
            f"null-text optimisation follows the steps of DDIM, this trajectory is of {trajectory.method}; invert with the fixed point"
        )
    if not cfg > 1:
        raise ValueError(f"cfg must be above 1: without guidance there is no unconditional embedding to fit, got {cfg}; the paper uses 7.5")
    if steps < 0 or not lr > 0 or not tolerance >= 0:
        raise ValueError(
            f"steps and tolerance must be 0 or more and lr above 0, got {steps}, {tolerance} and {lr}; 10, 1e-5 and 0.01 are usual"
        )
    if embedding.dim() != 3 or embedding.shape[0] not in (1, trajectory.states.shape[1]):
        raise ValueError(f"the embedding must be [1 or {trajectory.states.shape[1]} n d], got {list(embedding.shape)}; connect one prompt")
