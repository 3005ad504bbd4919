"""Hold the states of an image on its way through noise: what inversion returns and every edit starts from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, TypedDict, get_args

import torch
from torch import Tensor

from .denoiser import Noising
from .fingerprint import differences, without_patches
from .foreign import is_dense, is_finite, shown
from .picture_facts import PictureFit, WorldFact
from .solver import SOLVERS, Solver

_SAME = 1e-3  # levels of two schedules that differ by less are one
_CONSISTENT = 1e-2  # relative residual below which sampling back passes through the stored states, to 60 dB and more


class StoredPrompts(TypedDict, total=False):
    """What a model was conditioned on: CONDITIONING lists of the host, and the guidance scale."""

    positive: list
    negative: list
    cfg: float


@dataclass(frozen=True)
class ExactMethod:
    """A coupled inversion, whose own way back ends in the picture itself.

    Attributes:
        method: ``edict`` or ``bdia``.
        parameter: mixing of EDICT, gamma of BDIA.
    """

    method: Literal["edict", "bdia"]
    parameter: float


@dataclass(frozen=True)
class Trajectory:
    """States of one or more images on a grid of noise levels.

    Attributes:
        sigmas: `[n+1]` float64, descending, last entry 0: the order in which a sampler walks.
        states: `[n+1 b ...]`; ``states[0]`` is the noisiest, ``states[-1]`` the clean image. Of pictures `[n+1 b c h
            w]`.
        fingerprint: of the model that was inverted.
        method: how, for people ("ddim B", "fixed point 3").
        noises: `[n b ...]` or None; the noise added by each step of a stochastic inversion.
        reconstruction: `[b ...]` or None; the image that sampling back along ``sigmas`` gives.
        residual: `[n]` or None; relative residual of the equation of each step.
        noising: how states are noised.
        prompts: what the model was conditioned on, or None.
        exact: the coupled inversion that made it, or None.
        pair: `[2 b ...]` float64 or None; the two states from which ``exact`` goes back.
        seed: of the noises of a stochastic inversion, or None.
        moved: whether the first state was edited (:func:`core.edit.directions.state.edit_state`), so that sampling back
            is an edit; the others are the picture's own.
        fit: how the pictures were cut and scaled before they were inverted, or None.
        world: how much they are of the model's world, or None where nobody knows.
        solver: that made the states, and that sampling back has to follow.
    """

    sigmas: Tensor
    states: Tensor
    fingerprint: str
    method: str = ""
    noises: Tensor | None = None
    reconstruction: Tensor | None = None
    residual: Tensor | None = None
    noising: Noising = "sigma"
    prompts: StoredPrompts | None = None
    exact: ExactMethod | None = None
    pair: Tensor | None = None
    seed: int | None = None
    moved: bool = False
    fit: PictureFit | None = None
    world: WorldFact | None = None
    solver: Solver = "euler"

    def __post_init__(self) -> None:
        s = self.sigmas
        x = self.states
        if not _is_grid(s):
            raise ValueError(f"sigmas must be one descending row that ends in 0, got {_first(s)}")
        if not is_dense(x) or x.dim() < 3 or len(x) != len(s):
            raise ValueError(f"states must be [{len(s)} b ...] for {len(s)} sigmas, not empty, got {shown(x)}")
        if self.noising not in get_args(Noising):
            raise ValueError(f"noising must be {' or '.join(get_args(Noising))}, got {shown(self.noising)}")
        if self.world is not None and len(self.world.ratios) != x.shape[1]:
            raise ValueError(f"world must hold {x.shape[1]} ratios, one a picture, got {len(self.world.ratios)}")
        if self.solver not in SOLVERS:
            raise ValueError(f"solver must be {' or '.join(SOLVERS)}, got {shown(self.solver)}")
        if not is_finite(x):
            raise ValueError(
                "the trajectory holds NaN or infinite values; invert again with a finite image and fewer, larger steps"
            )

    @property
    def x0(self) -> Tensor:
        """Take the inverted image, `[b c h w]`."""
        return self.states[-1]

    @property
    def rebuilt(self) -> Tensor:
        """Take ``reconstruction``, which must be there.

        Raises:
            ValueError: nobody has sampled back yet.
        """
        if self.reconstruction is None:
            raise ValueError("this trajectory has no reconstruction yet; call core.sample.reconstruct on it")
        return self.reconstruction

    @property
    def is_consistent(self) -> bool:
        """Say whether sampling back passes through the stored states: the residual of every step is known and small.

        Below a state that was moved it does, too, as the others are the picture's own.
        """
        plain = self.exact is None and self.noises is None
        return plain and self.residual is not None and float(self.residual.max()) < _CONSISTENT

    @property
    def noisiest(self) -> Tensor:
        """Take the state at ``sigmas[0]``, `[b c h w]`."""
        return self.states[0]

    def nearest(self, sigma: float) -> int:
        """Find the noisy grid point nearest to ``sigma`` in log scale (never the clean end)."""
        log = self.sigmas[:-1].log()
        level = torch.tensor(max(sigma, 1e-8), dtype=torch.float64).log()
        return int((log - level).abs().argmin())

    def at(self, sigma: float) -> Tensor:
        """Interpolate the state at any level, `[b c h w]`: between two stored ones in a straight line, as Euler does.

        The noisiest above.
        """
        s = self.sigmas
        near = int((s - sigma).abs().argmin())
        if abs(float(s[near]) - sigma) <= _SAME * sigma:
            return self.states[near]
        after = int((s > sigma).sum())
        if after == 0:
            return self.states[0]
        high = float(s[after - 1])
        low = float(s[after])
        return torch.lerp(self.states[after], self.states[after - 1], (sigma - low) / (high - low))

    def image(self, index: int) -> Trajectory:
        """Cut out one image of the batch, with its own prompts and semantic codes where these are one an image.

        Raises:
            ValueError: there is no such image.
        """
        count = self.states.shape[1]
        if not 0 <= index < count:
            raise ValueError(f"image_index must lie in 0..{count - 1} for this trajectory, got {index}")
        pick = slice(index, index + 1)
        return replace(
            self,
            states=self.states[:, pick],
            noises=None if self.noises is None else self.noises[:, pick],
            reconstruction=None if self.reconstruction is None else self.reconstruction[pick],
            pair=None if self.pair is None else self.pair[:, pick],
            prompts=self.prompts if self.prompts is None or count == 1 else _prompts_of(self.prompts, pick, count),
            world=None if self.world is None else self.world.of(index),
        )

    def repeat(self, n: int) -> Trajectory:
        """Repeat a trajectory of one image ``n`` times (views, no memory), for many edits in one run."""
        if self.states.shape[1] != 1:
            raise ValueError(
                f"only the trajectory of one image can be repeated, this one holds {self.states.shape[1]}; pick one"
                " with image()"
            )
        return replace(
            self,
            states=_repeated(self.states, n),
            pair=None if self.pair is None else _repeated(self.pair, n),
            noises=None,
            reconstruction=None,
            world=None if self.world is None else self.world.repeat(n),
        )

    def to(self, device: torch.device | str) -> Trajectory:
        """Move to another device."""
        tensors = {k: v for k, v in vars(self).items() if isinstance(v, Tensor) and k not in ("sigmas", "residual")}
        return replace(self, **{k: v.to(device) for k, v in tensors.items()})

    def check_pictures(self, what: str) -> None:
        """Refuse states that are no pictures `[b c h w]`.

        Args:
            what: needs them, for people.

        Raises:
            ValueError: states of another rank, such as those of a video.
        """
        if self.states.dim() != 5:
            raise ValueError(
                f"{what} takes pictures [b c h w], this trajectory holds states {list(self.states.shape[1:])}; invert"
                " pictures"
            )

    def check_run(self, sigmas: Tensor, x: Tensor, node: str, skip: int = 0) -> None:
        """Refuse a sampler's run that cannot follow the stored states.

        Args:
            sigmas: of the run.
            x: its latent, `[b c h w]`.
            node: that gives the right SIGMAS.
            skip: steps left out at the noisy end.

        Raises:
            ValueError: other steps, or pictures of another size.
        """
        grid = self.sigmas[skip:]
        size = list(self.states.shape[2:])
        if len(sigmas) != len(grid) or not torch.allclose(sigmas.cpu().double(), grid, rtol=1e-4):
            raise ValueError(
                f"connect the SIGMAS output of {node} to the sampler: its steps belong to the stored states"
            )
        if list(x.shape[1:]) != size:
            raise ValueError(
                f"the trajectory holds pictures of {size}, the latent connected has {list(x.shape[1:])}; connect the"
                " latent of the inversion, or one of that size"
            )

    def check_euler(self, what: str) -> None:
        """Refuse states of a solver that ``what`` does not follow.

        Raises:
            ValueError: they are of second order.
        """
        if self.solver != "euler":
            raise ValueError(
                f"this trajectory was inverted by {self.solver}, whose steps {what} cannot follow; invert with method"
                " fixed point or ddim B"
            )

    def check_base(self, fingerprint: str) -> None:
        """Refuse another checkpoint or sampling; a LoRA on top may be the edit.

        Raises:
            ValueError: more than patches of weights differs.
        """
        if without_patches(self.fingerprint) != without_patches(fingerprint):
            self.check_model(fingerprint)

    def check_model(self, fingerprint: str) -> None:
        """Refuse a model other than the one that was inverted.

        Raises:
            ValueError: the fingerprints differ; in what is said.
        """
        if self.fingerprint != fingerprint:
            raise ValueError(
                f"this trajectory was made with model {self.fingerprint}, but the model connected here is"
                f" {fingerprint}, which differs in {differences(self.fingerprint, fingerprint)}; connect the same MODEL"
                " to both, or invert the image again with this one"
            )


def residual_text(trajectory: Trajectory) -> str:
    """Tell people how well the equations of an inversion's steps are solved, which takes no sampling back."""
    steps = f"{trajectory.method}, {len(trajectory.sigmas) - 1} steps"
    if trajectory.residual is None:
        return f"{steps}; this method solves no equation, so there is no residual: nobody knows how it comes back"
    worst = int(trajectory.residual.argmax())
    level = float(trajectory.sigmas[worst])
    return f"{steps}, worst residual {float(trajectory.residual[worst]):.1e} at step {worst + 1} (sigma {level:.3g})"


