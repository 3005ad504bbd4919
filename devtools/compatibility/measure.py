"""One cell: our node and a mechanism in every combination that tells whether both do what they should."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..executor import Executor, NodeFailed
from .edits import TRAINED, Edit
from .mechanisms import HYPER, LORA, STEPS, Mechanism, network
from .world import World


@dataclass(frozen=True)
class Facts:
    """What a cell measured. Differences are relative to the largest value.

    Attributes:
        error: message of a refusal, or "".
        kind: class of the exception.
        calls: of the network before the refusal.
        behind: what happened with the nodes the other way round, if there was a refusal and that is another graph.
        finite: the result is.
        alone: the mechanism without our node moves the result by so much.
        same: the mechanism moves the edited result by so much.
        edit: our node moves the mechanism's result by so much.
        order: nodes the other way round move the result by so much; None where there is no other way.
        neutral: our node at strength 0 is so far from the mechanism alone (or the picture that has to come back).
        repeat: a second run is so far from the first.
    """

    error: str = ""
    kind: str = ""
    calls: int = 0
    behind: Facts | None = None
    finite: bool = True
    alone: float = 0.0
    same: float = 0.0
    edit: float = 0.0
    order: float | None = None
    neutral: float = 0.0
    repeat: float = 0.0


class Bench:
    """Cells on one host.

    Args:
        executor: of :mod:`devtools.executor`.

    Attributes:
        calls: of the small network so far.
        measured: cells so far.
    """

    def __init__(self, executor: Executor):
        self._executor, self.calls, self.measured = executor, 0, 0
        self._plain: dict[tuple[str, str, int], Tensor] = {}
        _write_files(executor)
        world = World()
        ((model, *_),) = executor.run({**world.g.prompt, **_only(world)}, network(world.g))
        model.model.diffusion_model.register_forward_pre_hook(self._count)

    def _count(self, *_: Any) -> None:
        self.calls += 1

    def facts(self, edit: Edit, mechanism: Mechanism, compared: bool = True) -> Facts:
        """Measure one cell, or only whether it runs and what the mechanism changes."""
        self.measured += 1
        plain_on = self.plain(edit, "on", mechanism.steps)
        before = self.calls
        try:
            both = self._run(edit, "on", mechanism)
        except NodeFailed as error:
            found = Facts(str(error), error.kind, self.calls - before)
            return replace(found, behind=self._behind(edit, mechanism)) if edit.orders and mechanism.model else found
        if not compared:
            return Facts(finite=bool(both.isfinite().all()), same=apart(both, plain_on))
        try:
            return self._compared(edit, mechanism, plain_on, both)
        except NodeFailed as error:
            return Facts("LATER: " + str(error), error.kind, self.calls - before)

    def _behind(self, edit: Edit, mechanism: Mechanism) -> Facts:
        before = self.calls
        try:
            self._run(edit, "on", mechanism, after=True)
        except NodeFailed as error:
            return Facts(str(error), error.kind, self.calls - before)
        return Facts()

    def plain(self, edit: Edit, form: str, steps: int = STEPS) -> Tensor:
        """What our node gives without any mechanism, computed once."""
        key = edit.name, form, steps
        if key not in self._plain:
            self._plain[key] = self._run(edit, form, steps=steps)
        return self._plain[key]

    def left_behind(self, edit: Edit) -> float:
        """How far the plain result is now from what it was."""
        return apart(self.plain(edit, "on"), self._run(edit, "on", again=True))

    def _compared(self, edit: Edit, mechanism: Mechanism, plain_on: Tensor, both: Tensor) -> Facts:
        absent, neutral = (self._run(edit, form, mechanism) for form in ("absent", "neutral"))
        other = self._run(edit, "on", mechanism, after=True) if edit.orders and mechanism.model else None
        second = both if not edit.twice else self._run(edit, "on", mechanism, again=True) if other is None else other
        zero = apart(neutral, absent)
        if edit.compare is not None:
            zero = edit.compare(*(self._value(edit, form, mechanism) for form in ("on", "neutral", "absent")))
        return Facts(
            finite=bool(both.isfinite().all()),
            alone=apart(absent, self.plain(edit, "absent", mechanism.steps)),
            same=apart(both, plain_on),
            edit=apart(both, absent),
            order=None if other is None else apart(both, other),
            neutral=zero,
            repeat=apart(both, second),
        )

    def _run(self, edit: Edit, form: str, mechanism: Mechanism | None = None, **how: Any) -> Tensor:
        return tensor_of(self._value(edit, form, mechanism, **how))

    def _value(
        self,
        edit: Edit,
        form: str,
        mechanism: Mechanism | None = None,
        after: bool = False,
        again: bool = False,
        steps: int = STEPS,
    ) -> Any:
        world = World(mechanism, after, again, steps)
        wanted, output = edit.build(world, form)
        ((*outputs,),) = self._executor.run(world.g.prompt, wanted)
        return outputs[output]


def _only(world: World) -> dict:
    network(world.g)
    return world.g.prompt


def tensor_of(value: Any) -> Tensor:
    """The numbers in what a socket carries, the first picture first: a LATENT, a trajectory, directions."""
    if isinstance(value, Tensor):
        return value.double()
    if "vectors" in value:  # they are of unit length
        return (value["vectors"] * value["gain"][..., None, None, None]).double()
    return value["samples"].double() if "samples" in value else value["states"].double().movedim(1, 0)


def apart(a: Tensor, b: Tensor) -> float:
    """Largest difference over the largest value; of batches of different sizes the pictures that both have."""
    n = min(len(a), len(b))
    a, b = a[:n], b[:n]
    return (
        float((a - b).abs().max() / torch.maximum(a.abs().max(), b.abs().max()).clamp_min(1e-12))
        if a.shape == b.shape
        else float("inf")
    )


def _write_files(executor: Executor) -> None:
    """A LoRA, a hypernetwork and a trained edit of the small U-Net."""
    from safetensors.torch import save_file

    folder_of = import_module("folder_paths").get_folder_paths
    folders = {name: Path(folder_of(name)[0]) for name in ("loras", "hypernetworks")}
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    (lora,) = executor.call("HSpaceTestLora", size=0.3)
    save_file(lora, folders["loras"] / LORA)
    g = torch.Generator().manual_seed(4)

    def layer(size: int) -> dict[str, Tensor]:
        return {
            "linear.0.weight": 0.3 * torch.randn(size, size, generator=g) * size**-0.5,
            "linear.0.bias": torch.zeros(size),
        }

    torch.save({size: [layer(size), layer(size)] for size in (32, 64)}, folders["hypernetworks"] / HYPER)
    delta, files = executor.module("core.edit.directions.asyrp"), executor.module("core.files.asyrp")
    table = executor.module("core.networks.asyrp").ShiftTable(
        0.5 * torch.randn(1, 64, 4, 4, generator=g), torch.ones(1)
    )
    model = executor.call("HSpaceTestSmallUNet", seed=0)[0]
    fingerprint = executor.module("nodes.host.model.fingerprint").model_fingerprint(model)
    trained = delta.TrainedAsyrp(table, fingerprint, 0.0, 4, label="test")
    paths = executor.module("nodes.host.paths")
    files.save_asyrp(paths.edits_root(paths.ASYRP) / TRAINED, trained, half=False)
