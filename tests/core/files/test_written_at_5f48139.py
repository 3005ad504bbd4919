"""Files that the pack wrote at commit 5f48139 are read as what they were.

Every weight was a ramp: entry n of the i-th tensor, in the order of names, is ``(n + i) % 16 / 16 - 0.25``.
"""

import math
from pathlib import Path

import pytest
import torch

from core.directions import Directions
from core.files.asyrp import load_asyrp
from core.files.checkpoint import load_denoiser
from core.files.code_edits import load_code_edit
from core.files.diffae import load_autoencoder
from core.files.diffusionclip import load_weights
from core.files.directions import load_directions
from core.files.heads import load_heads
from core.files.kinds import DELTAEDIT, KINDS, PADA
from core.files.rectifier import load_rectifier
from core.networks.asyrp import ShiftBlock, ShiftTable
from core.train.run import Optimiser, Run
from core.train.state import load_state

FOLDER = Path(__file__).with_name("written_at_5f48139")
WEIGHTS = Path(__file__).parents[3] / "weights"
FINGERPRINT = "0123456789ab"
LEVELS = torch.tensor([8.0, 4.0, 2.0, 1.0])


def ramp(i, *shape):
    return ((torch.arange(math.prod(shape)) + i) % 16 / 16 - 0.25).reshape(shape)


def check_ramps(net):
    for i, (name, value) in enumerate(sorted(net.state_dict().items())):
        wanted = LEVELS if "levels" in name else ramp(i, *value.shape)
        assert torch.equal(value, wanted), name


@pytest.mark.parametrize("form", ["ddpm", "guided"])
def test_asyrp_blocks(form):
    found = load_asyrp(FOLDER / f"asyrp_{form}.safetensors")
    assert isinstance(found.shift, ShiftBlock) and found.shift.form == form
    assert found.shift.channels == 32 and found.shift.step.ddpm == (form == "ddpm")
    check_ramps(found.shift)
    assert (found.fingerprint, found.sigma_edit, found.steps, found.sigma_boost) == (FINGERPRINT, 1.5, 3, 0.5)
    assert (found.layer, found.label, found.whole_steps) == ("middle", "face > smiling face", 0)
    assert found.extra == {"sigma_start": 8.0, "source": "face"}


def test_asyrp_table():
    found = load_asyrp(FOLDER / "asyrp_table.safetensors")
    assert isinstance(found.shift, ShiftTable) and (found.layer, found.label, found.sigma_boost) == ("up.1", "table", 0)
    assert torch.equal(found.shift.shifts, ramp(0, 2, 3, 4, 4))
    assert found.shift.levels.tolist() == [4.0, 2.0]


def test_rectifier():
    found = load_rectifier(FOLDER / "rectifier.safetensors")
    check_ramps(found.rectifier)
    assert found.rectifier.shapes == {"mid.block_1.conv1": (4, 4)}
    assert (found.fingerprint, found.edit, found.sigma_start) == (FINGERPRINT, True, 2.5)
    assert (found.label, found.extra) == ("rebuild", {"note": "n"})


def test_fine_tuned_weights():
    found = load_weights(FOLDER / "weights.safetensors")
    assert set(found.full) == {"conv.weight", "conv.bias"} and set(found.thin) == {"dense.weight"}
    assert torch.equal(found.full["conv.weight"], ramp(0, 2, 3, 3, 3))
    assert torch.equal(found.full["conv.bias"], ramp(1, 2))
    up, down = found.thin["dense.weight"]
    assert torch.equal(up, ramp(2, 6, 2)) and torch.equal(down, ramp(3, 2, 5))
    assert (found.fingerprint, found.label, found.extra) == (FINGERPRINT, "face > red hair", {"note": "n"})


def check_space(space):
    assert (space.shape, space.fingerprint) == ((2, 4), FINGERPRINT)
    assert torch.equal(space.mean, ramp(0, 8)) and torch.equal(space.std, ramp(1, 8) + 1)


def test_heads():
    found = load_heads(FOLDER / "heads.safetensors")
    assert (found.names, found.kinds) == (("smile", "age"), ("mean", "least squares"))
    assert torch.equal(found.weight, ramp(2, 2, 8)) and torch.equal(found.bias, ramp(3, 2))
    check_space(found.space)


@pytest.mark.parametrize(("kind", "name", "label"), [(DELTAEDIT, "delta_mapper", "mapper"), (PADA, "pada", "ageing")])
def test_edits_of_codes(kind, name, label):
    found = load_code_edit(FOLDER / f"{name}.safetensors", kind)
    assert (found.net.shape, found.net.embedding, found.net.width) == ((2, 4), 5, 6)
    check_ramps(found.net)
    check_space(found.space)
    assert (found.embedder, found.label, found.extra) == ("a space", label, {"note": "n"})


@pytest.mark.parametrize(("name", "apart"), [("directions", 0.0), ("directions_half", 1e-3)])
def test_directions(name, apart):
    found = load_directions(FOLDER / f"{name}.safetensors")
    rows = ramp(0, 6, 48) + torch.arange(6)[:, None] / 7
    wanted = torch.nn.functional.normalize(rows, dim=1).reshape(2, 3, 3, 4, 4)
    assert isinstance(found, Directions) and torch.allclose(found.vectors, wanted, rtol=0, atol=apart + 1e-7)
    assert torch.equal(found.gain, ramp(0, 2, 3).abs()) and torch.equal(found.leak, ramp(1, 2, 3).abs())
    assert found.mask is not None and torch.equal(found.mask, ramp(2, 8, 8).clamp(0, 1))
    assert torch.equal(found.spectrum, ramp(3, 5).abs()) and found.sigmas.tolist() == [2.0, 1.0]
    assert (found.layer, found.fingerprint, found.method) == ("up.2", FINGERPRINT, "generalized tau 0.1")
    assert found.labels == ("smile", "œil ouvert", "<b>")


def test_a_training_run_goes_on():
    run = Run(torch.nn.Linear(2, 2), Optimiser(1e-3), 3)
    load_state(FOLDER / "training.safetensors", run, {"source": "face", "steps": 3})
    state = run.state()
    assert (state["i"], state["losses"], state["smooth"], state["least"]) == (1, [0.48828125], 0.48828125, math.inf)
    # One step of Adam at 1e-3 from the ramps.
    assert torch.allclose(state["module"]["weight"], ramp(0, 2, 2) + 1e-3, atol=1e-6)
    assert torch.allclose(state["module"]["bias"], ramp(1, 2) + 1e-3, atol=1e-6)
    slot = state["optimiser"]["state"][0]
    assert float(slot["step"]) == 1 and torch.allclose(slot["exp_avg"][0], torch.tensor(-0.0516), atol=1e-4)
    with pytest.raises(ValueError, match=r"other settings \(steps\)"):
        load_state(FOLDER / "training.safetensors", run, {"source": "face", "steps": 4})


def test_the_shipped_networks_are_older_still():
    assert load_denoiser(WEIGHTS / "face_model.safetensors").fingerprint == "90d16bfccb42"
    made = load_autoencoder(WEIGHTS / "face_diffae.safetensors")
    assert (made.fingerprint, made.image_size, made.prediction) == ("31a147ff68e9", 64, "v")
    assert made.space.shape == (128,) and made.space.whitening is not None


def test_every_kind_has_a_name_of_its_own():
    assert len(KINDS) == 13 and all(kind.format == name for name, kind in KINDS.items())
