"""The command that trains a DiffAE or HDAE on a folder: every variant, resumed runs, many processes, bad input."""

import math
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from core.edit.codes.sample import sample_codes
from core.files.diffae import load_autoencoder
from core.train.diffae import SCHEDULE, Learner, Shape, autoencoder_of
from core.train.pictures import Folder

from ..tiny import SMALL, run_two_processes


def options(folder: Path, out: Path, **more) -> list[str]:
    found = {
        "pictures": folder,
        "out": out,
        "size": 64,
        "channels": (16, 16),
        "patch": 4,
        "blocks": 1,
        "emb": 32,
        "code": 16,
        "attention": 8,
        "batch": 8,
        "images": 32,
        "lr": 1e-3,
        "ema": 0.9,
        "latent_layers": 3,
        "latent_width": 16,
        **more,
    }
    words = ["--cpu"]
    for k, v in found.items():
        if v is not False:
            words += [
                f"--{k.replace('_', '-')}",
                *([] if v is True else map(str, v) if isinstance(v, tuple) else [str(v)]),
            ]
    return words


@pytest.fixture
def main():
    pytest.importorskip("accelerate")
    from core.cli.train_diffae import main as run

    return run


VARIANTS = [
    {"prediction": "v", "sketch": 1.0, "half": True},
    {"injection": "enc"},
    {"levels": True},
    {"levels": True, "reading": "D", "injection": "dec"},
    {"levels": True, "reading": "U", "injection": "enc", "prediction": "v"},
]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_is_trained_written_and_loaded(main, folder, tmp_path, variant, capsys):
    out = tmp_path / "new" / "x.safetensors"
    main(options(folder, out, latent_steps=5, **variant))
    made = load_autoencoder(out)
    known = {
        "reading": variant.get("reading", "E"),
        "injection": variant.get("injection", "both"),
        "hierarchical": "levels" in variant,
    }
    assert made.net.config == Shape(64, **SMALL, **known).config()
    assert (made.prediction, made.image_size, made.schedule) == (variant.get("prediction", "eps"), 64, SCHEDULE)
    averaged = autoencoder_of(
        {
            k.removeprefix("ema."): v
            for k, v in load_file(out.with_suffix(".training.safetensors")).items()
            if k[0] == "e"
        }
    )
    kept = made.net.state_dict()
    assert all(torch.equal(kept[k], v.half().float() if "half" in variant else v) for k, v in averaged.items())
    with torch.no_grad():
        codes = made.net.encoder(Folder(folder, 64)(range(16))).flatten(1)
    torch.testing.assert_close(made.space.mean, codes.mean(0))
    torch.testing.assert_close(made.space.std, codes.std(0))
    assert made.latent is not None
    assert sample_codes(made.latent, made.space, torch.randn(2, made.space.size), 5).shape == (
        2,
        *made.net.config.code_shape,
    )
    said = capsys.readouterr().out
    assert "16 pictures" in said and "4 steps of 8" in said and "latent network, step 5/5" in said
    assert not out.with_suffix(".latent.safetensors").exists()


def test_how_codes_vary_is_measured_where_there_are_pictures_enough(main, folder, tmp_path):
    for code, enough in ((16, False), (4, True)):  # of 16 pictures
        out = tmp_path / f"{code}.safetensors"
        main(options(folder, out, images=8, code=code))
        assert (load_autoencoder(out).space.whitening is not None) is enough


def test_a_run_is_made_longer_and_others_are_kept_apart(main, folder, tmp_path):
    whole, cut = tmp_path / "whole.safetensors", tmp_path / "cut.safetensors"
    main(options(folder, whole, images=48))
    main(options(folder, cut, images=16))
    with pytest.raises(SystemExit, match="add --resume"):
        main(options(folder, cut, images=48))
    with pytest.raises(SystemExit, match=r"other settings \(lr 0.001 and not 0.01\)"):
        main(options(folder, cut, images=48, lr=0.01, resume=True))
    with pytest.raises(SystemExit, match="batch of all processes 8 and not 4"):
        main(options(folder, cut, images=48, batch=4, resume=True))
    main(options(folder, cut, images=48, resume=True))
    one, other = load_file(whole), load_file(cut)
    assert one.keys() == other.keys() and all(torch.equal(v, other[k]) for k, v in one.items())
    with safe_open(cut, "pt") as file:
        assert '"codes": 16' in file.metadata()["hspace"] and "latent_net.layers.0.linear.weight" not in file.keys()
    main(options(folder, cut, images=48, resume=True, latent_steps=3))  # the rest, of a run that is at its end
    assert (
        load_autoencoder(cut).latent is not None
        and load_autoencoder(cut).fingerprint == load_autoencoder(whole).fingerprint
    )


