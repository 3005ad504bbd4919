"""New codes: the latent network and its training; what lies far from all codes; the converter."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from core.cli.convert_diffae import main as convert
from core.codes import CodeSpace
from core.edit.codes.sample import sample_codes
from core.faces.factors import sample
from core.faces.render import render
from core.files.diffae import load_autoencoder, save_autoencoder
from core.files.heads import load_heads
from core.networks.latent_mlp import SCHEDULE, LatentConfig, LatentMLP
from core.schedule import stride_steps
from core.train.heads import with_statistics
from core.train.latent_prior import LatentSettings, train_latent
from core.train.run import Session
from core.train.state import load_state, save_state

from ..released_diffae import STATISTICS, WIDE, lightning, saved, weights
from ..spaces import FINGERPRINT, SPACES
from ..tiny import Cancelled


def test_latent_network_is_what_the_paper_says():
    torch.manual_seed(4)
    net = LatentMLP(LatentConfig(6, 10, 3, 8, 4)).double()
    x, t = torch.randn(5, 6).double(), torch.tensor([0, 3, 50, 700, 999])
    angle = t[:, None].double() * torch.exp(-math.log(10000) * torch.arange(2) / 2)
    emb = net.time_embed(torch.cat([angle.cos(), angle.sin()], 1))
    h = x
    for i in range(3):
        layer = net.layers[i]
        h = F.linear(h if i == 0 else torch.cat([h, x], 1), layer.linear.weight, layer.linear.bias)
        if i < 2:
            h = h * (1 + layer.linear_emb(F.silu(emb)))
            h = F.silu(F.layer_norm(h, (10,), layer.norm.weight, layer.norm.bias))
    torch.testing.assert_close(net(x, t), h, atol=1e-6, rtol=1e-6)


def ddim(latent, z, steps):
    """The released sampler in VP, every line of it: re-spaced abar, original steps."""
    abar = torch.cumprod(torch.full((1000,), 1 - 0.008, dtype=torch.float64), 0)
    kept = stride_steps(steps).flip(0).tolist()
    for i in range(len(kept) - 1, -1, -1):
        now, before = float(abar[kept[i]]), float(abar[kept[i - 1]]) if i else 1.0
        eps = latent(z.float(), torch.full((len(z),), kept[i])).double()
        x0 = (z - math.sqrt(1 - now) * eps) / math.sqrt(now)
        z = math.sqrt(before) * x0 + math.sqrt(1 - before) * eps
    return z


@pytest.mark.parametrize("space", SPACES)
def test_sampling_is_the_released_ddim(space):
    torch.manual_seed(8)
    latent = LatentMLP(LatentConfig(space.size, 32, 4, 16, 8)).eval()
    noise, seen = torch.randn(3, space.size), []
    codes = sample_codes(latent, space, noise, 20, callback=seen.append)
    literal = ddim(latent, noise.double(), 20).float() * space.std + space.mean
    torch.testing.assert_close(codes, literal.reshape(codes.shape), atol=1e-3, rtol=1e-3)
    assert [s["i"] for s in seen] == list(range(20)) and codes.shape == (3, *space.shape)
    for args, message in (
        ((None, space, noise), "no latent network"),
        ((latent, CodeSpace(space.shape, FINGERPRINT), noise), "unknown, which normalised edits need"),
        ((latent, space, noise[:, :5]), "noise must be"),
    ):
        with pytest.raises(ValueError, match=message):
            sample_codes(*args)


def two_blobs(n):
    g = torch.Generator().manual_seed(0)
    side = torch.where(torch.rand(n, 1, generator=g) < 0.5, -1.0, 1.0)
    return torch.cat([2 * side, -side], 1) + 0.2 * torch.randn(n, 2, generator=g)


def test_the_prior_learns_where_codes_are():
    codes = two_blobs(2000)
    space = with_statistics(CodeSpace((2,), FINGERPRINT), codes)
    settings = LatentSettings(steps=300, batch=64, lr=4e-3, average=0.98)
    latent = train_latent(codes, space, LatentConfig(2, 32, 4, 16, 16), settings)
    made = sample_codes(latent, space, torch.randn(400, 2, generator=torch.Generator().manual_seed(1)), 50)
    side = made[:, :1].sign()
    away = (made - torch.cat([2 * side, -side], 1)).norm(dim=1)
    assert away.median() < 0.5 and 0.35 < (side > 0).float().mean() < 0.65


def test_a_resumed_prior_goes_on_exactly(tmp_path):
    codes = two_blobs(64)
    space = with_statistics(CodeSpace((2,), FINGERPRINT), codes)
    config, settings = LatentConfig(2, 8, 3, 8, 8), LatentSettings(steps=9, batch=8, lr=1e-3, average=0.5)
    whole = train_latent(codes, space, config, settings)
    runs = []

    def stop(seen):
        if seen["i"] == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        train_latent(codes, space, config, settings, session=Session(runs.append, stop))
    path = save_state(tmp_path / "run.safetensors", runs[0], {})
    again = Session(lambda run: load_state(path, run, {}))
    rest = train_latent(codes, space, config, settings, session=again)
    for (k, a), b in zip(whole.state_dict().items(), rest.state_dict().values(), strict=True):
        assert torch.equal(a, b), k
    assert not torch.equal(whole.layers[0].linear.weight, LatentMLP(config).layers[0].linear.weight)
    with pytest.raises(ValueError, match="codes of 3 numbers"):
        train_latent(codes, space, LatentConfig(3))
    assert SCHEDULE.steps == 1000


@pytest.mark.parametrize("half", [False, True])
def test_converter(tmp_path, capsys, half):
    state = weights(64, 3)
    ckpt = saved(tmp_path / "last.ckpt", lightning(state))
    head = {"classifier.weight": torch.randn(40, WIDE), "classifier.bias": torch.randn(40)}
    cls = saved(tmp_path / "cls.ckpt", {**lightning({}), "state_dict": STATISTICS | head})
    out, heads = tmp_path / "own.safetensors", tmp_path / "heads.safetensors"
    convert([str(ckpt), "--cls", str(cls), "--out", str(out), "--heads", str(heads), *(["--half"] if half else [])])
    assert "64 pixels, codes [32]" in capsys.readouterr().out
    a, b = load_autoencoder(ckpt, cls), load_autoencoder(out)
    x = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(a.net.encoder(x), b.net.encoder(x), atol=2e-2 if half else 0, rtol=1e-2 if half else 0)
    assert a.fingerprint == b.fingerprint and torch.equal(a.space.mean, b.space.mean)
    assert out.stat().st_size < ckpt.stat().st_size / (3 if half else 1.8)
    assert torch.equal(load_heads(heads, b.space).weight, head["classifier.weight"])
    for args, message in (
        ([str(ckpt), "--out", str(tmp_path / "x.ckpt")], "must end in .safetensors"),
        ([str(cls), "--out", str(out)], "no network"),
        ([str(ckpt), "--out", str(out), "--heads", str(heads)], "needs --cls"),
        ([str(tmp_path / "none.ckpt"), "--out", str(out)], "no such file"),
    ):
        with pytest.raises(SystemExit, match=message):
            convert(args)


def test_pictures_that_are_unlike_the_training_pictures_lie_far_out(tmp_path):
    source = load_autoencoder(Path(__file__).resolve().parents[3] / "weights" / "face_diffae.safetensors")
    made = sample(700, torch.Generator().manual_seed(3))
    x = render(made, 64)[0] * 2 - 1
    with torch.no_grad():
        codes = source.net.encoder(x)
        space = with_statistics(CodeSpace(source.space.shape, source.fingerprint), codes[:600], typical=True)
        odd = {
            "dark": x[600:] * 0.3 - 0.7,
            "upside down": x[600:].flip(-2),
            "small": F.pad(F.avg_pool2d(x[600:], 2), (16, 16, 16, 16)),
        }
        assert float((space.unlike(codes[600:]) > 1).float().mean()) < 0.1
        for name, pictures in odd.items():
            assert float((space.unlike(source.net.encoder(pictures.contiguous())) > 1).float().mean()) > 0.8, name
    white = (space.normalise(codes[:600]) @ space.whitening).double()
    assert (
        float((white.T @ white / 600 - torch.eye(128)).diagonal().abs().max()) < 1
    )  # axes of hardly any variance stay below 1
    file = save_autoencoder(tmp_path / "a.safetensors", dataclasses.replace(source, space=space), half=True)
    assert torch.equal(load_autoencoder(file).space.unlike(codes), space.unlike(codes))
