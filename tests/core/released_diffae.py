"""Names and shapes of the released DiffAE files, written from the description of their layout and not from the network
in core/.

And small files of that layout, with what Lightning pickles into them. tests/host runs this file in a process of its
own: it imports no sibling.
"""

import sys
import types
from collections import OrderedDict, defaultdict
from unittest import mock

import torch

BASE = {64: (64, (1, 2, 4, 8)), 128: (128, (1, 1, 2, 3, 4)), 256: (128, (1, 1, 2, 2, 4, 4))}


def _pair(name, *shape):
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def _res(name, inp, out, emb=0, code=0):
    shapes = _pair(f"{name}.in_layers.0", inp) | _pair(f"{name}.in_layers.2", out, inp, 3, 3)
    if emb:
        shapes |= _pair(f"{name}.emb_layers.1", 2 * out, emb) | _pair(f"{name}.cond_emb_layers.1", out, code)
        shapes |= _pair(f"{name}.out_layers.0", out) | _pair(f"{name}.out_layers.3", out, out, 3, 3)
    return shapes | (_pair(f"{name}.skip_connection", out, inp, 1, 1) if inp != out else {})


def _attn(name, c):
    return _pair(f"{name}.norm", c) | _pair(f"{name}.qkv", 3 * c, c, 1) | _pair(f"{name}.proj_out", c, c, 1)


def _down(prefix, size, widths, **cond):
    shapes, ch, skips, n = _pair(f"{prefix}input_blocks.0.0", widths[0], 3, 3, 3), widths[0], [widths[0]], 1
    for level, width in enumerate(widths):
        for _ in range(2):
            shapes |= _res(f"{prefix}input_blocks.{n}.0", ch, width, **cond)
            if size >> level == 16:
                shapes |= _attn(f"{prefix}input_blocks.{n}.1", width)
            ch, n = width, n + 1
            skips.append(ch)
        if level < len(widths) - 1:
            shapes |= _res(f"{prefix}input_blocks.{n}.0", ch, ch, **cond)
            n += 1
            skips.append(ch)
    for k, block in enumerate((_res, _attn, _res)):
        name = f"{prefix}middle_block.{k}"
        shapes |= block(name, ch) if block is _attn else _res(name, ch, ch, **cond)
    return shapes, skips


def autoencoder(size, base=0, wide=512):
    """Of U-Net and encoder. ``base`` and ``wide`` narrower than released make small files of the same layout."""
    released, mult = BASE[size]
    widths = [(base or released) * m for m in mult]
    shapes = _pair("time_embed.time_embed.0", wide, widths[0]) | _pair("time_embed.time_embed.2", wide, wide)
    half, skips = _down("", size, widths, emb=wide, code=wide)
    shapes |= half
    ch, n = widths[-1], 0
    for level in reversed(range(len(widths))):
        for j in range(3):
            name = f"output_blocks.{n}"
            shapes |= _res(f"{name}.0", ch + skips.pop(), widths[level], wide, wide)
            ch, n = widths[level], n + 1
            attend = size >> level == 16
            if attend:
                shapes |= _attn(f"{name}.1", ch)
            if level and j == 2:
                shapes |= _res(f"{name}.{1 + attend}", ch, ch, wide, wide)
    assert not skips
    shapes |= _pair("out.0", ch) | _pair("out.2", 3, ch, 3, 3)
    shapes |= _down("encoder.", size, [*widths, widths[-1]])[0]
    return shapes | _pair("encoder.out.0", widths[-1]) | _pair("encoder.out.3", wide, widths[-1], 1, 1)


def latent(layers, size=512, hidden=2048, emb=512, alias=True):
    """Of the latent network, with the second name that its files give every step embedding."""
    shapes = _pair("latent_net.time_embed.0", emb, 64) | _pair("latent_net.time_embed.2", emb, emb)
    for i in range(layers):
        name, last = f"latent_net.layers.{i}", i == layers - 1
        out = size if last else hidden
        shapes |= _pair(f"{name}.linear", out, size if i == 0 else hidden + size)
        if not last:
            shapes |= _pair(f"{name}.linear_emb", out, emb) | _pair(f"{name}.norm", out)
            shapes |= _pair(f"{name}.cond_layers.1", out, emb) if alias else {}
    return shapes


WIDE = 32  # of code and embedding in the small files


def filled(shapes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {k: torch.randn(v, generator=generator) * 0.1 for k, v in shapes.items()}


def weights(size=64, depth=0, seed=0):
    state = filled(autoencoder(size, 2, WIDE), seed)
    if depth:
        state |= filled(latent(depth, WIDE, 24, 16), seed + 1)
        for key in [k for k in state if "cond_layers.1" in k]:
            state[key] = state[key.replace("cond_layers.1", "linear_emb")]
    return state


STATISTICS = {"conds_mean": torch.linspace(-1, 1, WIDE)[None], "conds_std": torch.linspace(0.5, 2, WIDE)[None]}


class ModelCheckpoint:
    """The callback whose class Lightning pickles; where the file is read its module does not exist."""


ModelCheckpoint.__module__ = "pytorch_lightning.callbacks.model_checkpoint"
PARENTS = ("pytorch_lightning", "pytorch_lightning.callbacks", ModelCheckpoint.__module__)


def lightning(state, **beside):
    ema = {f"ema_model.{k}": v for k, v in state.items()}
    raw = {f"model.{k}": v + 1 for k, v in state.items()}
    return {
        "epoch": 3,
        "global_step": 1563562,
        "pytorch-lightning_version": "1.4.5",
        "state_dict": OrderedDict(raw | ema | {"x_T": torch.randn(32, 3, 8, 8)} | beside),
        "callbacks": {ModelCheckpoint: {"best_model_score": None, "dirpath": "checkpoints"}},
        "optimizer_states": [
            {"state": {0: {"step": 5, "exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]}
        ],
        "hyper_parameters": {"beatgans_loss_type": "mse", "path": defaultdict(list, a=[1])},
        "lr_schedulers": [],
    }


def saved(path, content, **kw):
    module = types.ModuleType(ModelCheckpoint.__module__)
    module.ModelCheckpoint = ModelCheckpoint
    with mock.patch.dict(sys.modules, dict.fromkeys(PARENTS, module)):
        torch.save(content, path, **kw)
    return path
