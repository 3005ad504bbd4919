"""What every training loop shares: the optimiser's step, the best state so far, a state to resume from, and the one callback."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..denoiser import Callback

OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
    "adamw": torch.optim.AdamW,
}
_SMOOTH = 0.95
_CLIP = 1.0
_WARM = 20


class Fit:
    """Weights being fitted.

    Args:
        module: its parameters that require a gradient are trained.
        lr: learning rate.
        total: steps of the whole run.
        optimiser: one of :data:`OPTIMISERS`.
        clip: longest gradient; 0 leaves it as it is.
        average: makes gradients and loss the mean over all processes of a run, in place; None for a single one.
        warm: steps before a state may count as the best, such as one pass over the pictures: until then the loss is of some only.
        callback: called after every step with ``{"i", "n", "loss", "smooth"}`` and what :meth:`step` is given; may raise to cancel.

    Attributes:
        i: steps done.
        losses: of every step done.
        carry: what the next step of a chain starts from, by name; empty between two chains.
    """

    def __init__(
        self, module: nn.Module, lr: float, total: int, optimiser: str = "adam", clip: float = _CLIP, callback: Callback | None = None,
        average: Callable[[Sequence[Tensor]], None] | None = None, warm: int = _WARM,
    ):  # fmt: skip
        if total < 1:
            raise ValueError(f"training needs at least one step, got {total}; raise steps or epochs, or connect pictures")
        if not (lr > 0 and math.isfinite(lr)):
            raise ValueError(f"the learning rate must be above 0, got {lr}")
        if optimiser not in OPTIMISERS:
            raise ValueError(f"optimiser must be one of {', '.join(OPTIMISERS)}, got {optimiser!r}")
        self.module, self.total, self.callback, self.clip, self.average = module, total, callback, clip, average
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self.optimiser = OPTIMISERS[optimiser](self.parameters, lr)
        self.lr, self.i = lr, 0
        self.losses: list[float] = []
        self.carry: dict[str, Tensor] = {}
        self._smooth, self._least, self._warm = math.nan, math.inf, warm
        self._best: dict[str, Tensor] | None = None

    @property
    def best(self) -> dict[str, Tensor]:
        """State of the module where the smoothed loss was least, for whoever catches a cancelled run."""
        return _copied(self.module) if self._best is None else self._best

    def cool(self) -> None:
        """Learning rate of the next step: along a cosine from ``lr`` to 0 at the end of the run."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.lr * 0.5 * (1 + math.cos(math.pi * self.i / self.total))

    def step(self, loss: Tensor, carry: Mapping[str, Tensor] | None = None, **seen: Any) -> None:
        """One step down the gradient of ``loss``; ``carry`` is what the next one starts from.

        Raises:
            RuntimeError: the loss is not finite; the weights are those of before.
        """
        value = float(loss.detach())
        if not math.isfinite(value):
            raise RuntimeError(f"the loss became {value} at step {self.i + 1} of {self.total}; lower the learning rate")
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if self.average is not None:
            mean = loss.detach().reshape(1).clone()
            self.average([*(p.grad for p in self.parameters if p.grad is not None), mean])
            value = float(mean)
        if self.clip:
            nn.utils.clip_grad_norm_(self.parameters, self.clip)
        self.optimiser.step()
        self.i += 1
        self.losses.append(value)
        weight = min(_SMOOTH, 1 - 1 / self.i)
        self._smooth = value if self.i == 1 else weight * self._smooth + (1 - weight) * value
        self.carry = dict(carry or {})
        if self.i > self._warm and self._smooth < self._least:
            self._least, self._best = self._smooth, _copied(self.module)
        if self.i == self.total:
            self._best = None  # what it has come to
        if self.callback is not None:
            self.callback({"i": self.i - 1, "n": self.total, "loss": value, "smooth": self._smooth, **seen})

    def state(self) -> dict[str, Any]:
        """Everything needed to go on later."""
        return {
            "module": _copied(self.module), "optimiser": copy.deepcopy(self.optimiser.state_dict()), "i": self.i,
            "losses": list(self.losses), "smooth": self._smooth, "least": self._least, "best": self.best, "carry": self.carry,
        }  # fmt: skip

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state` of a run with the same settings."""
        self.module.load_state_dict(state["module"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.i, self.losses, self.carry = state["i"], list(state["losses"]), dict(state["carry"])
        self._smooth, self._least = state["smooth"], state["least"]
        self._best = state["best"] if math.isfinite(self._least) else None


def _copied(module: nn.Module) -> dict[str, Tensor]:
    return {k: v.detach().clone() for k, v in module.state_dict().items()}