def test_a_full_disk_ends_no_run_and_a_stopped_latent_network_goes_on(main, folder, tmp_path, monkeypatch, capsys):
    from core.train import session

    class Stopped(Exception):
        pass

    saves = []

    def full(*_):
        saves.append(0)
        if len(saves) == 1:
            raise OSError("no room")
        save_state(*_)
        if len(saves) == 4:
            raise Stopped

    whole, cut = tmp_path / "whole.safetensors", tmp_path / "cut.safetensors"
    main(options(folder, whole, images=16, latent_steps=7))
    save_state = session.save_state
    with monkeypatch.context() as patch:
        patch.setattr(session, "save_state", full)
        with pytest.raises(Stopped):
            main(options(folder, cut, images=16, latent_steps=7, save_every=-1))
    assert "no room" in capsys.readouterr().out
    assert load_autoencoder(cut).latent is None and load_autoencoder(cut).space.mean is not None, "usable as it is"
    with pytest.raises(SystemExit, match=r"other settings \(latent_lr\)"):
        main(options(folder, cut, images=16, latent_steps=7, latent_lr=0.1, resume=True))
    main(options(folder, cut, images=16, latent_steps=7, resume=True))
    one, other = load_file(whole), load_file(cut)
    assert one.keys() == other.keys() and all(torch.equal(v, other[k]) for k, v in one.items())


def test_two_processes_come_to_the_weights_of_one(main, folder, tmp_path):
    once = options(folder, tmp_path / "one.safetensors", dropout=0.0, ema=0.0)
    main(once)
    twice = options(folder, tmp_path / "two.safetensors", dropout=0.0, ema=0.0, batch=4, latent_steps=2)
    said = run_two_processes("core.cli.train_diffae", twice)
    one, two = (load_autoencoder(tmp_path / f"{name}.safetensors") for name in ("one", "two"))
    torch.manual_seed(0)
    first = Learner(one.net.config).net.state_dict()

    def apart(a, b) -> float:
        return math.sqrt(sum(float((v - b[k]).square().sum()) for k, v in a.items()))

    assert apart(two.net.state_dict(), one.net.state_dict()) < 0.02 * apart(first, one.net.state_dict())
    torch.testing.assert_close(one.space.mean, two.space.mean, atol=1e-3, rtol=1e-2)  # of all pictures, in either case
    assert two.latent is not None and said.count("16 pictures") == 1
    # And goes on in one process.
    rest = options(folder, tmp_path / "two.safetensors", dropout=0.0, ema=0.0, images=40, resume=True)
    main(rest)
    with safe_open(tmp_path / "two.safetensors", "pt") as file:
        assert '"images": 40' in file.metadata()["hspace"]


def test_what_is_wrong_is_said(main, folder, tmp_path, monkeypatch):
    empty, out = tmp_path / "empty", tmp_path / "x.safetensors"
    empty.mkdir()
    for arguments, word in (
        (options(empty, out), "holds no pictures"),
        (options(tmp_path / "none", out), "is no folder"),
        (options(folder, out, size=128), "00.png is 64 x 64, smaller than 128 x 128"),
        (options(folder, tmp_path / "x.ckpt"), "must end in .safetensors"),
        (options(folder, out, images=4), "one step of 8 images"),
        (options(folder, out, lr=0), "rate above 0"),
        (options(folder, out, reading="U"), "hierarchical"),
        (options(folder, out, channels=(40, 64)), "multiples of 32"),
    ):
        with pytest.raises(SystemExit, match=word):
            main(arguments)
    for name, value in (("reading", "X"), ("injection", "up"), ("prediction", "x0"), ("size", 100)):
        with pytest.raises(SystemExit):
            main(options(folder, out, **{name: value}))
    assert not out.exists()
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["--help"])
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(SystemExit, match="pip install accelerate"):
        main(options(folder, out))
