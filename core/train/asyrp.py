"""Training of Asyrp's shift of h (Kwon et al. 2023, arXiv 2210.10960, section 4.1 and appendix)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..denoiser import Bottleneck, Denoiser
from ..fingerprint import without_patches
from ..networks.asyrp import ShiftBlock, ShiftTable, TrainedAsyrp
from ..sample import edited_step
from ..trajectory import Trajectory
from .directional import Decode, Guide, PromptPair
from .passes import Chain, Passes
from .run import Optimiser, Run, Session

_LAYER = "middle"
_ROUNDING = 1e-5  # noise levels come through float32


@dataclass(frozen=True)
class AsyrpSettings:
    """How Asyrp's shift is trained; the defaults are those of the released code.

    Attributes:
        sigma_edit: lowest noise level that is edited.
        sigma_boost: goes into the result: from here down Asyrp draws noise anew; 0 is off.
        epochs: times that every picture is seen.
        batch: pictures at a time.
        lr: learning rate.
        optimiser: a name of :data:`core.train.run.OPTIMISERS`.
        clip_weight: of the directional loss.
        l1_weight: of the change of the prediction, times the cosine of the prompts.
        blur: of the pictures before they are embedded, a share of their side 0..0.2; against fine patterns that only
            please the embedder.
        seed: of the order of the pictures.
    """

    sigma_edit: float
    sigma_boost: float = 0.0
    epochs: int = 1
    batch: int = 1
    lr: float = 0.5
    optimiser: str = "sgd"
    clip_weight: float = 0.8
    l1_weight: float = 3.0
    blur: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch < 1 or self.epochs < 1:
            raise ValueError(f"epochs and batch must be at least 1, got {self.epochs} and {self.batch}")


def train_asyrp(
    model: Denoiser,
    trajectory: Trajectory,
    shift: ShiftBlock | ShiftTable,
    prompts: PromptPair,
    settings: AsyrpSettings,
    *,
    decode: Decode | None = None,
    session: Session | None = None,
) -> TrainedAsyrp:
    """Fit a shift of h so that the pictures of a trajectory move from one prompt to another.

    For every batch of pictures the edited chain walks down from the noisiest state to ``sigma_edit``; at every step the
    loss is ``clip_weight * log form of the directional loss + l1_weight * cos(source, target) * |P~ - P|_1``, with P~
    the edited prediction of the edited chain and P the prediction of the plain chain, and the optimiser takes a step
    there and then. No gradient runs from one step of the chain into another.

    Args:
        model: frozen denoiser.
        trajectory: of the training pictures, made with the same model.
        shift: what is trained; it stays what it was if the run fails.
        prompts: what the pictures show, and what they are to show.
        settings: how.
        decode: for models of latents.
        session: what the caller does beside the run; it is shown ``denoised`` (the edited prediction) and ``sigma``.

    Returns:
        The edit, strength 1 being what was trained.

    Raises:
        ValueError: prompts that say nothing, no step at or above ``sigma_edit``, or a trajectory of another model.
        RuntimeError: the loss is not finite.
    """
    trajectory.check_model(model.fingerprint)
    loop = _ShiftLoop(model, trajectory, shift, settings, Guide(prompts, trajectory, settings, decode))
    passes = Passes(trajectory.states.shape[1], settings.batch, settings.epochs, len(loop.steps), settings.seed)
    shift.to(trajectory.states.device)
    optimiser = Optimiser(settings.lr, settings.optimiser)
    run = Run(shift, optimiser, passes.total, session, warm_up=passes.one_pass)
    for chain in passes.remaining(run):
        loop.walk(run, chain)
    shift.load_state_dict(run.best)
    shift.requires_grad_(False)
    facts = {
        "source": prompts.source,
        "target": prompts.target,
        "loss": run.losses[-1] if run.losses else 0.0,
        "pictures": passes.pictures,
        "epochs": settings.epochs,
    }
    return trained_shift(shift, model.fingerprint, trajectory, prompts.label, settings, facts)


def trained_shift(
    shift: ShiftBlock | ShiftTable,
    fingerprint: str,
    trajectory: Trajectory,
    label: str,
    settings: AsyrpSettings,
    facts: dict[str, Any],
) -> TrainedAsyrp:
    """Describe a shift with what has to be known of its training; also of a run that broke off.

    Args:
        shift: the block or the table.
        fingerprint: of the model.
        trajectory: of the training pictures.
        label: for people.
        settings: of the training.
        facts: figures of the training.
    """
    return TrainedAsyrp(
        shift,
        without_patches(fingerprint),
        settings.sigma_edit,
        len(steps_above(trajectory, settings.sigma_edit)) or 1,
        settings.sigma_boost,
        _LAYER,
        label,
        {**facts, "sigma_start": float(trajectory.sigmas[0])},
        len(trajectory.sigmas) - 1,
    )


def steps_above(trajectory: Trajectory, sigma: float) -> list[int]:
    """List the numbers of a trajectory's steps that start at or above a noise level."""
    return [i for i, level in enumerate(trajectory.sigmas.tolist()[:-1]) if level >= sigma * (1 - _ROUNDING)]


