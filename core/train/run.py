"""One run of training: the optimiser's steps, what the weights have come to, and a state to go on from (no paper)."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..denoiser import Callback

OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
    "adamw": torch.optim.AdamW,
}
Rate = Callable[[int, int], float]
"""``rate(step, total)``: the share of the learning rate that a step takes."""
_SMOOTHING = 0.95
_WARM_UP = 20
_SEED_STRIDE = 1_000_003


@dataclass
class Session:
    """What the caller of a training loop does beside it; nothing, unless it is told to.

    Attributes:
        on_begin: called with the run before its first step: to resume an earlier one, and to read it if it is
            cancelled.
        on_step: called after every step with ``{"i", "n", "loss", "smooth"}`` and what the loop shows of it, such as
            ``denoised``; may raise to cancel.
    """

    on_begin: Callable[[Run], None] | None = None
    on_step: Callback | None = None

    def begin(self, run: Run) -> None:
        """Call ``on_begin``; the loop does it before its first step."""
        if self.on_begin is not None:
            self.on_begin(run)

    def step(self, event: dict[str, Any]) -> None:
        """Call ``on_step``; the run does it after every step."""
        if self.on_step is not None:
            self.on_step(event)


@dataclass(frozen=True)
class Optimiser:
    """How weights follow their gradient.

    Attributes:
        lr: learning rate.
        method: one of :data:`OPTIMISERS`.
        clip: longest gradient; 0 leaves it as it is.
        foreach: whether torch works on all weights in one call; None leaves that to torch.
        options: further ones of torch's optimiser, such as ``betas``.
        factors: names of weights -> how many times faster than the rest they learn.
    """

    lr: float
    method: str = "adam"
    clip: float = 1.0
    foreach: bool | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    factors: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (self.lr > 0 and math.isfinite(self.lr)):
            raise ValueError(f"the learning rate must be above 0, got {self.lr}")
        if self.method not in OPTIMISERS:
            raise ValueError(f"optimiser must be one of {', '.join(OPTIMISERS)}, got {self.method!r}")

    def over(self, weights: Mapping[str, Tensor]) -> torch.optim.Optimizer:
        """Make torch's optimiser of these weights, a group for each factor, which the group carries as ``factor``."""
        factors = {name: self.factors.get(name, 1.0) for name in weights}
        groups = []
        for factor in sorted(set(factors.values())):
            members = [weight for name, weight in weights.items() if factors[name] == factor]
            groups.append({"params": members, "factor": factor})
        return OPTIMISERS[self.method](groups, lr=self.lr, foreach=self.foreach, **self.options)


class Loss(NamedTuple):
    """What a step goes down, and what goes on from it.

    Attributes:
        value: a scalar with a graph to the weights.
        carry: what the next step starts from.
        shown: joins what the session is told.
    """

    value: Tensor
    carry: Mapping[str, Tensor] = {}
    shown: Mapping[str, Any] = {}


