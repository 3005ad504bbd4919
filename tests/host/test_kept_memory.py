"""A training node that has run, or was cancelled, keeps no memory: as many tensor bytes live after three runs as after
one."""

import gc
from functools import cache, partial

import pytest
import torch

from .graphs import node
from .trainings import RUNS, training_inputs

MB = 2**20


@pytest.fixture(scope="module")
def inputs(executor):
    return cache(partial(training_inputs, executor))


def live(executor) -> int:
    """Bytes of all tensors, after a prompt that has nothing to do with them."""
    executor.run({"unrelated": node("EmptyImage", width=8, height=8, batch_size=1, color=0)}, "unrelated")
    gc.collect()
    tensors = [o for o in gc.get_objects() if issubclass(type(o), torch.Tensor) and o.layout is torch.strided]
    storages = {s._cdata: s for s in (t.untyped_storage() for t in tensors)}
    # Those of the compiler's fake tensors hold nothing, and count in symbols that grow with every sum.
    return sum(s.nbytes() for s in storages.values() if s.device.type != "meta")


def test_every_training_node_is_looked_at(executor):
    trainings = {name for name in executor.classes if name.startswith("HSpaceTrain")} | {"HSpaceFitImageLora"}
    assert trainings == {*RUNS, "HSpaceTrainHeads"}


@pytest.mark.sweep("")
@pytest.mark.parametrize("kind", [*RUNS, "HSpaceTrainHeads"])
def test_three_runs_keep_as_much_as_one(executor, inputs, kind):
    sizes = []
    for _ in range(3):
        executor.call(kind, **inputs(kind))
        sizes.append(live(executor))
    assert max(sizes) - min(sizes) < MB, [round(k / MB, 2) for k in sizes]


@pytest.mark.sweep("")
@pytest.mark.parametrize("kind", RUNS)
def test_three_cancelled_runs_keep_as_much_as_one(executor, inputs, monkeypatch, kind):
    management, run = (
        executor.module("nodes.host.training").comfy.model_management,
        executor.module("nodes.host.training").NodeSession,
    )
    before, sizes, done = run.step, [], []

    def cancelled(self, state):
        management.interrupt_current_processing(True)
        done.append(state["i"])
        before(self, state)

    monkeypatch.setattr(run, "step", cancelled)
    for _ in range(3):
        with pytest.raises(management.InterruptProcessingException):
            executor.call(kind, **inputs(kind))
        sizes.append(live(executor))
    assert max(sizes) - min(sizes) < MB, [round(k / MB, 2) for k in sizes]
    assert done == [0, 1, 2], "each goes on where the last was cancelled"
    monkeypatch.setattr(run, "step", before)
    executor.call(kind, **inputs(kind))
