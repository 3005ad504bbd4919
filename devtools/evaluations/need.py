"""What each method needs of the network, as a formula: calls, and rows through the whole of it.

A row through one half of the network counts half. ``N`` steps, ``b`` pictures, ``g`` prompts a picture (2 with
guidance).
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

from ..executor import Executor
from .runs import Ran


@dataclass(frozen=True)
class Need:
    """What a node has to ask for.

    Attributes:
        formula: in words.
        calls: of the network.
        rows: through it.
        products: with the Jacobian; None where there is no Jacobian.
        operators: Jacobians.
    """

    formula: str
    calls: float
    rows: float
    products: int | None = None
    operators: int = 0


class Needs:
    """The formulas, with the pack's own words for what was given to a node.

    Args:
        executor: in which the nodes ran.
    """

    def __init__(self, executor: Executor):
        self._executor = executor

    def module(self, name: str) -> ModuleType:
        """A module of the pack."""
        return self._executor.module(name)

    def trajectory(self, payload: Any) -> Any:
        """A trajectory out of a socket."""
        return self.module("core.payload").trajectory_from_payload(payload)

    def first_step(self, ran: Ran, trajectory: Any) -> int:
        """The first step that has to be sampled: the first edited one of a consistent trajectory."""
        changed = self.changed(ran, trajectory)
        free = not (ran.inputs.get("lagged") or ran.inputs.get("eta") or ran.inputs.get("boost"))
        if trajectory.moved or not free or not trajectory.is_consistent:
            return 0
        return changed.index(True) if any(changed) else 0

    def changed(self, ran: Ran, trajectory: Any) -> list[bool]:
        """Which steps the edits on a MODEL change."""
        model = ran.inputs["model"]
        edits = self.module("nodes.host.patches.steering").edits_of(model)
        acts = self.module("nodes.host.patches.model_edits").edited_at(model.model_options)
        asymmetric = bool(ran.inputs.get("asymmetric"))
        edits = [edit.on(trajectory.sigmas, asymmetric) for edit in edits]
        return self.module("core.edit.directions.steer").edited_steps(trajectory, edits, acts)

    def runs_of_edits(self, ran: Ran, trajectory: Any, first: int) -> float:
        """How often the steps from ``first`` on run the network: again for the prediction that a rectifier is shown,
        once for each fine-tuned network in place of the plain one or beside it.
        """
        edits = self.module("nodes.host.patches.model_edits").model_edits_of(ran.inputs["model"].model_options)
        runs = 0
        for sigma in trajectory.sigmas.tolist()[first:-1]:
            shares = [e.share.schedule.strength for e in edits if hasattr(e, "share") and e.share.schedule.acts(sigma)]
            networks = len(shares) + (abs(1 - sum(shares)) > 1e-9)
            rectified = sum(e.schedules[0].acts(sigma) for e in edits if hasattr(e, "rectifier"))
            runs += networks + rectified
        return runs

    def halves(self, ran: Ran, trajectory: Any, first: int) -> int:
        """Further runs of the lower half: an asymmetric step decodes the plain h besides."""
        if not ran.inputs.get("asymmetric"):
            return 0
        edits = self.module("nodes.host.patches.steering").edits_of(ran.inputs["model"])
        edits = [edit.on(trajectory.sigmas, True) for edit in edits]
        return sum(any(e.acts(s) for e in edits) for s in trajectory.sigmas.tolist()[first:-1])


def sides(ran: Ran) -> int:
    """Prompts a picture by the inputs of a node."""
    return 2 if ran.inputs.get("cfg", 1.0) != 1 and ran.inputs.get("negative") else 1


def sides_of(trajectory: Any) -> int:
    """Prompts a picture by those of a trajectory."""
    prompts = trajectory.prompts or {}
    return 2 if prompts.get("cfg", 1.0) != 1 and prompts.get("negative") else 1


def steps_above(trajectory: Any, level: float) -> int:
    """Steps of a trajectory at or above a noise level."""
    return sum(s >= level * (1 - 1e-5) for s in trajectory.sigmas.tolist()[:-1])
