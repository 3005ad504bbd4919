"""The two network families: parity, exact splits, taps, derivatives."""

import pytest
import torch
from diffusers import UNet2DModel
from torch import nn
from torch.func import jvp, vjp, vmap

from core.files.layouts import native
from core.networks.ddpm import DDPMConfig, DDPMUNet
from core.networks.guided import GuidedConfig, GuidedUNet
from core.networks.layers import GroupNorm, frequencies
from core.networks.vp import VPDenoiser
from core.schedule import Schedule

from .nets import DDPM, ILVR_PLAIN, OPENAI, P2, PATCHED, make, randomise, sample


def ramp(h):
    """A change that no normalisation undoes."""
    return torch.linspace(-1, 1, h[0].numel(), dtype=h.dtype, device=h.device).reshape(h[:1].shape)


CONFIGS = pytest.mark.parametrize(
    "config", [DDPM, PATCHED, P2, OPENAI, ILVR_PLAIN], ids=["ddpm", "patched", "p2", "openai", "plain"]
)


class Angles(nn.Module):
    """Our step embedding in the place of diffusers', whose float32 rounding of the frequencies differs in the last
    bit."""

    def forward(self, t):
        angle = frequencies(t, 64, 1.0).double()
        return torch.cat([angle.sin(), angle.cos()], 1)


def test_ddpm_equals_diffusers_in_the_celebahq_configuration():
    channels = (128, 128, 256, 256, 512, 512)
    with torch.device("meta"):
        theirs = UNet2DModel(
            sample_size=256,
            block_out_channels=channels,
            layers_per_block=2,
            attention_head_dim=None,
            norm_eps=1e-6,
            down_block_types=("DownBlock2D",) * 4 + ("AttnDownBlock2D", "DownBlock2D"),
            flip_sin_to_cos=False,
            freq_shift=1,
            up_block_types=("UpBlock2D", "AttnUpBlock2D") + ("UpBlock2D",) * 4,
            downsample_padding=0,
        )
    theirs = randomise(theirs.to_empty(device="cpu").double()).eval()
    family, state = native(theirs.state_dict())
    config = DDPMConfig.from_state(state)
    assert (family, config) == ("ddpm", DDPMConfig(3, 3, channels, 2, (False,) * 4 + (True, False)))
    with torch.device("meta"):
        ours = DDPMUNet(config)
    ours.load_state_dict(state, assign=True)
    ours.eval()
    x = torch.randn(1, 3, 32, 64, dtype=torch.float64)
    with torch.no_grad():
        t = torch.tensor([0])  # every rounding of the frequencies gives the same embedding here: nothing is replaced
        torch.testing.assert_close(ours(x, t), theirs(x, t).sample, rtol=0, atol=1e-8)
        t, theirs.time_proj = torch.tensor([613]), Angles()
        torch.testing.assert_close(ours(x, t), theirs(x, t).sample, rtol=0, atol=1e-8)


@pytest.mark.parametrize("old", [False, True], ids=["to_q", "query"])
def test_diffusers_names_map_onto_all_of_ours(old):
    net = UNet2DModel(
        sample_size=8,
        block_out_channels=(32, 64),
        layers_per_block=1,
        attention_head_dim=None,
        norm_eps=1e-6,
        flip_sin_to_cos=False,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        freq_shift=1,
        downsample_padding=0,
    )
    state = randomise(net.double()).eval().state_dict()
    if old:
        for new, name in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
            state = {k.replace(f".{new}.", f".{name}."): v for k, v in state.items()}
    _, mapped = native(state)
    ours = DDPMUNet(DDPMConfig.from_state(mapped)).double().eval()
    ours.load_state_dict(mapped)
    x, _ = sample("cpu", b=2)
    with torch.no_grad():
        torch.testing.assert_close(ours(x, torch.zeros(2)), net(x, torch.zeros(2)).sample, rtol=0, atol=1e-10)
        late = torch.tensor([3, 613])  # the float32 frequencies of the two differ in the last bit
        torch.testing.assert_close(ours(x, late), net(x, late).sample, rtol=0, atol=1e-4)