def check_edited(trajectory: Trajectory, sigma_edit: float) -> list[int]:
    """Number the steps that are edited, those at or above a noise level.

    Raises:
        ValueError: there are none.
    """
    steps = steps_above(trajectory, sigma_edit)
    if not steps:
        raise ValueError(
            f"no step of the trajectory lies at or above sigma_edit {sigma_edit:g}; its noisiest is"
            f" {float(trajectory.sigmas[0]):.3g}: lower sigma_edit"
        )
    return steps


@torch.no_grad()
def split_one(model: Denoiser, trajectory: Trajectory) -> tuple[Bottleneck, Tensor]:
    """Split the model at one picture's noisiest state; the bottleneck, h `[1 c h w]`, and its noise level `[1]`."""
    sigma = trajectory.states.new_full((1,), float(trajectory.sigmas[0]))
    return model.split(trajectory.noisiest[:1], sigma, _LAYER), sigma


def predict_shifted(part: Bottleneck, shift: ShiftBlock | ShiftTable, sigma: Tensor) -> Tensor:
    """Predict from a shifted h, `[b c h w]`, with a graph to the shift.

    Args:
        part: of the states `[b c h w]`.
        shift: what is added to h.
        sigma: noise levels of the states, `[b]`.
    """
    moved = part.h + shift(part.h.float(), sigma.float()).to(part.h)
    return (part.fused or part.smooth or part.decode)(moved)


