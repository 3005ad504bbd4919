"""The loop of Fit Image LoRA on a small network with one attention block."""

import pytest
import torch
from torch import nn

from core.networks.low_rank import LowRankLayers, beside, blended
from core.schedule import Schedule
from core.train.image_lora import ImageLoraSettings, attention_layers, train_image_lora
from core.train.run import Run, Session
from core.train.state import load_state, save_state


class Attention(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.to_out = nn.Sequential(nn.Linear(width, width), nn.Dropout(0.0))

    def forward(self, x):
        q, k, v = self.to_q(x), self.to_k(x), self.to_v(x)
        return x + self.to_out((q @ k.transpose(1, 2) * q.shape[-1] ** -0.5).softmax(-1) @ v)


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.attn1, self.attn2, self.ff = Attention(width), Attention(width), nn.Linear(width, width)

    def forward(self, x):
        return self.ff(self.attn2(self.attn1(x)))


class Net(nn.Module):
    """eps from a VP state: every 2x2 block of pixels is a token."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(6)
        self.blocks = nn.ModuleList([Block(12)])
        self.requires_grad_(False)

    def forward(self, x, sigma):
        scaled = x / (1 + sigma.reshape(-1, 1, 1, 1) ** 2).sqrt()
        tokens = nn.functional.pixel_unshuffle(scaled, 2).flatten(2).transpose(1, 2)
        out = self.blocks[0](tokens).transpose(1, 2).unflatten(2, (4, 4))
        return nn.functional.pixel_shuffle(out, 2)


class Model:
    fingerprint, layers, noising = "0" * 12, ("middle",), "sigma"

    def __init__(self, net, velocity=False):
        self.net, self.velocity = net, velocity

    def __call__(self, x, sigma):
        s, out = sigma.reshape(-1, 1, 1, 1), self.net(x, sigma)
        return x / (1 + s * s) - out * s / (1 + s * s).sqrt() if self.velocity else x - s * out


SIGMAS = Schedule().sigmas
PICTURE = torch.linspace(-1, 1, 192).reshape(1, 3, 8, 8)


def run(net, velocity=False, steps=60, seed=0, lr=5e-3, picture=PICTURE):
    lora = LowRankLayers(attention_layers(net), 4, seed)
    losses, levels = [], []
    inner = Model(net, velocity)

    def model(x, sigma):
        levels.append((float(sigma[0]), float(x.sum())))
        return inner(x, sigma)

    session = Session(on_step=lambda event: losses.append(event["loss"]))
    settings = ImageLoraSettings(steps, lr, velocity, seed)
    train_image_lora(model, net, lora, lambda g: picture, picture.shape, SIGMAS, settings, session=session)
    return lora, losses, levels


def test_layers_are_those_of_attention_alone():
    names = list(attention_layers(Net()))
    assert names == [f"blocks.0.attn{n}.to_{k}" for n in (1, 2) for k in ("q", "k", "v", "out.0")]
    with pytest.raises(ValueError, match="transformer"):
        attention_layers(nn.Sequential(nn.Linear(2, 2)))


@pytest.mark.parametrize("velocity", [False, True])
def test_the_loss_falls_and_nothing_else_changes(velocity):
    net = Net()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    lora, losses, _ = run(net, velocity, steps=200)
    assert sum(losses[-50:]) < 0.8 * sum(losses[:50])
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert not any(m._forward_hooks for m in net.modules()) and not any(p.requires_grad for p in lora.parameters())


def test_velocity_loss_is_the_error_of_v():
    """One step's loss by the definition v = (n - sigma x0) / sqrt(1 + sigma^2)."""
    net, model = Net(), Model(Net(), True)
    _, losses, levels = run(net, True, steps=1)
    sigma, g = levels[0][0], torch.Generator().manual_seed(0)
    torch.randint(0, len(SIGMAS), (1,), generator=g)
    noise = torch.randn(PICTURE.shape, generator=g)
    out = model.net(PICTURE + sigma * noise, torch.tensor([sigma]))
    v = (noise - sigma * PICTURE) / (1 + sigma**2) ** 0.5
    assert losses[0] == pytest.approx(float((out - v).square().mean()), rel=1e-4)


def test_one_seed_one_start_and_one_sequence_of_noise():
    other = torch.flip(PICTURE, (3,))
    a, losses, levels = run(Net())
    b, again, _ = run(Net())
    c, _, others = run(Net(), picture=other)
    d, _, shifted = run(Net(), seed=1)
    assert losses == again and all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    assert [s for s, _ in levels] == [s for s, _ in others] != [s for s, _ in shifted]
    assert levels[0][1] - float(PICTURE.sum()) == pytest.approx(others[0][1] - float(other.sum()), abs=1e-2), (
        "the same noise"
    )
    starts = [LowRankLayers(attention_layers(Net()), 4, seed) for seed in (0, 0, 1)]
    assert all(torch.equal(p, q) for p, q in zip(starts[0].down, starts[1].down, strict=True))
    assert not torch.equal(starts[0].down[0], starts[2].down[0]) and not any(bool(p.any()) for p in starts[0].up)
    assert not torch.equal(a.up[0], c.up[0]) and not torch.equal(a.up[0], d.up[0])


def test_a_run_goes_on_where_it_stopped(tmp_path):
    whole, losses, _ = run(Net(), steps=30)
    runs: list[Run] = []

    def stop(state):
        if state["i"] == 11:
            save_state(tmp_path / "run.safetensors", runs[0], {"a": 1})
            raise KeyboardInterrupt

    net, lora = Net(), LowRankLayers(attention_layers(Net()), 4)
    arguments = (Model(net), net, lora, lambda g: PICTURE, PICTURE.shape, SIGMAS)
    with pytest.raises(KeyboardInterrupt):
        train_image_lora(*arguments, ImageLoraSettings(30, 5e-3), session=Session(runs.append, stop))
    assert not any(m._forward_hooks for m in net.modules()), "a cancelled run leaves hooks behind"
    resumed: list[Run] = []

    def begin(run):
        load_state(tmp_path / "run.safetensors", run, {"a": 1})
        resumed.append(run)

    train_image_lora(*arguments, ImageLoraSettings(30, 5e-3), session=Session(begin))
    assert resumed[0].losses == pytest.approx(losses, rel=1e-5)
    assert all(torch.allclose(p, q, atol=1e-6) for p, q in zip(lora.parameters(), whole.parameters(), strict=True))


def test_what_was_trained_is_what_is_stored():
    net = Net()
    lora, _, _ = run(net)
    x, sigma = torch.randn(2, 3, 8, 8), torch.ones(2)
    with beside(net, lora.branches()), torch.no_grad():
        wanted = net(x, sigma)
    merged = Net()
    for name, (up, down) in lora.pairs().items():
        merged.get_submodule(name).weight.data += up @ down
    assert torch.allclose(merged(x, sigma), wanted, atol=1e-5)
    with beside(net, blended(lora.pairs(), {}, [0.0, 1.0])), torch.no_grad():
        rows = net(x, sigma)
    assert torch.allclose(rows[0], wanted[0], atol=1e-5) and torch.allclose(rows[1], net(x, sigma)[1], atol=1e-6)
