"""Fine-tuning of a whole network towards a prompt (DiffusionCLIP, Kim, Kwon and Ye 2022, arXiv 2110.02711, eq. 7)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..networks.vp import VPDenoiser
from ..networks.weight_difference import WeightDelta, difference
from ..sample import edited_step
from ..trajectory import Trajectory
from .directional import Guide, PromptPair
from .passes import Chain, Passes
from .run import Optimiser, Run, Session


@dataclass(frozen=True)
class DiffusionClipSettings:
    """How a network is fine-tuned; the defaults are the paper's.

    Attributes:
        steps: of the sampling chain in training.
        efficient: the paper's GPU-efficient way: a loss and an optimiser's step at every step of the chain, on its
            prediction. Otherwise one loss at the end of the chain, through all of it.
        epochs: times that every picture is seen; more than 5 ruins pictures with the efficient way, as its users
            report.
        batch: pictures at a time.
        lr: learning rate of Adam.
        growth: factor of the rate after every epoch.
        clip_weight: of the directional loss in its log form.
        l1_weight: of the mean absolute change of the picture.
        blur: of the pictures before they are embedded, a share of their side 0..0.2; against fine patterns that only
            please the embedder.
        seed: of the order of the pictures.
    """

    steps: int = 6
    efficient: bool = True
    epochs: int = 5
    batch: int = 1
    lr: float = 8e-6
    growth: float = 1.3
    clip_weight: float = 3.0
    l1_weight: float = 1.0
    blur: float = 0.0
    seed: int = 0

    def check_steps(self, most: int) -> None:
        """Refuse settings that a trajectory of ``most`` steps cannot serve.

        Raises:
            ValueError: steps, epochs or batch out of range.
        """
        if not 1 <= self.steps <= most or self.batch < 1 or self.epochs < 1:
            raise ValueError(
                f"steps must lie in 1..{most} for this trajectory, epochs and batch be at least 1; got {self.steps},"
                f" {self.epochs} and {self.batch}; lower the steps, or invert with more"
            )


def train_diffusionclip(
    model: VPDenoiser,
    trajectory: Trajectory,
    prompts: PromptPair,
    settings: DiffusionClipSettings | None = None,
    *,
    session: Session | None = None,
) -> WeightDelta:
    """Fit all weights of a copy of the network so that sampled pictures move to the target prompt.

    They are sampled back from their noisiest state.

    Args:
        model: whose weights the difference is taken to; it stays as it is.
        trajectory: of the training pictures (50 to 100 in the paper), inverted up to the level t0 (sigma of t = 300 to
            600).
        prompts: what the pictures show, and what they are to show.
        settings: how.
        session: what the caller does beside the run; it is shown ``denoised`` and ``sigma``.

    Returns:
        What was added to the weights.

    Raises:
        ValueError: prompts that say nothing, or settings out of range.
        RuntimeError: the loss is not finite.
    """
    settings = settings or DiffusionClipSettings()
    trajectory.check_model(model.fingerprint)
    settings.check_steps(len(trajectory.sigmas) - 1)
    loop = _TuningLoop(model, trajectory, prompts, settings)
    steps = settings.steps if settings.efficient else 1
    passes = Passes(trajectory.states.shape[1], settings.batch, settings.epochs, steps, settings.seed)
    run = Run(loop.tuned.net, Optimiser(settings.lr), passes.total, session, warm_up=passes.one_pass)
    for chain in passes.remaining(run):
        run.set_rate(settings.lr * settings.growth**chain.epoch)
        loop.walk(run, chain)
    facts = {
        "source": prompts.source,
        "target": prompts.target,
        "pictures": passes.pictures,
        "epochs": settings.epochs,
        "efficient": settings.efficient,
        "sigma": loop.grid[0],
    }
    return tuned_difference(model, run.best, prompts.label, facts)


def tuned_difference(
    model: VPDenoiser, weights: Mapping[str, Tensor], label: str, facts: dict[str, Any] | None = None
) -> WeightDelta:
    """Take the difference of tuned weights to those of the model; also of a run that broke off.

    Args:
        model: before it was tuned.
        weights: after, of all names of its network.
        label: for people.
        facts: figures of the training.
    """
    return difference(weights, model.net.state_dict(), model.fingerprint.partition("+")[0], label, facts)


def tuned_copy(model: VPDenoiser) -> VPDenoiser:
    """Copy a model, with weights that a gradient may change."""
    net = copy.deepcopy(model.net).requires_grad_(True)
    return VPDenoiser(net, model.schedule, model.prediction, model.fingerprint)


def predict_one(tuned: VPDenoiser, trajectory: Trajectory, settings: DiffusionClipSettings) -> Tensor:
    """Predict one picture `[1 c h w]` by as many calls of the network as a gradient runs through at a time."""
    x = trajectory.noisiest[:1]
    for _ in range(1 if settings.efficient else settings.steps):
        x = tuned(x, x.new_full((1,), float(trajectory.sigmas[0])))
    return x


class _TuningLoop:
    """The sampling chain of a batch through the copy that is tuned."""

    def __init__(self, model: VPDenoiser, trajectory: Trajectory, prompts: PromptPair, settings: DiffusionClipSettings):
        self.trajectory = trajectory
        self.settings = settings
        self.guide = Guide(prompts, trajectory, settings)
        spread = torch.linspace(0, len(trajectory.sigmas) - 2, settings.steps)
        picked = spread.round().long().tolist()
        self.grid = [float(trajectory.sigmas[i]) for i in picked]
        self.grid.append(0.0)
        self.tuned = tuned_copy(model)

    def walk(self, run: Run, chain: Chain) -> None:
        """Sample a batch down, from where it was left."""
        states = self.trajectory.states
        rows = chain.rows.to(states.device)
        x = run.carry["x"].to(states) if chain.start else self.trajectory.noisiest[rows]
        with torch.enable_grad():
            if self.settings.efficient:
                self._walk_in_steps(run, x, rows, chain.start)
            else:
                self._walk_whole(run, x, rows)

    def _walk_in_steps(self, run: Run, x: Tensor, rows: Tensor, start: int) -> None:
        last = self.settings.steps - 1
        for n in range(start, self.settings.steps):
            denoised = self.tuned(x, x.new_full((len(rows),), self.grid[n]))
            shown = denoised.detach()
            x = edited_step(x, self.grid[n], self.grid[n + 1], shown, shown)
            carry = {} if n == last else {"x": x}
            run.step(self._loss(denoised, rows), carry, denoised=shown, sigma=self.grid[n])

    def _walk_whole(self, run: Run, x: Tensor, rows: Tensor) -> None:
        for n in range(self.settings.steps):
            denoised = self.tuned(x, x.new_full((len(rows),), self.grid[n]))
            x = edited_step(x, self.grid[n], self.grid[n + 1], denoised, denoised)
        run.step(self._loss(x, rows), denoised=x.detach(), sigma=0.0)

    def _loss(self, picture: Tensor, rows: Tensor) -> Tensor:
        return self.guide.loss(picture, rows) + self.settings.l1_weight * F.l1_loss(picture, self.trajectory.x0[rows])