class PlainPredictions:
    """What the frozen model says of the stored states, which is the same in every epoch: asked once and kept.

    It is kept in the memory of the CPU, as large as the states themselves. Pictures are asked about in groups that do
    not depend on the order of training, so that a resumed run, which asks again, gets the very same numbers.

    Args:
        model: frozen denoiser.
        trajectory: of the training pictures.
        batch: pictures at a time.
    """

    def __init__(self, model: Denoiser, trajectory: Trajectory, batch: int):
        self.model = model
        self.trajectory = trajectory
        self.batch = batch
        self._known: dict[tuple[int, int], Tensor] = {}

    @torch.no_grad()
    def at(self, i: int, rows: Tensor) -> Tensor:
        """Predict the pictures ``rows`` `[b]` from their states of step ``i``, `[b c h w]`."""
        picked = [self._group(i, row // self.batch)[row % self.batch] for row in rows.tolist()]
        return torch.stack(picked).to(self.trajectory.states)

    def _group(self, i: int, group: int) -> Tensor:
        if (i, group) not in self._known:
            x = self.trajectory.states[i].split(self.batch)[group]
            sigma = x.new_full((len(x),), float(self.trajectory.sigmas[i]))
            self._known[i, group] = self.model(x, sigma).cpu()
        return self._known[i, group]


class _ShiftLoop:
    """The edited chain of a batch, with a step of the optimiser at each of its own."""

    def __init__(
        self,
        model: Denoiser,
        trajectory: Trajectory,
        shift: ShiftBlock | ShiftTable,
        settings: AsyrpSettings,
        guide: Guide,
    ):
        self.model = model
        self.trajectory = trajectory
        self.shift = shift
        self.settings = settings
        self.guide = guide
        self.steps = check_edited(trajectory, settings.sigma_edit)
        self.plain = PlainPredictions(model, trajectory, settings.batch) if settings.epochs > 1 else None

    def walk(self, run: Run, chain: Chain) -> None:
        """Take the steps of a chain that are left."""
        grid = self.trajectory.sigmas.tolist()
        rows = chain.rows.to(self.trajectory.states.device)
        x = self.trajectory.noisiest[rows]
        if chain.start:
            x = run.carry["x"].to(x)
        for i in self.steps[chain.start :]:
            loss, edited, eps = self._loss(i, rows, x)
            x = edited_step(x, grid[i], grid[i + 1], edited, eps)
            carry = {} if i == self.steps[-1] else {"x": x}
            run.step(loss, carry, denoised=edited, sigma=grid[i])

    def _loss(self, i: int, rows: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the loss at step ``i``, its edited prediction, and the unedited one, which gives the noise."""
        sigma = x.new_full((len(rows),), float(self.trajectory.sigmas[i]))
        with torch.no_grad():
            part = self.model.split(x, sigma, _LAYER)
            eps = part.decode(part.h)
            if self.plain is None:
                plain = self.model(self.trajectory.states[i][rows], sigma)
            else:
                plain = self.plain.at(i, rows)
        with torch.enable_grad():
            edited = predict_shifted(part, self.shift, sigma)
            change = self.settings.l1_weight * self.guide.cosine * F.l1_loss(edited, plain)
            loss = self.guide.loss(edited, rows) + change
        return loss, edited.detach(), eps


@torch.no_grad()
def global_shift(
    model: Denoiser, trajectory: Trajectory, trained: TrainedAsyrp, batch: int = 8, one: bool = False
) -> TrainedAsyrp:
    """Average the shift over the pictures of a trajectory (paper, section 4.3).

    The result is a table of one a step, or ``one`` for all steps.

    Args:
        model: frozen denoiser.
        trajectory: of pictures other than those to be edited.
        trained: a trained block.
        batch: pictures at a time.
        one: average over the steps too.

    Raises:
        ValueError: another model's trajectory, or one without a step at or above the lowest level that is edited.
    """
    trajectory.check_model(model.fingerprint)
    trained.check_model(model.fingerprint, model.layers)
    steps = steps_above(trajectory, trained.sigma_edit)
    if not steps:
        raise ValueError(
            f"the edit acts down to sigma {trained.sigma_edit:g}, but the noisiest step of the trajectory is"
            f" {float(trajectory.sigmas[0]):.3g}; invert up to more noise"
        )
    shifts = []
    levels = trajectory.sigmas[steps]
    for i in steps:
        parts = []
        for x in trajectory.states[i].split(batch):
            sigma = x.new_full((len(x),), float(trajectory.sigmas[i]))
            h = model.split(x, sigma, trained.layer).h.float()
            parts.append(trained.shift(h, sigma.float()))
        shifts.append(torch.cat(parts).mean(0))
    table = torch.stack(shifts)
    if one:
        # Noise levels spread over orders of magnitude: their mean is the geometric one.
        table = table.mean(0, keepdim=True)
        levels = levels.log().mean().exp()[None]
    return replace(
        trained,
        shift=ShiftTable(table, levels).requires_grad_(False),
        label=f"{trained.label}, mean",
    )
