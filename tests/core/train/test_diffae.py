"""Training of DiffAE and HDAE on a folder of pictures: it learns, stops and goes on exactly, and agrees between numbers of processes."""

import math
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from core.edit.sample_codes import sample_codes
from core.faces.factors import sample
from core.faces.render import render
from core.networks.diffae import DiffAEConfig
from core.networks.diffae_io import load_autoencoder
from core.train.diffae import BASE, SCHEDULE, Learner, Shape, Stream, Training, autoencoder_of, loss_of, new_run, train_diffae
from core.train.noised import noised
from core.train.pictures import Folder

from .released_diffae import autoencoder

ROOT = Path(__file__).resolve().parents[2]
SMALL = {"channels": (16, 16), "patch": 4, "blocks": 1, "emb": 32, "code": 16, "attention": (8,)}


@pytest.fixture(scope="module")
def faces() -> torch.Tensor:
    """16 rendered faces `[16 3 64 64]` in -1..1."""
    return render(sample(16, torch.Generator().manual_seed(7)), 64)[0] * 2 - 1


@pytest.fixture(scope="module")
def folder(faces, tmp_path_factory) -> Path:
    """The same as files."""
    where = tmp_path_factory.mktemp("faces")
    for i, face in enumerate(faces):
        Image.fromarray(((face.movedim(0, -1) + 1) * 127.5).round().byte().numpy()).save(where / f"{i:02d}.png")
    return where


def stream(faces, **options) -> Stream:
    return Stream(lambda numbers: faces[list(numbers)], len(faces), **options)


def learner(seed: int = 0, sketch: int = 0, dropout: float = 0.0, **options) -> Learner:
    torch.manual_seed(seed)
    return Learner(Shape(64, **{**SMALL, **options}).config(), sketch, dropout)


def through(net, run, data, steps, **how) -> list[float]:
    for _ in train_diffae(net, run, data, Training(steps, 8, **{"lr": 2e-3, "prediction": "v", **how})):
        pass
    return run.losses


# --- the network of a size ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [64, 128, 256])
def test_presets_are_the_released_networks(size):
    state = {k: torch.empty(v, device="meta") for k, v in autoencoder(size).items()}
    assert Shape(size).config() == DiffAEConfig.from_state(state)
    many = Shape(size, hierarchical=True).config()
    assert many.levels == len(BASE[size][1]) and many.code_shape == (many.levels, 512)
    assert Shape(256, patch=4).config().channels == Shape(64).config().channels


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"size": 64, "patch": 2}, "no preset for maps of 32 x 32"), ({"size": 64, "patch": 3}, "must divide"), ({"size": 64, "patch": 0}, "must divide"),
        ({"size": 64, "channels": (32,) * 7}, "7 levels do not fit"), ({"size": 64, "channels": (40, 64)}, "multiples of 32"), ({"size": 64, "channels": (16, 32)}, "multiples of 32"),
        ({"size": 64, "reading": "D"}, "hierarchical"), ({"size": 64, "reading": "X", "hierarchical": True}, "unknown variant"),
        ({"size": 64, "injection": "up"}, "unknown variant"),
    ],
)  # fmt: skip
def test_networks_that_cannot_be_are_refused(options, word):
    with pytest.raises(ValueError, match=word):
        Shape(**options).config()


# --- samples and loss -------------------------------------------------------------------------------------------------------------


def test_what_stands_at_a_place_of_the_stream_does_not_depend_on_the_batch(faces):
    data = stream(faces, seed=3)
    whole, parts = data(range(8, 40)), [stream(faces, seed=3)(range(i, i + 4)) for i in range(8, 40, 4)]
    for one, several in zip(whole, zip(*parts, strict=True), strict=True):
        assert torch.equal(one, torch.cat(several))
    passes = stream(faces, flip=0.0)(range(32)).x
    seen = [next(i for i, face in enumerate(faces) if torch.equal(face, x)) for x in passes]
    assert sorted(seen[:16]) == sorted(seen[16:]) == list(range(16)) and seen[:16] != seen[16:]


