"""Training of the rectifier to rebuild pictures (Hou et al. 2023, arXiv 2312.15707, section 3): stage 1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..denoiser import Denoiser
from ..edit.weights.rectifier import WeightOf
from ..invert.ddim import invert_ddim
from ..networks.rectifier import RectifierNet, own_weight, rectified
from ..sample import edited_step
from ..trajectory import Trajectory
from .run import Loss, Optimiser, Run, Session, cosine

_FLOOR = 1e-7
_PERCEPTUAL_WEIGHT = 0.8
_COARSE_STEPS = (6, 10, 20)


@dataclass(frozen=True)
class RectifierSettings:
    """How a rectifier learns to rebuild.

    Attributes:
        steps: of the optimiser (Adam).
        batch: states at a time.
        lr: learning rate at the start; it falls to 0 along a cosine.
        seed: of the order of states.
    """

    steps: int = 1000
    batch: int = 4
    lr: float = 1e-4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"batch must be at least 1, got {self.batch}")


@dataclass(frozen=True)
class FrozenNetwork:
    """A denoiser whose kernels a rectifier corrects; its own weights stay as they are.

    Attributes:
        model: the denoiser.
        net: the network inside of it.
        weight_of: see :func:`core.networks.rectifier.rectified`.
    """

    model: Denoiser
    net: nn.Module
    weight_of: WeightOf = own_weight

    def predict(self, rectifier: RectifierNet, x: Tensor, x0: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        """Predict states ``x`` `[b c h w]` of pictures ``x0``, rectified and plain.

        The rectified prediction has a graph to the rectifier.
        """
        levels = x.new_full((len(x),), sigma)
        with torch.no_grad():
            plain = self.model(x, levels)
        with rectified(self.net, rectifier(x0, plain, levels), self.weight_of):
            return self.model(x, levels), plain

    def predict_one(self, rectifier: RectifierNet, trajectory: Trajectory) -> Tensor:
        """Predict one picture `[1 c h w]` from its noisiest state, with a graph to the rectifier."""
        return self.predict(rectifier, trajectory.noisiest[:1], trajectory.x0[:1], float(trajectory.sigmas[0]))[0]


def train_rectifier(
    frozen: FrozenNetwork,
    trajectory: Trajectory,
    rectifier: RectifierNet,
    settings: RectifierSettings | None = None,
    *,
    perceptual: Callable[[Tensor, Tensor], Tensor] | None = None,
    session: Session | None = None,
) -> RectifierNet:
    """Fit a rectifier so that every rectified step down arrives where the inversion came from.

    The last one arrives at the picture itself.

    Half of the steps take a stored state at a random level. The other half walk down runs of the rectified model
    itself, from inversions in fewer steps as well: there the states are off the stored trajectory, and a rectifier that
    has seen only that one lets them drift further at every step. The error counts relative to that of the plain step
    from the same state: steps differ by orders of magnitude.

    Args:
        frozen: the denoiser and its network.
        trajectory: of the training pictures, on a fine grid (50 steps in the paper).
        rectifier: what is trained.
        settings: how.
        perceptual: a further distance `[b]` of two pictures, such as LPIPS; None for none.
        session: what the caller does beside the run; it is shown ``denoised``.

    Returns:
        The rectifier, frozen.

    Raises:
        ValueError: another model's trajectory, or a rectifier for another network.
        RuntimeError: the loss is not finite.
    """
    settings = settings or RectifierSettings()
    trajectory.check_model(frozen.model.fingerprint)
    walks = _RectifiedWalks(frozen.model, trajectory, settings.batch, settings.seed)
    run = begin_rectifier_run(rectifier, trajectory, settings.steps, settings.lr, session)

    def loss_of(generator: torch.Generator) -> Loss:
        rows, level = draw_states(trajectory, settings.batch, range(len(trajectory.sigmas) - 1), generator)
        walk = walks.next_step(run)
        step = walk or _stored_step(trajectory, level, rows)
        x0 = trajectory.x0[step.rows]
        rebuilt, plain = frozen.predict(rectifier, step.x, x0, step.sigma)
        reached = edited_step(step.x, step.sigma, step.next_sigma, rebuilt, rebuilt)
        reference = edited_step(step.x, step.sigma, step.next_sigma, plain, plain)
        if walk:
            walks.x = reached.detach()
        error = F.mse_loss(reached, step.aim)
        plain_error = F.mse_loss(reference, step.aim)
        loss = error / (plain_error + _FLOOR)
        if perceptual is not None:
            loss = loss + _PERCEPTUAL_WEIGHT * perceptual(rebuilt, x0).mean()
        return Loss(loss, walks.carry, {"denoised": rebuilt.detach()})

    run.train(loss_of, settings.seed, cosine)
    rectifier.load_state_dict(run.best)
    return rectifier.requires_grad_(False)


def begin_rectifier_run(
    rectifier: RectifierNet, trajectory: Trajectory, steps: int, lr: float, session: Session | None
) -> Run:
    """Begin a run on the weights of a rectifier, on the device of the trajectory.

    Its embedding of the step is the frozen network's own and stays.
    """
    rectifier.to(trajectory.states.device).requires_grad_(True)
    rectifier.step.requires_grad_(False)
    return Run(rectifier, Optimiser(lr), steps, session)


def draw_states(
    trajectory: Trajectory, batch: int, levels: range | list[int], generator: torch.Generator
) -> tuple[Tensor, int]:
    """Draw numbers of pictures `[b]`, and of one of the steps ``levels``."""
    count = trajectory.states.shape[1]
    rows = torch.randint(0, count, (min(batch, count),), generator=generator)
    place = int(torch.randint(0, len(levels), (1,), generator=generator))
    return rows.to(trajectory.states.device), levels[place]


class _Step(NamedTuple):
    """One step down: pictures, states, where to arrive, noise level now and next."""

    rows: Tensor
    x: Tensor
    aim: Tensor
    sigma: float
    next_sigma: float


def _stored_step(trajectory: Trajectory, i: int, rows: Tensor) -> _Step:
    sigma, next_sigma = trajectory.sigmas[i : i + 2].tolist()
    return _Step(rows, trajectory.states[i][rows], trajectory.states[i + 1][rows], sigma, next_sigma)


class _RectifiedWalks:
    """Every other step, the next one of a walk of the rectified model down an inversion in a random number of steps."""

    def __init__(self, model: Denoiser, trajectory: Trajectory, batch: int, seed: int):
        self.model = model
        self.trajectory = trajectory
        self.batch = batch
        self.generator = torch.Generator().manual_seed(seed + 1)
        self.left: list[tuple[Tensor, float, float]] = []
        self.rows = self.x = trajectory.states
        self.done = 0

    @property
    def carry(self) -> dict[str, Tensor]:
        """Tell where a walk is that has not come down yet."""
        return {"walked": self.x} if self.left else {}

    def next_step(self, run: Run) -> _Step | None:
        """Take the next step of a walk; None if it is a stored state's turn."""
        while self.done < run.i // 2:  # a resumed run has taken these
            self._begin_walk(run.i // 2 - self.done)
            self.x = run.carry.get("walked", self.x).to(self.trajectory.states)
        if run.i % 2 == 0:
            return None
        if not self.left:
            self._begin_walk()
        aim, sigma, next_sigma = self.left.pop(0)
        self.done += 1
        return _Step(self.rows, self.x, aim, sigma, next_sigma)

    @torch.no_grad()
    def _begin_walk(self, taken: int = 0) -> None:
        """Invert some pictures, by plain DDIM, unless all of the walk's steps, or more, were ``taken``."""
        states = self.trajectory.states
        device = self.trajectory.states.device
        last = len(self.trajectory.sigmas) - 1
        count = states.shape[1]
        choices = (*_COARSE_STEPS, last)
        choice = int(torch.randint(len(choices), (1,), generator=self.generator))
        steps = min(last, choices[choice])
        rows = torch.randint(0, count, (min(self.batch, count),), generator=self.generator)
        self.rows = rows.to(device)
        picked = [*torch.linspace(0, last - 1, steps).round().long().unique().tolist(), last]
        self.done += min(taken, len(picked) - 1)
        if taken >= len(picked) - 1:
            return
        sigmas = self.trajectory.sigmas[picked]
        if steps == last:
            walk = states[:, self.rows]
        else:
            walk = invert_ddim(self.model, self.trajectory.x0[self.rows], sigmas, limit=None).states
        self.x = walk[0]
        levels = sigmas.tolist()
        self.left = list(zip(walk[1:], levels[:-1], levels[1:], strict=True))[taken:]
