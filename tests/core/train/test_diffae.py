"""Training of DiffAE and HDAE: the networks, the samples and the loss are the paper's, it learns, and it goes on exactly."""

from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from core.networks.diffae import DiffAEConfig
from core.train.diffae import (
    BASE,
    SCHEDULE,
    Learner,
    Shape,
    Stream,
    Training,
    loss_of,
    new_run,
    train_diffae,
)
from core.train.noised import noised
from core.train.pictures import Folder
from core.train.run import Run, Session
from core.train.state import load_state, save_state

from ..released_diffae import autoencoder
from ..tiny import SMALL, resumed


def stream(faces, **options) -> Stream:
    return Stream(lambda numbers: faces[list(numbers)], len(faces), **options)


def learner(seed: int = 0, sketch: int = 0, dropout: float = 0.0, **options) -> Learner:
    torch.manual_seed(seed)
    return Learner(Shape(64, **{**SMALL, **options}).config(), sketch, dropout)


def training(steps, **how) -> Training:
    return Training(steps, 8, **{"lr": 2e-3, "prediction": "v", **how})


def through(net, data, steps, ema=0.9, **how) -> Run:
    run = new_run(net, training(steps, **how), ema)
    train_diffae(net, run, data, training(steps, **how))
    return run


# --- the network of a size
# ----------------------------------------------------------------------------------------------------------


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
        ({"size": 64, "patch": 2}, "no preset for maps of 32 x 32"),
        ({"size": 64, "patch": 3}, "must divide"),
        ({"size": 64, "patch": 0}, "must divide"),
        ({"size": 64, "channels": (32,) * 7}, "7 levels do not fit"),
        ({"size": 64, "channels": (40, 64)}, "multiples of 32"),
        ({"size": 64, "channels": (16, 32)}, "multiples of 32"),
        ({"size": 64, "reading": "D"}, "hierarchical"),
        ({"size": 64, "reading": "X", "hierarchical": True}, "unknown variant"),
        ({"size": 64, "injection": "up"}, "unknown variant"),
    ],
)
def test_networks_that_cannot_be_are_refused(options, word):
    with pytest.raises(ValueError, match=word):
        Shape(**options).config()


# --- samples and loss
# -------------------------------------------------------------------------------------------------------------


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
    weights = [how.sketch_weight(i) for i in range(101)]
    assert (
        weights[0] == pytest.approx(2)
        and weights[-1] == pytest.approx(0.2)
        and weights == sorted(weights, reverse=True)
    )
    one, two = Training(10, 8), [Training(10, 4, rank=r, ranks=2) for r in (0, 1)]
    for step in range(5):
        assert [*two[0].places(step), *two[1].places(step)] == list(one.places(step))


# --- learning
# ---------------------------------------------------------------------------------------------------------------------


def test_it_learns_faces_and_to_use_its_code(faces):
    net = learner(sketch=32)
    run = through(net, stream(faces), 50, sketch=1.0)
    losses = run.losses
    assert sum(losses[-10:]) / 10 < 0.7 * sum(losses[:5]) / 5
    # The average, on other noise: better with the right code than with another face's.
    net.load_state_dict(run.average)
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

    def gradient() -> float:
        code = net.net.encoder(data(range(8)).x).detach().requires_grad_(True)
        batch = data(range(8))
        seen, target = noised(SCHEDULE, batch.x, batch.noise, batch.t, "eps")
        return float(torch.autograd.grad((net.net(seen, batch.t, code) - target).square().mean(), code)[0].abs().max())

    assert gradient() == 0
    run = through(net, data, 4, prediction="eps")
    assert gradient() > 0
    before = learner().state_dict()
    assert not [k for k, v in run.average.items() if torch.equal(v, before[k])], "every weight has moved"


def test_a_resumed_run_is_the_one_that_was_not_cut(faces, tmp_path):
    options = {"sketch": 1.0, "warm_up": 3, "seed": 4}
    net = learner(sketch=32, dropout=0.3)
    how, file, facts = training(8, prediction="eps", **options), tmp_path / "state.safetensors", {"lr": 2e-3}

    def save(event):
        if event["i"] + 1 == 3:
            save_state(file, run, facts)

    run = new_run(net, how, 0.99, Session(on_step=save))
    train_diffae(net, run, stream(faces), how)
    again = learner(seed=5, sketch=32, dropout=0.3)
    rerun = new_run(again, how, 0.99, resumed(file, facts))
    torch.manual_seed(99)
    train_diffae(again, rerun, stream(faces), how)
    assert rerun.losses == run.losses[3:]
    for part in ("weights", "average"):
        assert all(torch.equal(v, getattr(rerun, part)[k]) for k, v in getattr(run, part).items())
    with pytest.raises(ValueError, match=r"other settings \(lr 0.002 and not 0.1\)"):
        load_state(file, rerun, {"lr": 0.1})
    file.write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="not the state of a run"):
        load_state(file, rerun, facts)


def test_nan_leaves_the_weights_as_they_are(faces):
    net = learner()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    run = new_run(net, training(2))
    with pytest.raises(RuntimeError, match="lower learning rate"):
        train_diffae(net, run, stream(faces * float("nan")), training(2))
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items()) and run.i == 0


# --- folders
# ----------------------------------------------------------------------------------------------------------------------


def test_pictures_of_a_folder(folder, faces, tmp_path):
    found = Folder(folder, 64)
    assert len(found) == 16 and (found([3, 0, 3]) - faces[[3, 0, 3]]).abs().max() < 0.005
    assert torch.equal(Folder(folder, 64, memory=0)(range(16)), found(range(16)))
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