def test_steps_noise_and_flips_are_spread_evenly():
    picture = torch.linspace(-1, 1, 8).expand(1, 3, 8, 8)
    data = Stream(lambda numbers: picture.expand(len(numbers), -1, -1, -1), 1, seed=5)(range(4000))
    mirrored = (data.x[:, 0, 0, 0] > 0).double().mean()
    assert 0.47 < float(mirrored) < 0.53
    tenths = Counter((data.t // 100).tolist())
    assert sorted(tenths) == list(range(10)) and all(330 < n < 470 for n in tenths.values())
    assert abs(float(data.noise.mean())) < 0.01 and abs(float(data.noise.std()) - 1) < 0.01
    assert abs(float(torch.corrcoef(torch.stack([data.t.double(), (data.x[:, 0, 0, 0] > 0).double()]))[0, 1])) < 0.05


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_the_loss_is_that_of_the_paper(faces, prediction):
    net, data = learner(sketch=32), stream(faces)(range(6))
    abar = SCHEDULE.abar[data.t].float()[:, None, None, None]
    seen, target = noised(SCHEDULE, data.x, data.noise, data.t, prediction)
    torch.testing.assert_close(seen, abar.sqrt() * data.x + (1 - abar).sqrt() * data.noise)
    # From what the network has to say both the picture and the noise follow.
    if prediction == "eps":
        torch.testing.assert_close(target, data.noise)
    else:
        torch.testing.assert_close(abar.sqrt() * seen - (1 - abar).sqrt() * target, data.x, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close((1 - abar).sqrt() * seen + abar.sqrt() * target, data.noise, atol=1e-5, rtol=1e-4)
    # An untrained network says 0, whatever it sees.
    assert float(loss_of(net, data, prediction).detach()) == pytest.approx(float(target.square().mean()))
    drawn = net.sketch(net.net.encoder(data.x))
    small = data.x.unflatten(-1, (32, 2)).mean(-1).unflatten(-2, (32, 2)).mean(-2)
    more = loss_of(net, data, prediction, 0.5) - loss_of(net, data, prediction)
    torch.testing.assert_close(more, 0.5 * (drawn - small).square().mean(), atol=1e-5, rtol=1e-4)


def test_the_sketch_fades_and_processes_share_the_stream():
    how = Training(100, 4, sketch=2.0)
    weights = [how.weight(i) for i in range(101)]
    assert weights[0] == pytest.approx(2) and weights[-1] == pytest.approx(0.2) and weights == sorted(weights, reverse=True)
    one, two = Training(10, 8), [Training(10, 4, rank=r, ranks=2) for r in (0, 1)]
    for step in range(5):
        assert [*two[0].places(step), *two[1].places(step)] == list(one.places(step))


# --- learning ---------------------------------------------------------------------------------------------------------------------


def test_it_learns_faces_and_to_use_its_code(faces):
    net = learner(sketch=32)
    run, data = new_run(net, 0.9), stream(faces)
    losses = through(net, run, data, 50, sketch=1.0)
    assert sum(losses[-10:]) / 10 < 0.7 * sum(losses[:5]) / 5
    # The average, on other noise: better with the right code than with another face's.
    net.load_state_dict(run.ema)
    net.eval()
    with torch.no_grad():
        test = stream(faces, seed=9, flip=0.0)(range(64))
        codes = net.net.encoder(test.x)
        seen, target = noised(SCHEDULE, test.x, test.noise, test.t)
        right, wrong = ((net.net(seen, test.t, c) - target).square().mean() for c in (codes, codes.roll(1, 0)))
    assert right < wrong


def test_the_code_gets_a_gradient_after_three_steps(faces):
    """What starts at zero keeps it from the encoder in the first steps; without any sketch."""
    net, data = learner(), stream(faces)
    run = new_run(net, 0.9)

    def gradient() -> float:
        code = net.net.encoder(data(range(8)).x).detach().requires_grad_(True)
        batch = data(range(8))
        seen, target = noised(SCHEDULE, batch.x, batch.noise, batch.t, "eps")
        return float(torch.autograd.grad((net.net(seen, batch.t, code) - target).square().mean(), code)[0].abs().max())

    assert gradient() == 0
    through(net, run, data, 4, prediction="eps")
    assert gradient() > 0
    before = learner().state_dict()
    assert not [k for k, v in run.ema.items() if torch.equal(v, before[k])], "every weight has moved"


def test_a_resumed_run_is_the_one_that_was_not_cut(faces, tmp_path):
    options = {"sketch": 1.0, "warm_up": 3, "seed": 4}
    net = learner(sketch=32, dropout=0.3)
    run = new_run(net, 0.99, settings={"lr": 2e-3})
    for step in train_diffae(net, run, stream(faces), Training(8, 8, lr=2e-3, **options)):
        if step == 3:
            run.save(tmp_path / "state.safetensors")
    again = learner(seed=5, sketch=32, dropout=0.3)
    rerun = new_run(again, 0.99, settings={"lr": 2e-3})
    rerun.resume(tmp_path / "state.safetensors")
    torch.manual_seed(99)
    through(again, rerun, stream(faces), 8, prediction="eps", **options)
    assert rerun.losses == run.losses[3:]
    for part in ("params", "ema"):
        assert all(torch.equal(v, getattr(rerun, part)[k]) for k, v in getattr(run, part).items())
    with pytest.raises(ValueError, match=r"other settings \(lr 0.002 and not 0.1\)"):
        new_run(again, settings={"lr": 0.1}).resume(tmp_path / "state.safetensors")
    (tmp_path / "state.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="not the state of a run"):
        rerun.resume(tmp_path / "state.safetensors")


def test_nan_leaves_the_weights_as_they_are(faces):
    net = learner()
    run, before = new_run(net), {k: v.clone() for k, v in net.state_dict().items()}
    with pytest.raises(RuntimeError, match="lower learning rate"):
        through(net, run, stream(faces * float("nan")), 2)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items()) and run.step == 0


# --- folders ----------------------------------------------------------------------------------------------------------------------


def test_pictures_of_a_folder(folder, faces, tmp_path):
    found = Folder(folder, 64)
    assert len(found) == 16 and (found([3, 0, 3]) - faces[[3, 0, 3]]).abs().max() < 0.005
    assert torch.equal(Folder(folder, 64, keep=0)(range(16)), found(range(16)))
    assert Folder(folder, 64).digest == found.digest
    wide = tmp_path / "wide"
    wide.mkdir()
    pixels = np.zeros((64, 128, 3), np.uint8)
    pixels[:, 32:96] = 200
    Image.fromarray(pixels).save(wide / "a.png")
    assert Folder(wide, 64)([0]).min() > 0.5, "the middle square"
    (wide / "b.png").write_bytes((wide / "a.png").read_bytes()[:60])
    with pytest.raises(ValueError, match=r"b.png cannot be read.*\(.*\); take it out"):
        Folder(wide, 64)([1])


# --- the command line -------------------------------------------------------------------------------------------------------------


def options(folder: Path, out: Path, **more) -> list[str]:
    found = {
        "pictures": folder, "out": out, "size": 64, "channels": (16, 16), "patch": 4, "blocks": 1, "emb": 32, "code": 16, "attention": 8,
        "batch": 8, "images": 32, "lr": 1e-3, "ema": 0.9, "latent_layers": 3, "latent_width": 16, **more,
    }  # fmt: skip
    words = ["--cpu"]
    for k, v in found.items():
        if v is not False:
            words += [f"--{k.replace('_', '-')}", *([] if v is True else map(str, v) if isinstance(v, tuple) else [str(v)])]
    return words


@pytest.fixture
def main():
    pytest.importorskip("accelerate")
    from core.train.diffae_cli import main as run

    return run


VARIANTS = [
    {"prediction": "v", "sketch": 1.0, "half": True}, {"injection": "enc"}, {"levels": True}, {"levels": True, "reading": "D", "injection": "dec"},
    {"levels": True, "reading": "U", "injection": "enc", "prediction": "v"},
]  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_is_trained_written_and_loaded(main, folder, tmp_path, variant, capsys):
    out = tmp_path / "new" / "x.safetensors"
    main(options(folder, out, latent_steps=5, **variant))
    made = load_autoencoder(out)
    known = {"reading": variant.get("reading", "E"), "injection": variant.get("injection", "both"), "hierarchical": "levels" in variant}
    assert made.net.config == Shape(64, **SMALL, **known).config()
    assert (made.prediction, made.image_size, made.schedule) == (variant.get("prediction", "eps"), 64, SCHEDULE)
    averaged = autoencoder_of(
        {k.removeprefix("ema."): v for k, v in load_file(out.with_suffix(".training.safetensors")).items() if k[0] == "e"}
    )
    kept = made.net.state_dict()
    assert all(torch.equal(kept[k], v.half().float() if "half" in variant else v) for k, v in averaged.items())
    with torch.no_grad():
        codes = made.net.encoder(Folder(folder, 64)(range(16))).flatten(1)
    torch.testing.assert_close(made.space.mean, codes.mean(0))
    torch.testing.assert_close(made.space.std, codes.std(0))
    assert made.latent is not None
    assert sample_codes(made.latent, made.space, torch.randn(2, made.space.size), 5).shape == (2, *made.net.config.code_shape)
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
    assert load_autoencoder(cut).latent is not None and load_autoencoder(cut).fingerprint == load_autoencoder(whole).fingerprint


def test_a_full_disk_ends_no_run_and_a_stopped_latent_network_goes_on(main, folder, tmp_path, monkeypatch, capsys):
    from core.train import watch

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
    save_state = watch.save_state
    with monkeypatch.context() as patch:
        patch.setattr(watch, "save_state", full)
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
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "core.train.diffae_cli"]
    twice = options(folder, tmp_path / "two.safetensors", dropout=0.0, ema=0.0, batch=4, latent_steps=2)
    done = subprocess.run(command + twice, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = (load_autoencoder(tmp_path / f"{name}.safetensors") for name in ("one", "two"))
    torch.manual_seed(0)
    first = Learner(one.net.config).net.state_dict()

    def apart(a, b) -> float:
        return math.sqrt(sum(float((v - b[k]).square().sum()) for k, v in a.items()))

    assert apart(two.net.state_dict(), one.net.state_dict()) < 0.02 * apart(first, one.net.state_dict())
    torch.testing.assert_close(one.space.mean, two.space.mean, atol=1e-3, rtol=1e-2)  # of all pictures, in either case
    assert two.latent is not None and done.stdout.count("16 pictures") == 1
    # And goes on in one process.
    rest = options(folder, tmp_path / "two.safetensors", dropout=0.0, ema=0.0, images=40, resume=True)
    main(rest)
    with safe_open(tmp_path / "two.safetensors", "pt") as file:
        assert '"images": 40' in file.metadata()["hspace"]


def test_what_is_wrong_is_said(main, folder, tmp_path, monkeypatch):
    empty, out = tmp_path / "empty", tmp_path / "x.safetensors"
    empty.mkdir()
    for arguments, word in (
        (options(empty, out), "holds no pictures"), (options(tmp_path / "none", out), "is no folder"),
        (options(folder, out, size=128), "00.png is 64 x 64, smaller than 128 x 128"), (options(folder, tmp_path / "x.ckpt"), "must end in .safetensors"),
        (options(folder, out, images=4), "one step of 8 images"), (options(folder, out, lr=0), "rate above 0"), (options(folder, out, reading="U"), "hierarchical"),
        (options(folder, out, channels=(40, 64)), "multiples of 32"),
    ):  # fmt: skip
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