def relative_distance(x: Tensor, aim: Tensor) -> float:
    """Measure the distance of the worst sample of `[b ...]` from where it should be, relative to the length of that."""
    apart = (x - aim).flatten(1).norm(dim=1) / aim.flatten(1).norm(dim=1).clamp_min(1e-12)
    return float(apart.max())


def _is_grid(sigmas: Tensor) -> bool:
    """Say whether it is one descending row of at least two finite levels that ends in 0."""
    if not is_dense(sigmas, 1) or len(sigmas) < 2:
        return False
    if not is_finite(sigmas):
        return False
    descends = not bool((sigmas[1:] >= sigmas[:-1]).any())
    return descends and float(sigmas[-1]) == 0.0


def _first(s: Tensor) -> str:
    return str(s.tolist()[:8]) if s.dim() == 1 and not s.is_nested else shown(s)


def _repeated(states: Tensor, n: int) -> Tensor:
    """Expand `[m 1 ...]` to `[m n ...]`, without memory."""
    return states.expand(-1, n, *(-1,) * (states.dim() - 2))


def _prompts_of(prompts: StoredPrompts, pick: slice, count: int) -> StoredPrompts:
    """Take the prompts of one of ``count`` images."""
    one = prompts.copy()
    if "positive" in one:
        one["positive"] = _row(one["positive"], pick, count)
    if "negative" in one:
        one["negative"] = _row(one["negative"], pick, count)
    return one


def _row(conditioning: list, pick: slice, count: int) -> list:
    """Pick one of ``count`` images from a CONDITIONING of the host.

    Its row where there is one an image, otherwise as it is.
    """

    def row(value: Any) -> Any:
        return value[pick] if isinstance(value, Tensor) and len(value) == count else value

    rows = []
    for tensor, facts in conditioning:
        pooled = {"pooled_output": row(facts["pooled_output"])} if "pooled_output" in facts else {}
        rows.append([row(tensor), {**facts, **pooled}])
    return rows
