"""What was computed comes out, whatever the disk does; what cannot be saved is said, at the node and in its report."""

import errno
import os
import shutil
from functools import cache, partial
from pathlib import Path

import pytest
import torch

from .graphs import base, discover, node
from .trainings import RUNS, training_inputs

TRAINED = {
    "HSpaceTrainAsyrp": "asyrp",
    "HSpaceTrainRectifier": "rectifier",
    "HSpaceTrainPada": "pada",
    "HSpaceTrainDeltaMapper": "delta_mapper",
    "HSpaceTrainHeads": "attributes",
    "HSpaceTrainDiffusionCLIP": "hspace",
}


@pytest.fixture(scope="module")
def inputs(executor):
    return cache(partial(training_inputs, executor))


@pytest.fixture(scope="module")
def healthy(executor, inputs):
    """What a node gives on a disk that works."""

    def run(kind: str):
        outputs = executor.call(kind, **inputs(kind))
        assert not any("disk" in part for part in outputs if isinstance(part, str))
        return outputs

    return cache(run)


@pytest.fixture
def models(executor) -> Path:
    return Path(executor.module("nodes.host.paths").folder_paths.models_dir)


def broken_disk(monkeypatch, models: Path, how: str) -> None:
    """As root ignores the rights of a folder, the calls themselves fail below ``models``."""

    def fails(name: str, code: int, only_writes: bool = False) -> None:
        call = getattr(os, name)

        def guarded(*args, **kwargs):
            inside = any(
                isinstance(a, (str, os.PathLike)) and Path(a).resolve().is_relative_to(models.resolve()) for a in args
            )
            if inside and not (only_writes and not args[1] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
                raise OSError(code, os.strerror(code), str(args[0]))
            return call(*args, **kwargs)

        monkeypatch.setattr(os, name, guarded)

    if how == "a file in place of the folder":
        for name in ("hspace_edits", "loras/hspace", "hspace_directions"):
            shutil.rmtree(models / name, ignore_errors=True)
            (models / name).parent.mkdir(exist_ok=True)
            (models / name).write_bytes(b"")
        return
    if how == "read-only, no folder":
        shutil.rmtree(models / "hspace_edits", ignore_errors=True)
        shutil.rmtree(models / "loras" / "hspace", ignore_errors=True)
        shutil.rmtree(models / "hspace_directions", ignore_errors=True)
    else:
        for name in (
            "hspace_edits/training",
            *(f"hspace_edits/{k}" for k in TRAINED.values()),
            "loras/hspace",
            "hspace_directions",
        ):
            (models / name).mkdir(parents=True, exist_ok=True)
    if how == "full":

        def full(_):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
        return
    code = errno.EACCES if how == "forbidden" else errno.EROFS
    for name in ("mkdir", "unlink", "remove", "rename", "replace", "link"):
        fails(name, code)
    fails("open", code, only_writes=True)


@pytest.fixture(params=["read-only", "read-only, no folder", "forbidden", "full", "a file in place of the folder"])
def disk(request, monkeypatch, models, executor, healthy):
    needed = request.node.callspec.params.get("kind", TRAINED if "save_nodes" in request.node.name else ())
    for kind in [needed] if isinstance(needed, str) else needed:
        healthy(kind)  # before the disk fails
    monkeypatch.setattr(executor.module("nodes.host.training"), "_STORE_EVERY", 0.0)
    broken_disk(monkeypatch, models, request.param)
    yield request.param
    monkeypatch.undo()
    for name in ("hspace_edits", "loras/hspace", "hspace_directions"):
        (models / name).unlink() if (models / name).is_file() else None


def same(a, b) -> bool:
    """Equal to the last bit, in whatever a payload holds."""
    if isinstance(a, torch.Tensor):
        return a.shape == b.shape and bool((a == b).all())
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(v, b[k]) for k, v in a.items())
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.mark.sweep("kind")
@pytest.mark.parametrize("kind", RUNS)
def test_a_disk_costs_a_training_nothing_but_the_file(executor, inputs, healthy, disk, kind):
    outputs = executor.call(kind, **inputs(kind))
    assert same(outputs[0], healthy(kind)[0]) and same(outputs[1], healthy(kind)[1])
    assert "the run could not be kept on disk: " in outputs[2], outputs[2]
    said = {
        "full": "No space left",
        "forbidden": "Permission denied",
        "a file in place of the folder": "File exists|Not a directory",
    }
    assert any(words in outputs[2] for words in said.get(disk, "Read-only file system").split("|")), outputs[2]


