"""Training of the rectifier to edit, from the original trajectory (arXiv 2312.15707, section 3, stage 2)."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..networks.rectifier import RectifierNet
from ..sample import edited_step
from ..trajectory import Trajectory
from .directional import Decode, Guide, PromptPair
from .rectifier import FrozenNetwork, begin_rectifier_run, draw_states
from .run import Loss, Run, Session, cosine

_ROUNDING = 1e-5  # noise levels come through float32


@dataclass(frozen=True)
class RectifierEditSettings:
    """How a rectifier learns an edit.

    Attributes:
        sigma_start: noisiest level of the edit (t0 = 500 in the paper).
        steps: of the optimiser (Adam).
        batch: states at a time.
        lr: learning rate at the start; it falls to 0 along a cosine.
        clip_weight: of the directional loss in its log form.
        l1_weight: of ``|P - x0|_1``.
        blur: of the pictures before they are embedded, a share of their side 0..0.2; against fine patterns that only
            please the embedder.
        seed: of the order of states.
        markov: for comparison, walk an edited chain of ``grid`` steps instead, as DiffusionCLIP's efficient way does.
        grid: see ``markov``.
    """

    sigma_start: float
    steps: int = 500
    batch: int = 4
    lr: float = 1e-4
    clip_weight: float = 3.0
    l1_weight: float = 1.0
    blur: float = 0.0
    seed: int = 0
    markov: bool = False
    grid: int = 6

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"batch must be at least 1, got {self.batch}")


def train_rectifier_edit(
    frozen: FrozenNetwork,
    trajectory: Trajectory,
    rectifier: RectifierNet,
    prompts: PromptPair,
    settings: RectifierEditSettings,
    *,
    decode: Decode | None = None,
    session: Session | None = None,
) -> RectifierNet:
    """Fit a copy of the rectifier of stage 1 to an edit, every step from the **original** trajectory.

    Args:
        frozen: the denoiser and its network.
        trajectory: of the training pictures.
        rectifier: of stage 1; it stays as it is.
        prompts: what the pictures show, and what they are to show.
        settings: how.
        decode: for models of latents.
        session: what the caller does beside the run; it is shown ``denoised``.

    Returns:
        The edited rectifier, frozen.

    Raises:
        ValueError: prompts that say nothing, or no step at or below ``sigma_start``.
        RuntimeError: the loss is not finite.
    """
    trajectory.check_model(frozen.model.fingerprint)
    edited = copy.deepcopy(rectifier)
    loop = _EditLoop(frozen, trajectory, edited, settings, Guide(prompts, trajectory, settings, decode))
    run = begin_rectifier_run(edited, trajectory, settings.steps, settings.lr, session)

    def loss(generator: torch.Generator) -> Loss:
        rows, level = draw_states(trajectory, settings.batch, loop.window, generator)
        if settings.markov:
            level = loop.chain[run.i % len(loop.chain)]
        return loop.loss(run, level, rows)

    run.train(loss, settings.seed, cosine)
    edited.load_state_dict(run.best)
    return edited.requires_grad_(False)


def check_window(trajectory: Trajectory, sigma_start: float) -> list[int]:
    """Number the steps that are edited, those at or below a noise level.

    Raises:
        ValueError: there are none.
    """
    top = sigma_start * (1 + _ROUNDING)
    window = [i for i, sigma in enumerate(trajectory.sigmas.tolist()[:-1]) if sigma <= top]
    if not window:
        raise ValueError(f"no step of the trajectory lies at or below sigma_start {sigma_start:g}; raise it")
    return window


class _EditLoop:
    """Steps of the edit."""

    def __init__(
        self,
        frozen: FrozenNetwork,
        trajectory: Trajectory,
        edited: RectifierNet,
        settings: RectifierEditSettings,
        guide: Guide,
    ):
        self.frozen = frozen
        self.trajectory = trajectory
        self.edited = edited
        self.settings = settings
        self.guide = guide
        self.window = check_window(trajectory, settings.sigma_start)
        ends = self.window[0], self.window[-1]
        self.chain = torch.linspace(*ends, min(settings.grid, len(self.window))).round().long().tolist()

    def loss(self, run: Run, level: int, rows: Tensor) -> Loss:
        """Compute the loss at a step of the trajectory."""
        x = self.trajectory.states[level][rows]
        if run.carry:  # in the middle of an edited chain
            rows = run.carry["rows"].long()
            x = run.carry["x"].to(x)
        x0 = self.trajectory.x0[rows]
        shown, _ = self.frozen.predict(self.edited, x, x0, float(self.trajectory.sigmas[level]))
        loss = self.guide.loss(shown, rows) + self.settings.l1_weight * F.l1_loss(shown, x0)
        return Loss(loss, self._carry(level, rows, x, shown.detach()), {"denoised": shown.detach()})

    def _carry(self, level: int, rows: Tensor, x: Tensor, shown: Tensor) -> dict[str, Tensor]:
        """Say where the edited chain goes on: nowhere at its end, and nowhere from the original trajectory."""
        if not self.settings.markov or level == self.chain[-1]:
            return {}
        after = self.chain[self.chain.index(level) + 1]
        sigma, next_sigma = (float(self.trajectory.sigmas[i]) for i in (level, after))
        # A state file holds floats; the numbers of pictures are exact in them.
        return {"rows": rows.float(), "x": edited_step(x, sigma, next_sigma, shown, shown)}
