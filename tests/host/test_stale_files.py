"""A file that has changed is read again, whichever input of whichever node names it."""

import os
from pathlib import Path

import pytest
import torch

from devtools.executor import NodeFailed

from .graphs import FACE, face, node

NAME = "a file of the tests.safetensors"
PLACES = (
    "hspace",
    "hspace_metrics",
    "hspace_directions",
    "loras/hspace",
    *(f"hspace_edits/{kind}" for kind in ("asyrp", "rectifier", "attributes", "delta_mapper", "pada")),
)
INPUTS = {
    ("HSpaceLoadPixelModel", "checkpoint"): "hspace",
    ("HSpaceLoadAsyrp", "checkpoint"): "hspace",
    ("HSpaceLoadDiffusionCLIP", "checkpoint"): "hspace",
    ("HSpaceLoadDiffAE", "checkpoint"): "hspace",
    ("HSpaceLoadDiffAE", "statistics"): "hspace",
    ("HSpaceLoadHeads", "file"): "hspace_edits/attributes",
    ("HSpaceEditMetrics", "structure"): "hspace_metrics",
    ("HSpaceEditMetrics", "lpips"): "hspace_metrics",
    ("HSpaceLoadDirections", "file"): "hspace_directions",
    ("HSpaceLoadTrained", "file"): "hspace_edits/asyrp",
    ("HSpaceLoadFineTuned", "file"): "loras/hspace",
    ("HSpaceLoadRectifier", "file"): "hspace_edits/rectifier",
    ("HSpaceLoadDeltaMapper", "file"): "hspace_edits/delta_mapper",
    ("HSpaceLoadPada", "file"): "hspace_edits/pada",
}


@pytest.fixture
def models(executor):
    """The models folder, with one file of the same name in each place."""
    root = Path(executor.module("nodes.host.paths").folder_paths.models_dir)
    for place in PLACES:
        (root / place).mkdir(parents=True, exist_ok=True)
        (root / place / NAME).write_bytes(b"first")
    yield root
    for place in PLACES:
        (root / place / NAME).unlink(missing_ok=True)


def named_files(executor) -> set[tuple[str, str]]:
    """Node and input wherever a list offers the file."""
    ours = {
        name: kind
        for name, kind in executor.classes.items()
        if name.startswith("HSpace") and not name.startswith("HSpaceTest")
    }
    return {
        (name, declared.id)
        for name, kind in ours.items()
        for declared in kind.define_schema().inputs
        if NAME in (getattr(declared, "options", None) or ())
    }


def test_every_input_that_names_a_file_is_known(executor, models):
    assert named_files(executor) == set(INPUTS)


@pytest.mark.parametrize(("kind", "name"), INPUTS)
def test_a_changed_file_changes_the_fingerprint(executor, models, kind, name):
    declared = executor.classes[kind].define_schema().inputs
    # As the host gives them: what is typed, None for links, and nothing for optional inputs that are not there.
    given = {
        d.id: (d.options[0] if getattr(d, "options", None) else getattr(d, "default", None))
        for d in declared
        if not d.optional
    }

    def stamp(**changed):
        return executor.classes[kind].fingerprint_inputs(**{**given, name: NAME, **changed})

    file = models / INPUTS[kind, name] / NAME
    first = stamp()
    assert stamp() == first
    facts = file.stat()
    file.write_bytes(b"other")
    os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1))
    second = stamp()
    file.write_bytes(b"longer than before")
    os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1))
    third = stamp()
    file.unlink()
    assert len({first, second, third, stamp()}) == 4
    assert stamp(**{name: None}) != stamp(**{name: None}), "what a link names cannot be known, so the node always runs"


def test_a_damaged_model_is_refused_after_a_good_load(executor, models):
    good = (executor.module("nodes.host.paths").WEIGHTS / "face_model.safetensors").read_bytes()
    file, prompt = models / "hspace" / NAME, {"load": node("HSpaceLoadPixelModel", checkpoint=NAME)}
    file.write_bytes(good)
    ((model, *_),) = executor.run(prompt, "load")
    assert executor.run(prompt, "load")[0][0] is model
    for damaged in (good[:-100], good[:5000], b""):
        file.write_bytes(damaged)
        with pytest.raises(NodeFailed, match="a file of the tests"):
            executor.run(prompt, "load")
    file.write_bytes(good)
    assert executor.run(prompt, "load")[0][0] is not model


def test_a_damaged_metric_is_refused_after_a_good_measurement(executor, models):
    metrics = executor.module("core.measure.lpips")
    state = {}
    for name, value in metrics.LPIPS().state_dict().items():
        kind, _, rest = name.partition(".")
        state[f"net.slices.0.{rest}" if kind == "net" else f"lin{rest}.model.1.weight"] = torch.rand_like(value) * 0.01
    file = models / "hspace_metrics" / "lpips of the tests.pth"
    torch.save(state, file)
    prompt = {FACE: face(35), "other": face(36)}
    prompt["measure"] = node(
        "HSpaceEditMetrics", source=[FACE, 0], edited=["other", 0], structure="off", lpips=file.name
    )
    ((table, *_),) = executor.run(prompt, "measure")
    assert "LPIPS" in table.upper()
    file.write_bytes(file.read_bytes()[:-2000])
    with pytest.raises(NodeFailed, match=r"lpips of the tests\.pth"):
        executor.run(prompt, "measure")
    file.unlink()
