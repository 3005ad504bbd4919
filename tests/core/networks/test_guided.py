"""The guided-diffusion family: the published formulas, its configuration, its attention."""

import math

import pytest
import torch
from torch.nn import functional as F

from core.networks.ddpm import DDPMConfig
from core.networks.guided import AttnBlock, GuidedConfig, GuidedUNet

from .nets import ILVR_PLAIN, OPENAI, P2, make, randomise, sample


def reference_guided(state, x, t, heads_of, legacy):
    """The published formulas, driven by the names in the state dict alone."""

    def norm(name, h):
        return F.group_norm(h, 32, state[f"{name}.weight"], state[f"{name}.bias"], 1e-5)

    def affine(name, h, **kw):
        w, b = state[f"{name}.weight"], state[f"{name}.bias"]
        return F.linear(h, w, b) if w.dim() == 2 else F.conv1d(h, w, b) if w.dim() == 3 else F.conv2d(h, w, b, **kw)

    def res(name, h, resample):
        out = F.silu(norm(f"{name}.in_layers.0", h))
        out, h = resample(out), resample(h)
        out = affine(f"{name}.in_layers.2", out, padding=1)
        e = affine(f"{name}.emb_layers.1", F.silu(emb))[:, :, None, None]
        c = out.shape[1]
        if e.shape[1] == 2 * c:
            out = norm(f"{name}.out_layers.0", out) * (1 + e[:, :c]) + e[:, c:]
        else:
            out = norm(f"{name}.out_layers.0", out + e)
        out = affine(f"{name}.out_layers.3", F.silu(out), padding=1)
        return (affine(f"{name}.skip_connection", h) if f"{name}.skip_connection.weight" in state else h) + out

    def attend(name, h):
        b, c, height, width = h.shape
        qkv, n = affine(f"{name}.qkv", norm(f"{name}.norm", h).flatten(2)), heads_of(c)
        d, heads = c // n, []
        for i in range(n):
            starts = [(3 * i + j) * d for j in range(3)] if legacy else [j * c + i * d for j in range(3)]
            q, k, v = (qkv[:, s : s + d] for s in starts)
            heads.append(v @ torch.softmax(q.transpose(1, 2) @ k / math.sqrt(d), -1).transpose(1, 2))
        return h + affine(f"{name}.proj_out", torch.cat(heads, 1)).reshape(b, c, height, width)

    def block(name, h, resample=lambda h: h):
        j = 0
        while any(k.startswith(f"{name}.{j}.") for k in state):
            part = f"{name}.{j}"
            if f"{part}.qkv.weight" in state:
                h = attend(part, h)
            elif f"{part}.in_layers.0.weight" in state:
                last = not any(k.startswith(f"{name}.{j + 1}.") for k in state)
                h = res(part, h, resample if last else lambda h: h)
            elif f"{part}.op.weight" in state:
                h = affine(f"{part}.op", h, stride=2, padding=1)
            elif f"{part}.conv.weight" in state:
                h = affine(f"{part}.conv", F.interpolate(h, scale_factor=2), padding=1)
            else:
                h = affine(part, h, padding=1)
            j += 1
        return h

    half = state["time_embed.0.weight"].shape[1] // 2
    angle = t[:, None].double() * torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float64) / half)
    emb = affine("time_embed.2", F.silu(affine("time_embed.0", torch.cat([angle.cos(), angle.sin()], 1))))
    total = len({k.split(".")[1] for k in state if k.startswith("output_blocks.")})
    ups = [k for k in range(total) if any(f"output_blocks.{k}.{j}.in_layers.0.weight" in state for j in (1, 2))]
    per_level = next(k for k in range(1, total + 1) if ups == list(range(k - 1, total - 1, k))) if ups else 0
    h, skips = x, []
    for k in range(total):
        h = block(
            f"input_blocks.{k}",
            h,
            (lambda h: F.avg_pool2d(h, 2)) if per_level and k and k % per_level == 0 else lambda h: h,
        )
        skips.append(h)
    h = block("middle_block", h)
    for k in range(total):
        h = block(
            f"output_blocks.{k}",
            torch.cat([h, skips.pop()], 1),
            (lambda h: F.interpolate(h, scale_factor=2)) if k in ups else lambda h: h,
        )
    return affine("out.2", F.silu(norm("out.0", h)), padding=1)


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("config", [P2, OPENAI, ILVR_PLAIN], ids=["p2", "openai", "plain"])
def test_guided_equals_the_published_formulas(config, legacy):
    net = GuidedUNet(GuidedConfig(**{**vars(config), "legacy": legacy})).double().eval()
    state = randomise(net).state_dict()
    x, t = sample("cpu", b=2)
    t = torch.zeros_like(t) + torch.tensor([0.0, 1.0])  # small steps: the float32 frequencies are exact to 1e-7 there
    with torch.no_grad():
        mine, theirs = net(x, t), reference_guided(state, x, t, lambda c: c // config.head_channels, legacy)
        other = reference_guided(state, x, t, lambda c: c // config.head_channels, not legacy)
    assert mine.shape[1] == config.out_channels
    torch.testing.assert_close(mine[:1], theirs[:1], rtol=0, atol=1e-10)
    torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-5)
    assert (mine - other).abs().max() > 1e-2  # the order of q, k and v matters, so the parameter does


def test_guided_takes_classes_and_refuses_misfitting_heads():
    state = make(P2, "cpu").state_dict()
    # Released networks of ImageNet run without a label.
    assert GuidedConfig.from_state({**state, "label_emb.weight": torch.zeros(10, 128)}) == GuidedConfig.from_state(
        state
    )
    with pytest.raises(ValueError, match="set head_channels"):
        GuidedConfig.from_state(state, head_channels=48)
    with pytest.raises(ValueError, match="not a guided-diffusion"):
        GuidedConfig.from_state({"time_embed.0.weight": torch.zeros(128, 32)})
    with pytest.raises(ValueError, match="not a DDPM"):
        DDPMConfig.from_state({"temb.dense.0.weight": torch.zeros(128, 32)})


def test_attention_block_is_permutation_equivariant():
    block = randomise(AttnBlock(64, 16, legacy=True)).double().eval()
    x = torch.randn(1, 64, 2, 3, dtype=torch.float64)
    order = torch.randperm(6)
    with torch.no_grad():
        torch.testing.assert_close(
            block(x.flatten(2)[..., order].reshape(x.shape)), block(x).flatten(2)[..., order].reshape(x.shape)
        )