@CONFIGS
def test_configuration_is_read_off_the_shapes(config):
    state = make(config, "cpu").state_dict()
    if isinstance(config, DDPMConfig):
        assert DDPMConfig.from_state(state, config.patch) == config
    else:
        assert GuidedConfig.from_state(state, head_channels=config.head_channels) == config


@pytest.mark.parametrize(
    ("config", "millions"),
    [
        (DDPMConfig(3, 3, (128, 128, 256, 256, 512, 512), 2, (False,) * 4 + (True, False)), 113),
        (GuidedConfig(3, 6, 128, 128, (128, 128, 256, 256, 512, 512), 1, (False,) * 4 + (True, False)), 93),
        (GuidedConfig(3, 6, 256, 256, (256, 256, 512, 512, 1024, 1024), 2, (False,) * 3 + (True,) * 3), 552),
    ],
    ids=["celeba_hq.ckpt", "P2", "256x256_diffusion_uncond.pt"],
)
def test_size_of_the_released_networks(config, millions):
    with torch.device("meta"):
        net = DDPMUNet(config) if isinstance(config, DDPMConfig) else GuidedUNet(config)
    assert sum(p.numel() for p in net.parameters()) // 10**6 == millions
    assert net.multiple == 32


@CONFIGS
def test_split_is_exact_at_every_layer(config, device):
    net = make(config, device, torch.float32)
    x, t = sample(device, dtype=torch.float32)
    whole = net(x, t)
    assert len(net.layers) == 1 + len(config.channels) * (config.blocks + 1)
    for layer in net.layers:
        h, decode = net.split(x, t, layer)
        assert torch.equal(decode(h), whole)
        batch = decode(torch.cat([h, h + ramp(h)]))  # one captured sample serves any number of h
        torch.testing.assert_close(batch[:1], whole, rtol=1e-4, atol=1e-4)
        assert (batch[1] - whole[0]).abs().max() > 1e-3
    with pytest.raises(ValueError, match=r"no layer 'up\.99'; choose one of middle, up\.0"):
        net.split(x, t, "up.99")


@CONFIGS
def test_h_is_where_it_is_said_to_be(config, device):
    net = make(config, device)
    x, t = sample(device, b=2)
    coarse = 8 // net.multiple
    assert net.split(x, t)[0].shape == (2, config.channels[-1], coarse, coarse)
    last = net.split(x, t, net.layers[-1])[0]
    side = 8 // getattr(config, "patch", 1)
    assert last.shape == (2, config.channels[0], side, side)


@CONFIGS
def test_taps(config, device):
    net = make(config, device)
    x, t = sample(device)
    seen = []

    def watch(layer, h, skip):
        seen.append((layer, h.shape[-1], None if skip is None else skip.shape[-1]))
        return h, skip

    whole = net(x, t)
    assert torch.equal(net(x, t, tap=watch), whole)
    assert [name for name, _, _ in seen] == list(net.layers)
    assert all(a == b for _, a, b in seen[:-1]) and seen[-1][2] is None  # every skip fits its h; nothing joins the last

    def push(where, dh=0.0, factor=1.0):
        return lambda layer, h, skip: (
            (h + dh * ramp(h), skip if skip is None else skip * factor) if layer == where else (h, skip)
        )

    clean = {layer: net.split(x, t, layer)[0] for layer in net.layers}
    for layer in net.layers:
        h, decode = net.split(x, t, layer)
        moved = decode(h + 0.5 * ramp(h))
        assert (moved - whole).abs().max() > 1e-3
        torch.testing.assert_close(net(x, t, tap=push(layer, 0.5)), moved)
        for cut in (
            net.layers[0],
            net.layers[2],
            net.layers[-1],
        ):  # wherever it is cut, the edit happens once: above the cut in h, below it in decode
            h_cut, decode_cut = net.split(x, t, cut, tap=push(layer, 0.5, 0.9))
            assert torch.equal(h_cut, clean[cut]) == (net.layers.index(layer) > net.layers.index(cut))
            torch.testing.assert_close(decode_cut(h_cut), net(x, t, tap=push(layer, 0.5, 0.9)))
        if layer != net.layers[-1]:
            assert (net(x, t, tap=push(layer, factor=0.0)) - whole).abs().max() > 1e-6
    with pytest.raises(ValueError, match="must return the skip connection of layer 'middle'"):
        net(x, t, tap=lambda layer, h, skip: (h, None))


