"""The command ``hspace``: it hands over to the part that is named, and says what a model file is."""

import json
import re

import pytest
import torch

from core.cli import COMMANDS, main


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    printed = capsys.readouterr().out
    assert not end.value.code and all(name in printed for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_own_help(name, capsys):
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert not end.value.code and capsys.readouterr().out.startswith(f"usage: hspace {name} ")


@pytest.mark.parametrize("arguments", [[], ["paint"]])
def test_another_word_is_refused(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2 and "usage: hspace" in capsys.readouterr().err


def test_check_reads_a_checkpoint(small, tmp_path, capsys):
    torch.save(small.net.cpu().state_dict(), tmp_path / "model.pth")
    main(["check", str(tmp_path / "model.pth"), "--json"])
    facts = json.loads(capsys.readouterr().out)
    assert facts["model"] == "model.pth" and facts["kind"] == "pixel diffusion, DDPM"
    assert facts["layers"] == list(small.layers) and facts["fingerprint"] == small.fingerprint
    assert facts["steps"] == 1000 and facts["prediction"] == "eps" and not facts["size_known"]


def test_check_prints_a_table_of_an_autoencoder(capsys):
    main(["check", "face_hdae"])
    rows = dict(re.split(" {2,}", line) for line in capsys.readouterr().out.splitlines())
    assert rows["kind"] == "diffusion autoencoder, one code a level (HDAE)" and rows["code"] == "3, 128"
    assert rows["code statistics"] == rows["latent network"] == "yes"
    assert rows["layers"].startswith("middle, up.0") and rows["steps"] == "1000"


def test_what_is_no_model_is_refused_with_both_reasons(tmp_path):
    (tmp_path / "model.pth").write_bytes(b"nothing")
    with pytest.raises(SystemExit, match=r"model\.pth.*diffusion autoencoder: model\.pth"):
        main(["check", str(tmp_path / "model.pth")])
    with pytest.raises(SystemExit, match="there is no such file"):
        main(["check", str(tmp_path / "missing.safetensors")])