def test_save_nodes_say_why_they_cannot_and_what_was_made_is_there(executor, inputs, healthy, disk):
    for kind in TRAINED:
        with pytest.raises(OSError, match=r"cannot write|cannot make the folder") as error:
            executor.call("HSpaceSaveTrained", trained=healthy(kind)[0], name="never")
        assert error.value.__cause__ is not None and str(error.value).count("\n") == 0
    prompt = {**base(steps=3, iterations=1), "discover": discover()}
    ((unsaved, *_),) = executor.run(prompt, "discover")
    with pytest.raises(OSError, match=r"cannot write|cannot make the folder"):
        executor.call("HSpaceSaveDirections", directions=unsaved, name="never")


@pytest.mark.parametrize("disk", ["read-only"], indirect=True)
def test_it_is_said_on_the_node(executor, disk):
    prompt = base(steps=3, iterations=1)
    links = {"model": ["model", 0], "trajectory": ["invert", 0]}
    prompt["train"] = node("HSpaceTrainRectifier", **links, steps=2, batch=1, lr=0.01, code=8, seed=77)
    ((_, _, report),) = executor.run(prompt, "train")
    said = [value for event, value in executor.server.events if event == "text"]
    assert "Read-only" in report and any(name == "train" and "Read-only" in text for name, text in said)


@pytest.mark.parametrize("disk", ["read-only"], indirect=True)
def test_a_cancelled_run_is_cancelled_and_not_a_disk_error(executor, inputs, disk, monkeypatch):
    management, run = (
        executor.module("nodes.host.training").comfy.model_management,
        executor.module("nodes.host.training").NodeSession,
    )
    before = run.step

    def cancelled(self, state):
        management.interrupt_current_processing(True)
        before(self, state)

    monkeypatch.setattr(run, "step", cancelled)
    for kind in RUNS:
        with pytest.raises(management.InterruptProcessingException):
            executor.call(kind, **inputs(kind))


def test_a_preview_that_cannot_be_written_costs_no_result(executor, inputs, healthy, tmp_path):
    folders = executor.module("nodes.host.paths").folder_paths
    before, blocked = folders.get_temp_directory(), tmp_path / "file"
    blocked.write_bytes(b"")
    folders.set_temp_directory(str(blocked / "temp"))
    try:
        for kind in RUNS:
            assert same(executor.call(kind, **inputs(kind))[0], healthy(kind)[0])
    finally:
        folders.set_temp_directory(before)


def test_what_fails_after_the_training_leaves_its_state(executor, inputs, monkeypatch, models):
    """DiffusionCLIP thins its difference when the loop is over; should that fail, the run goes on from where it was."""

    def fail(*_):
        raise MemoryError("out of memory")

    monkeypatch.setattr(executor.module("nodes.train.diffusionclip"), "thinned", fail)
    with pytest.raises(MemoryError):
        executor.call("HSpaceTrainDiffusionCLIP", **inputs("HSpaceTrainDiffusionCLIP"))
    monkeypatch.undo()
    assert len(list((models / "hspace_edits" / "training").glob("*.safetensors"))) == 1
    assert "resumed at" in executor.call("HSpaceTrainDiffusionCLIP", **inputs("HSpaceTrainDiffusionCLIP"))[2]
    assert not list((models / "hspace_edits" / "training").glob("*.safetensors"))


@pytest.mark.parametrize("disk", ["read-only, no folder", "a file in place of the folder"], indirect=True)
def test_the_pack_loads_on_such_a_disk(executor, disk):
    paths = executor.module("nodes.host.paths")
    paths.register_folders()
    for name in executor.classes:
        if name.startswith(("HSpaceLoad", "HSpaceSave", "HSpaceEditMetrics")):
            executor.classes[name].define_schema()