class Run:
    """Weights in training.

    Args:
        module: its parameters that require a gradient are trained.
        optimiser: how.
        total: steps of the whole run.
        session: what the caller does beside it; told of the run at once.
        warm_up: steps before a state may count as the best, such as one pass over the pictures: until then the loss is
            of some only.
        ema: decay of a moving average of the weights, which then is what the run comes to instead of the best state;
            shorter in the first steps, where it would hold the start. None for none.

    Attributes:
        i: steps done.
        losses: of every step done.
        carry: what the next step of a chain starts from, by name; empty between two chains.
        average: of the weights, by name; empty without ``ema``.
        reduce: makes gradients and loss the mean over all processes of a run, in place; None for a single one.

    Raises:
        ValueError: a run without steps.
    """

    def __init__(
        self,
        module: nn.Module,
        optimiser: Optimiser,
        total: int,
        session: Session | None = None,
        *,
        warm_up: int = _WARM_UP,
        ema: float | None = None,
    ):
        if total < 1:
            raise ValueError(
                f"training needs at least one step, got {total}; raise steps or epochs, or connect pictures"
            )
        self.module = module
        self.total = total
        self.session: Session | None = session or Session()
        self.settings = optimiser
        self.weights = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self.parameters = list(self.weights.values())
        self.optimiser = optimiser.over(self.weights)
        self.reduce: Callable[[Sequence[Tensor]], None] | None = None
        self.i = 0
        self.losses: list[float] = []
        self.carry: dict[str, Tensor] = {}
        self.ema = ema
        self.average = {name: p.detach().clone() for name, p in self.weights.items()} if ema is not None else {}
        self._smooth = math.nan
        self._least = math.inf
        self._warm_up = warm_up
        self._best: dict[str, Tensor] | None = None
        self._seconds_before = 0.0
        self.started = time.perf_counter()
        self.session.begin(self)

    @property
    def best(self) -> dict[str, Tensor]:
        """Copy the state of the module where the smoothed loss was least, for whoever catches a cancelled run."""
        return _copied(self.module) if self._best is None else self._best

    @property
    def seconds(self) -> float:
        """Count the time in training, over all the times that the run was resumed."""
        return self._seconds_before + time.perf_counter() - self.started

    def train(self, loss: Callable[[torch.Generator], Tensor | Loss], seed: int = 0, rate: Rate | None = None) -> None:
        """Take every step that is left.

        Args:
            loss: computes that of the next step, drawing from random numbers of its own.
            seed: of all steps.
            rate: see :data:`Rate`; None keeps the learning rate.

        Raises:
            RuntimeError: a loss is not finite.
        """
        for generator in self.remaining(seed, rate):
            with torch.enable_grad():
                result = loss(generator)
            value, carry, shown = result if isinstance(result, Loss) else Loss(result)
            self.step(value, carry, **shown)

    def remaining(self, seed: int = 0, rate: Rate | None = None) -> Iterator[torch.Generator]:
        """Seed random numbers for every step that is left.

        They follow from seed and step alone, so that a resumed run goes on exactly.

        Args:
            seed: of all steps.
            rate: see :data:`Rate`; None keeps the learning rate.
        """
        while self.i < self.total:
            if rate is not None:
                self.set_rate(self.settings.lr * rate(self.i, self.total))
            yield torch.Generator().manual_seed(seed * _SEED_STRIDE + self.i)

    def set_rate(self, lr: float) -> None:
        """Set the learning rate of the next steps."""
        for group in self.optimiser.param_groups:
            group["lr"] = lr * group["factor"]

    def step(self, loss: Tensor, carry: Mapping[str, Tensor] | None = None, **shown: Any) -> None:
        """Take one step down the gradient of ``loss``.

        Args:
            loss: a scalar with a graph to the weights.
            carry: what the next step starts from.
            shown: joins what the session is told.

        Raises:
            RuntimeError: the loss is not finite; the weights are those of before.
        """
        value = self._descend(loss)
        self.i += 1
        self.losses.append(value)
        self.carry = dict(carry or {})
        weight = min(_SMOOTHING, 1 - 1 / self.i)
        first = self.i == 1 or math.isnan(self._smooth)  # also the first step after a file without it
        self._smooth = value if first else weight * self._smooth + (1 - weight) * value
        if self.ema is not None:
            self._average()
        else:
            self._compare()
        if self.session is not None:
            self.session.step({"i": self.i - 1, "n": self.total, "loss": value, "smooth": self._smooth, **shown})

    def _descend(self, loss: Tensor) -> float:
        """Step down the gradient of the loss; return it, averaged over the processes."""
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        mean = loss.detach().reshape(1).clone()
        if self.reduce is not None:
            self.reduce([*(p.grad for p in self.parameters if p.grad is not None), mean])
        value = float(mean)
        if not math.isfinite(value):
            self.optimiser.zero_grad(set_to_none=True)
            remedy = (
                "go on from the last state with a lower learning rate"
                if self.ema is not None
                else "lower the learning rate"
            )
            raise RuntimeError(f"the loss became {value} at step {self.i + 1} of {self.total}; {remedy}")
        if self.settings.clip:
            nn.utils.clip_grad_norm_(self.parameters, self.settings.clip, foreach=self.settings.foreach)
        self.optimiser.step()
        # Gradients are as large as the weights; the next forward pass can use their memory.
        self.optimiser.zero_grad(set_to_none=True)
        return value

    def _average(self) -> None:
        weights = [p.detach() for p in self.parameters]
        share = 1 - ema_decay(self.ema or 0.0, self.i)
        torch._foreach_lerp_(list(self.average.values()), weights, share)  # pyright: ignore[reportPrivateImportUsage]

    def _compare(self) -> None:
        if self.i > self._warm_up and self._smooth < self._least:
            self._least = self._smooth
            # In the memory of the CPU: it is read at most once, and the device has the weights themselves.
            self._best = {name: value.detach().to("cpu", copy=True) for name, value in self.module.state_dict().items()}
        if self.i == self.total:
            self._best = None  # a run that was not cancelled is worth its last state

    def state(self) -> dict[str, Any]:
        """Collect everything needed to go on later."""
        return {
            "module": _copied(self.module),
            "optimiser": copy.deepcopy(self.optimiser.state_dict()),
            "i": self.i,
            "losses": list(self.losses),
            "smooth": self._smooth,
            "least": self._least,
            "best": self.best,
            "carry": self.carry,
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state` of a run with the same settings."""
        self.module.load_state_dict(state["module"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.i = state["i"]
        self.losses = list(state["losses"])
        self.carry = dict(state["carry"])
        self._smooth = state["smooth"]
        self._least = state["least"]
        self._best = state["best"] if math.isfinite(self._least) else None

    def resume_at(self, step: int, seconds: float) -> None:
        """Count on from the steps and the time of an earlier run, whose weights are in place."""
        self.i = step
        self._seconds_before = seconds


def ema_decay(most: float, steps: int) -> float:
    """Choose the decay of a moving average: less in the first steps, so that it forgets the start."""
    return min(most, (1 + steps) / (10 + steps))


def cosine(step: int, total: int) -> float:
    """Compute the share of the learning rate at a step, along a cosine from 1 to 0 at the end of the run."""
    return 0.5 * (1 + math.cos(math.pi * step / total))


def rate(step: int, total: int, warm_up: int) -> float:
    """Compute the share of the learning rate at a step.

    It rises over ``warm_up`` steps, holds for 40 % of the run, and falls along a cosine to 2 %.
    """
    fall = 0.5 * (1 + math.cos(math.pi * max(0.0, step / total - 0.4) / 0.6))
    return min(1.0, (step + 1) / warm_up) * (0.02 + 0.98 * fall)


def _copied(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}
