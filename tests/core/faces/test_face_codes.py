"""The scripts that train an embedded autoencoder and give it its statistics, heads and latent network."""

import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from core.edit.codes.sample import sample_codes
from core.faces.code_labels import NUMBERS, YES_NO
from core.faces.factors import sample
from core.faces.seen import seen
from core.files.diffae import load_autoencoder
from core.files.heads import load_heads
from core.networks.diffae import DiffAEConfig, DiffAENet
from core.own_file import write_own
from scripts import finish_face_diffae as finish_diffae
from scripts import train_face_diffae as train_diffae

from ..network_files import FACE

WEIGHTS = Path(__file__).parents[3] / "weights"
FACTS = {**FACE, "format": "hspace_face_diffae", "images": 77}


@pytest.mark.parametrize("levels", [0, 2])
def test_what_goes_with_the_codes_of_the_face_world(tmp_path, monkeypatch, levels):
    config = DiffAEConfig((16, 16), (16, 16, 16), (False, True), (False,) * 3, 1, 16, 8, levels=levels, patch=4)
    path = write_own(
        tmp_path / "own.safetensors", {k: v.half() for k, v in DiffAENet(config).state_dict().items()}, FACTS
    )
    before, heads = load_file(path), tmp_path / "edits" / "attributes" / "own.safetensors"
    line = [
        "x",
        str(path),
        "--faces",
        "120",
        "--steps",
        "4",
        "--hidden",
        "16",
        "--layers",
        "3",
        "--state",
        str(tmp_path / "state.safetensors"),
    ]
    monkeypatch.setattr(finish_diffae, "HELD_OUT", 64)
    monkeypatch.setattr(sys, "argv", [*line, "--device", "cpu"])
    finish_diffae.main()
    after = load_file(path)
    assert all(torch.equal(after[k], v) for k, v in before.items()), "the weights are those of before"
    with safe_open(path, "pt") as f:
        assert '"images": 77' in f.metadata()["hspace"]
    made = load_autoencoder(path)
    (codes,) = seen(sample(120, torch.Generator().manual_seed(51)), made.net.encoder)
    torch.testing.assert_close(made.space.mean, codes.flatten(1).mean(0))
    torch.testing.assert_close(made.space.std, codes.flatten(1).std(0))
    found = load_heads(heads, made.space)
    assert found.names == (*YES_NO, *(n.replace("_", " ") for n in NUMBERS)) and set(found.kinds[len(YES_NO) :]) == {
        "least squares"
    }
    assert sample_codes(made.latent, made.space, torch.randn(3, made.space.size), 5).shape == (3, *config.code_shape)
    finish_diffae.main()  # again over its own result
    assert load_autoencoder(path).fingerprint == made.fingerprint and load_file(path).keys() == after.keys()
    assert all(torch.equal(load_file(path)[k], v) for k, v in after.items())


def test_training_can_leave_the_codes_as_they_are(tmp_path, monkeypatch, capsys):
    shipped, out = WEIGHTS / "face_diffae.safetensors", tmp_path / "own.safetensors"
    line = [
        "x",
        "--out",
        str(out),
        "--state",
        str(tmp_path / "state.safetensors"),
        "--images",
        "4",
        "--batch",
        "2",
        "--device",
        "cpu",
        "--keep-codes",
    ]
    for more, message in (
        ([], "give --start"),
        (["--levels", "3", "--start", str(shipped)], "is not that of --levels 3"),
    ):
        monkeypatch.setattr(sys, "argv", [*line, *more])
        with pytest.raises(SystemExit):
            train_diffae.main()
        assert message in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", [*line, "--start", str(shipped)])
    train_diffae.main()
    before, after = load_file(shipped), load_file(out)
    same = {k: torch.equal(before[k], v) for k, v in after.items()}
    assert all(v for k, v in same.items() if k.startswith("encoder.")) and not all(same.values())
    assert load_autoencoder(out).prediction == "v"
