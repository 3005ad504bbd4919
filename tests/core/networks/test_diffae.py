"""The networks of DiffAE and HDAE against a literal forward pass, and how their code gets a gradient."""

import itertools
import math

import pytest
import torch
from torch.nn import functional as F

from core.codes import CodeSpace
from core.networks.diffae import DiffAEConfig, DiffAENet

from ..released_diffae import autoencoder

SMALL = {
    "channels": (8, 16, 16),
    "encoder": (8, 16, 16),
    "attention": (False, True, False),
    "encoder_attention": (False, False, True),
}
SMALL |= {"blocks": 1, "emb": 24, "code": 12}


def stirred(net, seed=0):
    """No weight zero, so that every path counts."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=g) * 0.2)
    return net.eval()


# --- a literal forward pass of the released network, from its state dict alone
# ------------------------------------------------


def norm(s, k, x):
    return F.group_norm(x, min(32, x.shape[1]), s[f"{k}.weight"], s[f"{k}.bias"], 1e-5)


def conv(s, k, x):
    w = s[f"{k}.weight"]
    return F.conv2d(x, w, s[f"{k}.bias"], padding=w.shape[-1] // 2)


def linear(s, k, x):
    return F.linear(x, s[f"{k}.weight"], s[f"{k}.bias"])[:, :, None, None]


def res(s, k, x, emb=None, z=None, resize=lambda x: x):
    h, x = resize(F.silu(norm(s, f"{k}.in_layers.0", x))), resize(x)
    h = conv(s, f"{k}.in_layers.2", h)
    if f"{k}.out_layers.0.weight" in s:
        scale, shift = linear(s, f"{k}.emb_layers.1", F.silu(emb)).chunk(2, 1)
        h = norm(s, f"{k}.out_layers.0", h) * (1 + scale) + shift
        h = h * (1 + linear(s, f"{k}.cond_emb_layers.1", F.silu(z)))
        h = conv(s, f"{k}.out_layers.3", F.silu(h))
    return h + (conv(s, f"{k}.skip_connection", x) if f"{k}.skip_connection.weight" in s else x)


def attend(s, k, x):
    flat = x.flatten(2)
    q, key, v = F.conv1d(norm(s, f"{k}.norm", flat), s[f"{k}.qkv.weight"], s[f"{k}.qkv.bias"]).chunk(3, 1)
    out = F.scaled_dot_product_attention(q.transpose(1, 2), key.transpose(1, 2), v.transpose(1, 2)).transpose(1, 2)
    return x + F.conv1d(out, s[f"{k}.proj_out.weight"], s[f"{k}.proj_out.bias"]).reshape(x.shape)


def halved(x):
    return F.avg_pool2d(x, 2)


def doubled(x):
    return F.interpolate(x, scale_factor=2, mode="nearest")


def down(s, p, x, levels, **cond):
    h = conv(s, f"{p}input_blocks.0.0", x)
    skips, n = [h], 1
    for level in range(levels):
        for j in range(3 if level < levels - 1 else 2):
            h = res(s, f"{p}input_blocks.{n}.0", h, **cond, resize=halved if j == 2 else lambda x: x)
            if f"{p}input_blocks.{n}.1.qkv.weight" in s:
                h = attend(s, f"{p}input_blocks.{n}.1", h)
            skips.append(h)
            n += 1
    h = res(s, f"{p}middle_block.0", h, **cond)
    return res(s, f"{p}middle_block.2", attend(s, f"{p}middle_block.1", h), **cond), skips


def released(s, x, t, z=None):
    levels = sum(f"output_blocks.{n}.0.in_layers.0.weight" in s for n in range(99)) // 3
    if z is None:
        h, _ = down(s, "encoder.", x, levels + 1)
        h = F.silu(norm(s, "encoder.out.0", h)).mean((2, 3), keepdim=True)
        return conv(s, "encoder.out.3", h).flatten(1)
    base = s["input_blocks.0.0.weight"].shape[0]
    angle = t[:, None] * torch.exp(-math.log(1e4) * torch.arange(base // 2) / (base // 2)).to(x)
    emb = F.silu(linear(s, "time_embed.time_embed.0", torch.cat([angle.cos(), angle.sin()], 1)))[:, :, 0, 0]
    emb = linear(s, "time_embed.time_embed.2", emb)[:, :, 0, 0]
    h, skips = down(s, "", x, levels, emb=emb, z=z)
    for n in range(3 * levels):
        k = f"output_blocks.{n}"
        h = res(s, f"{k}.0", torch.cat([h, skips.pop()], 1), emb, z)
        j = 1
        if f"{k}.1.qkv.weight" in s:
            h, j = attend(s, f"{k}.1", h), 2
        if f"{k}.{j}.in_layers.0.weight" in s:
            h = res(s, f"{k}.{j}", h, emb, z, doubled)
    return conv(s, "out.2", F.silu(norm(s, "out.0", h)))


@pytest.mark.parametrize("size", [64, 128, 256])
def test_forward_is_the_released_one(size):
    shapes = autoencoder(size, 2, 32)
    g = torch.Generator().manual_seed(size)
    state = {k: torch.randn(v, generator=g).double() * 0.3 for k, v in shapes.items()}
    with torch.device("meta"):
        net = DiffAENet(DiffAEConfig.from_state(state))
    net.load_state_dict(state, assign=True)
    net.requires_grad_(False).eval()
    x, t = torch.randn(2, 3, size, size).double(), torch.tensor([3, 800])
    code = net.encoder(x)
    torch.testing.assert_close(code, released(state, x, t), atol=1e-9, rtol=1e-9)
    out = released(state, x, t.double(), code)
    torch.testing.assert_close(
        net(x, t, code), out, atol=2e-5 * out.abs().max().item(), rtol=0
    )  # its step embedding is float32
    assert len(net.layers) == 1 + {64: 12, 128: 15, 256: 18}[size]


# --- variants
# ------------------------------------------------------------------------------------------------------------------


VARIANTS = [
    {},
    *({"levels": 3, "reading": r, "injection": i} for r, i in itertools.product("EDU", ("both", "enc", "dec"))),
]


@pytest.mark.parametrize(
    "more",
    [*VARIANTS, {"patch": 2}, {"levels": 3, "patch": 4, "encoder": (8, 16, 16, 16), "encoder_attention": (False,) * 4}],
)
def test_configuration_is_read_off_the_shapes(more):
    config = DiffAEConfig(**(SMALL | more))
    net = stirred(DiffAENet(config))
    assert DiffAEConfig.from_state(net.state_dict(), config.patch) == config
    size = 2 * config.multiple
    x = torch.randn(2, 3, size, size + config.multiple)
    code = net.encoder(x)
    assert code.shape == (2, *config.code_shape) and net(x, torch.tensor([1, 900]), code).shape == x.shape
    CodeSpace(config.code_shape, "0123456789ab").check(code)


@pytest.mark.parametrize(("reading", "injection"), list(itertools.product("EDU", ("both", "enc", "dec"))))
def test_every_level_of_the_code_is_used_and_read(reading, injection):
    net = stirred(DiffAENet(DiffAEConfig(**SMALL, levels=3, reading=reading, injection=injection))).double()
    x, t = torch.randn(1, 3, 16, 16).double(), torch.tensor([500])
    code = net.encoder(x).detach().requires_grad_()
    (grad,) = torch.autograd.grad(net(x, t, code).square().sum(), code)
    assert (grad.norm(dim=2) > 1e-6).all()
    assert ((net.encoder(-x) - code).norm(dim=2) > 1e-6).all()


def test_a_diffae_is_an_hdae_whose_levels_share_one_code():
    plain = stirred(DiffAENet(DiffAEConfig(**SMALL)))
    wide = DiffAENet(DiffAEConfig(**SMALL, levels=3))
    wide.load_state_dict(plain.state_dict(), strict=False)
    wide.eval()
    x, t, z = torch.randn(2, 3, 16, 16), torch.tensor([5, 700]), torch.randn(2, 12)
    assert torch.equal(plain(x, t, z), wide(x, t, z[:, None].expand(-1, 3, -1)))
    assert torch.equal(plain.encoder(x), wide.encoder(x)[:, -1])


@pytest.mark.parametrize(
    "change", ["encoder.out.3.weight", "output_blocks.0.0.in_layers.0.weight", "time_embed.time_embed.2.weight"]
)
def test_a_key_that_must_be_there(change):
    state = DiffAENet(DiffAEConfig(**SMALL)).state_dict()
    del state[change]
    with pytest.raises(ValueError, match="not a DiffAE"):
        DiffAEConfig.from_state(state)


# --- derivatives
# ---------------------------------------------------------------------------------------------------------------


def test_the_code_gets_its_first_gradient_at_the_third_step():
    torch.manual_seed(0)
    net = DiffAENet(DiffAEConfig(**SMALL))
    optimiser = torch.optim.Adam(net.parameters(), 1e-3)
    norms = []
    for _ in range(6):
        x, noise, t = torch.randn(4, 3, 16, 16), torch.randn(4, 3, 16, 16), torch.randint(0, 1000, (4,))
        code = net.encoder(x)
        code.retain_grad()
        optimiser.zero_grad()
        (net(0.6 * x + 0.8 * noise, t, code) - noise).square().mean().backward()
        norms.append(float(code.grad.abs().max()))
        optimiser.step()
    assert norms[0] == norms[1] == 0.0, "the last convolution of every block, and that of the network, start at zero"
    assert all(n > 0 for n in norms[3:])


@pytest.mark.parametrize("levels", [0, 3])
def test_forward_mode_through_every_layer_and_the_code(levels):
    net = stirred(DiffAENet(DiffAEConfig(**SMALL, levels=levels))).double().requires_grad_(False)
    x, t = torch.randn(2, 3, 16, 16).double(), torch.tensor([40, 600])
    code = net.encoder(x)
    whole = net(x, t, code)
    for layer in net.layers:
        h, decode = net.split(x, t, code, layer)
        torch.testing.assert_close(decode(h), whole, atol=1e-12, rtol=1e-12)
        v = torch.randn_like(h)
        _, slope = torch.func.jvp(decode, (h,), (v,))
        small = 1e-6 * v / v.norm()
        near = (decode(h + small) - decode(h - small)) / 2e-6 * v.norm()
        torch.testing.assert_close(slope, near, atol=1e-5, rtol=1e-4)
    u = torch.randn_like(code)
    _, slope = torch.func.jvp(lambda c: net(x, t, c), (code,), (u,))
    y = torch.randn_like(slope)
    _, pull = torch.func.vjp(lambda c: net(x, t, c), code)
    torch.testing.assert_close((slope * y).sum(), (u * pull(y)[0]).sum())
    batched = torch.func.vmap(lambda c: net(x, t, c))(torch.stack([code, code + u]))
    torch.testing.assert_close(batched[1], net(x, t, code + u))


def test_one_code_serves_a_batch_and_others_are_refused():
    net = stirred(DiffAENet(DiffAEConfig(**SMALL)))
    x, t, z = torch.randn(3, 3, 16, 16), torch.tensor([1, 2, 3]), torch.randn(1, 12)
    torch.testing.assert_close(net(x, t, z), net(x, t, z.expand(3, -1)))
    for bad in (torch.randn(3, 11), torch.randn(2, 12), torch.randn(3, 3, 12)):
        with pytest.raises(ValueError, match="encode with the same model"):
            net(x, t, bad)