@pytest.mark.parametrize("config", [DDPM, P2, ILVR_PLAIN], ids=["ddpm", "p2", "plain"])
@pytest.mark.parametrize("layer", ["middle", "up.1"])
def test_derivatives_of_the_decoder(config, layer, device):
    net = make(config, device)
    x, t = sample(device)
    h, decode = net.split(x, t, layer)
    g = torch.Generator().manual_seed(3)
    v = torch.randn(3, *h.shape, generator=g, dtype=h.dtype).to(device)
    u = torch.randn(decode(h).shape, generator=g, dtype=h.dtype).to(device)
    forward = torch.stack([jvp(decode, (h,), (w,))[1] for w in v])
    eps = 1e-5
    for jv, w in zip(forward, v, strict=True):
        finite = (decode(h + eps * w) - decode(h - eps * w)) / (2 * eps)
        torch.testing.assert_close(jv, finite, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(vmap(lambda w: jvp(decode, (h,), (w,))[1])(v), forward, rtol=1e-10, atol=1e-10)
    pulled = vjp(decode, h)[1](u)[0]
    torch.testing.assert_close(
        torch.stack([(w * pulled).sum() for w in v]), (forward * u).flatten(1).sum(1), rtol=1e-9, atol=1e-9
    )
    pulled_many = vmap(vjp(decode, h)[1])(torch.stack([u, 2 * u]))[0]
    torch.testing.assert_close(pulled_many, torch.stack([pulled, 2 * pulled]), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("config", [DDPM, P2], ids=["ddpm", "p2"])
def test_derivatives_with_respect_to_the_image(config, device):
    net = make(config, device)
    x, t = sample(device)
    v = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(4)).to(device)
    eps = 1e-5
    finite = (net(x + eps * v, t) - net(x - eps * v, t)) / (2 * eps)
    torch.testing.assert_close(jvp(lambda z: net(z, t), (x,), (v,))[1], finite, rtol=1e-6, atol=1e-6)


def test_group_norm_written_out_equals_fused(device):
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        layer = GroupNorm(8, 32, 1e-6).to(device, dtype)
        nn.init.normal_(layer.weight)
        nn.init.normal_(layer.bias)
        x = 3 + torch.randn(2, 32, 5, 7, dtype=dtype, device=device)
        torch.testing.assert_close(layer.eval()(x), layer.train()(x), rtol=tolerance, atol=tolerance)
    half = GroupNorm(8, 32, 1e-6).to(device, torch.float16).eval()
    out = half(torch.randn(1, 32, 4, 4, device=device).mul(1000).half())  # squares beyond the range of float16
    assert torch.isfinite(out).all() and out.dtype == torch.float16


@pytest.mark.parametrize("config", [DDPM, P2], ids=["eps", "learned sigma"])
def test_denoiser_uses_the_first_half_of_a_learned_sigma(config, device):
    net, schedule = make(config, device), Schedule()
    model = VPDenoiser(net, schedule)
    x, t = sample(device, b=2)
    sigma = schedule.sigma(t)
    s = sigma.reshape(-1, 1, 1, 1)
    eps = net(x / (1 + s * s).sqrt(), t)[:, :3]
    torch.testing.assert_close(model(x, sigma), x - s * eps, rtol=1e-9, atol=1e-9)
    for layer in model.layers:
        b = model.split(x, sigma, layer)
        assert torch.equal(b.decode(b.h), model(x, sigma))
