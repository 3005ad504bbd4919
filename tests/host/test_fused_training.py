"""What trains through the host's network runs back through fused attention: the same gradients in less memory."""

from functools import partial

import pytest
import torch

SIDE = 32  # of the latent
SCORES = 4 * SIDE**4  # bytes of a matrix of scores of its 1,024 places, in float32
EXACT = 1e-5


def null_text(modules, denoiser, x, sigma):
    """Gradient of a loss to the embedding of the negative prompt."""
    embedding = torch.randn(1, 7, 64, generator=torch.Generator().manual_seed(2)).requires_grad_(True)
    answer = denoiser.alone(x, sigma, "negative", embedding)
    return torch.autograd.grad(answer.square().mean(), embedding)[0]


def asyrp(modules, denoiser, x, sigma):
    """Gradient of a loss to what is added to h."""
    with torch.no_grad():
        part = denoiser.split(x, sigma)
    shift = torch.zeros_like(part.h).requires_grad_(True)
    edited = modules["core.train.asyrp"].predict_shifted(part, lambda h, _: h * 0 + shift, sigma)
    return torch.autograd.grad(edited.square().mean(), shift)[0]


def decoded(vae, modules, denoiser, x, sigma):
    """Gradient of a loss on the picture to the latent, as a training that looks at pictures needs it."""
    decode = modules["nodes.host.model.decoded"].Decoder(denoiser.patcher, vae, x.shape)
    z = x.clone().requires_grad_(True)
    with modules["nodes.host.training"].gradients(*decode.networks):
        return torch.autograd.grad(decode(z).square().mean(), z)[0]


@pytest.fixture
def gradient(executor, monkeypatch):
    """Calls ``(work, attention)``, gives the gradient, and the bytes that were made for it at once."""
    names = ("core.train.asyrp", "core.discover.cost", "nodes.host.training", "nodes.host.model.decoded")
    modules = {name: executor.module(name) for name in names}
    run, own = executor.module("nodes.host.model.run"), executor.module("nodes.host.model.own_attention")
    places = [executor.module(f"nodes.host.model.{name}") for name in ("denoiser", "bottleneck", "decoded")]
    model, positive, negative = executor.call("HSpaceTestUNet", network="sd15", dtype="fp32", seed=0)[:3]

    def call(work, attention):
        for place in places:
            monkeypatch.setattr(place, "fused_attention", getattr(own, attention))

        def inside(denoiser):
            x = 3 * torch.randn(1, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
            with torch.enable_grad(), modules["core.discover.cost"].Live() as live:
                return work(modules, denoiser, x, x.new_full((1,), 2.0)), live.peak

        prompts = run.Prompts(positive, negative, 3.0)
        return modules["nodes.host.training"].with_training(model, (1, 4, SIDE, SIDE), prompts, inside)

    return call


@pytest.mark.sweep("")
@pytest.mark.parametrize("name", ["null-text", "asyrp", "picture"])
def test_gradients_are_those_of_written_out_attention(executor, gradient, name):
    (vae,) = executor.call("HSpaceTestVAE", network="kl")
    work = {"null-text": null_text, "asyrp": asyrp, "picture": partial(decoded, vae)}[name]
    with torch.inference_mode(False):
        expected, more = gradient(work, "plain_attention")
        found, less = gradient(work, "fused_attention")
    assert float(expected.norm()) > 0
    assert float((found - expected).norm() / expected.norm()) < EXACT
    assert more - less > 0.9 * SCORES, (less, more)
