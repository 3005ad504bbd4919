"""Files of diffusion autoencoders: the released layouts, hostile ones, and our own."""

import json
import math
import sys
from functools import partial

import pytest
import torch
from safetensors.torch import load_file, save_file

from core.files.diffae import load_autoencoder, save_autoencoder
from core.files.diffae_parts import read_parts, read_statistics
from core.files.network import compare
from core.networks.diffae import DiffAEConfig, DiffAENet
from core.networks.latent_mlp import SCHEDULE, LatentConfig, LatentMLP
from core.schedule import Schedule

from .. import network_files
from ..released_diffae import PARENTS, STATISTICS, WIDE, autoencoder, filled, latent, lightning, saved, weights

refused = partial(network_files.refused, load=load_autoencoder)

# --- layouts
# --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "keys", "total", "unet"),
    [(64, 506, 90_839_235, 71_518_723), (128, 608, 128_545_155, 103_871_619), (256, 706, 168_492_291, 138_341_891)],
)
def test_released_configurations_are_read_off_the_shapes(size, keys, total, unet):
    shapes = autoencoder(size)
    count = {k: math.prod(v) for k, v in shapes.items()}
    assert len(shapes) == keys and sum(count.values()) == total
    assert sum(n for k, n in count.items() if not k.startswith("encoder.")) == unet
    state = {k: torch.empty(v, device="meta") for k, v in shapes.items()}
    config = DiffAEConfig.from_state(state)
    assert config.code_shape == (512,) and config.blocks == 2 and config.emb == 512
    assert [size >> i for i, used in enumerate(config.attention) if used] == [16]
    with torch.device("meta"):
        net = DiffAENet(config)
    compare(net.state_dict(), state)  # raises if a name or a shape differs


@pytest.mark.parametrize(("layers", "total"), [(10, 54_109_696), (20, 117_106_176)])
def test_released_latent_networks(layers, total):
    shapes = latent(layers, alias=False)
    assert sum(math.prod(v) for v in shapes.values()) == total
    state = {k.removeprefix("latent_net."): torch.empty(v, device="meta") for k, v in shapes.items()}
    config = LatentConfig.from_state(state)
    assert config == LatentConfig(512, 2048, layers, 512, 64)
    with torch.device("meta"):
        compare(LatentMLP(config).state_dict(), state)
    assert SCHEDULE.abar[-1] == pytest.approx(0.992**1000)


@pytest.mark.parametrize("size", [64, 128, 256])
@pytest.mark.parametrize("depth", [0, 4])
def test_lightning_files(tmp_path, size, depth):
    state = weights(size, depth)
    made = load_autoencoder(saved(tmp_path / "last.ckpt", lightning(state, **(STATISTICS if depth else {}))))
    assert made.image_size == size and made.prediction == "eps" and made.schedule == Schedule("linear")
    net = made.net.state_dict()
    assert all(torch.equal(net[k], v) for k, v in state.items() if not k.startswith("latent_net.")), (
        "the average, not the raw weights"
    )
    assert not made.net.training and not any(p.requires_grad for p in made.net.parameters())
    assert not any(name in sys.modules for name in PARENTS)
    assert made.space.fingerprint == made.fingerprint and len(made.fingerprint) == 12
    if depth:
        own = made.latent.state_dict()
        assert all(
            torch.equal(own[k.removeprefix("latent_net.")], state[k])
            for k in state
            if "latent_net" in k and "cond_layers" not in k
        )
        assert torch.equal(made.space.mean, STATISTICS["conds_mean"][0]) and torch.equal(
            made.space.std, STATISTICS["conds_std"][0]
        )
    else:
        assert made.latent is None and made.space.mean is None
    x = torch.randn(1, 3, size, size)
    assert made.net(x, torch.tensor([7]), made.net.encoder(x)).shape == x.shape


def test_the_fingerprint_is_of_the_autoencoder_alone(tmp_path):
    plain = load_autoencoder(saved(tmp_path / "a.ckpt", lightning(weights())))
    more = load_autoencoder(
        saved(tmp_path / "b.ckpt", lightning(weights() | {k: v for k, v in weights(64, 3).items() if "latent" in k}))
    )
    other = load_autoencoder(saved(tmp_path / "c.ckpt", lightning(weights(seed=5))))
    assert plain.fingerprint == more.fingerprint != other.fingerprint


def test_raw_weights_when_there_is_no_average_and_plain_files(tmp_path):
    state = weights()
    content = lightning(state)
    content["state_dict"] = {k: v for k, v in content["state_dict"].items() if not k.startswith("ema_model")}
    raw = load_autoencoder(saved(tmp_path / "raw.ckpt", content))
    assert torch.equal(raw.net.out[2].weight, state["out.2.weight"] + 1)
    for name in ("plain.pt", "plain.safetensors"):
        path = tmp_path / name
        save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
        assert (
            load_autoencoder(path).fingerprint
            == load_autoencoder(saved(tmp_path / "l.ckpt", lightning(state))).fingerprint
        )


def test_statistics_from_every_file_that_has_them(tmp_path):
    ae = saved(tmp_path / "last.ckpt", lightning(weights()))
    head = {"classifier.weight": torch.randn(40, WIDE), "classifier.bias": torch.randn(40)}
    average = {f"ema_{k}": v * 0 for k, v in head.items()}
    files = {
        "cls.ckpt": {**lightning({}), "state_dict": STATISTICS | head | average},
        "latent.pkl": {"conds": torch.randn(100, WIDE), **STATISTICS},
        "latent.ckpt": lightning(weights(64, 3), **STATISTICS),
        "flat.pt": {k: v[0] for k, v in STATISTICS.items()},
    }
    for name, content in files.items():
        path = saved(tmp_path / name, content)
        made = load_autoencoder(ae, path)
        assert torch.equal(made.space.mean, STATISTICS["conds_mean"][0]), name
        assert torch.equal(read_statistics(path)[1], STATISTICS["conds_std"][0])
    assert torch.equal(read_parts(tmp_path / "cls.ckpt").heads["weight"], head["classifier.weight"])
    refused(tmp_path / "cls.ckpt", "no network, only what goes with one")
    refused(ae, "no conds_mean and conds_std", load=read_statistics)
    other = saved(tmp_path / "other.ckpt", {"state_dict": {k: torch.ones(1, WIDE + 1) for k in STATISTICS}})
    refused(
        ae,
        f"codes are {WIDE} numbers, the statistics in other.ckpt are of {WIDE + 1}",
        load=partial(load_autoencoder, statistics=other),
    )


# --- wrong files
# ------------------------------------------------------------------------------------------------------------


def without(key):
    def change(state):
        state.pop(key)

    return change


def setting(key, value):
    def change(state):
        state[key] = value(state[key]) if callable(value) else value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("ema_model.out.2.bias"), "1 weights missing: out.2.bias"),
        (without("ema_model.encoder.middle_block.0.in_layers.2.weight"), "missing"),
        (setting("ema_model.out.2.extra", torch.ones(1)), "1 weights unexpected: out.2.extra"),
        (setting("net.other", torch.ones(1)), "unexpected: net.other"),
        (
            setting("ema_model.out.2.weight", lambda v: v[:2]),
            "another shape: out.2.weight .2, 2, 3, 3. instead of .3, 2, 3, 3.",
        ),
        (setting("ema_model.out.2.weight", lambda v: v / 0), "NaN or infinite values .out.2.weight"),
        (setting("conds_std", lambda v: v * float("nan")), "NaN or infinite values .conds_std"),
        (setting("conds_std", lambda v: v * 0), "standard deviations must be above 0"),
        (setting("conds_mean", lambda v: v[:, :5]), "mean must be 32 finite values, got .5."),
        (without("conds_std"), "only one is there"),
        (setting("ema_model.out.2.weight", lambda v: v.to(torch.int8)), "stored as int8"),
        (setting("ema_model.out.2.weight", lambda v: v.to_sparse()), "but only plain float16"),
        (
            setting("ema_model.encoder.out.3.weight", lambda v: torch.zeros(1).expand(10**6, 10**6, 1, 1)),
            "claim more data",
        ),
        (
            setting("ema_model.latent_net.layers.1.cond_layers.1.bias", lambda v: v + 1),
            "two copies of latent_net.layers.1.linear_emb.bias differ",
        ),
        (without("ema_model.latent_net.layers.2.linear.weight"), "missing|unexpected"),
        (setting("out.2.weight", torch.ones(1)), "two weights mean the same thing"),
        (setting("ema_model.encoder.out.3.weight", lambda v: v[:, 0, 0, 0]), "original|another shape"),
    ],
)
def test_wrong_weights(tmp_path, change, message):
    content = lightning(weights(64, 4), **STATISTICS)
    change(content["state_dict"])
    refused(saved(tmp_path / "last.ckpt", content), message)


def test_other_files(tmp_path):
    other = {"temb.dense.0.weight": torch.ones(2, 2), "conv_in.weight": torch.ones(2)}
    refused(saved(tmp_path / "ddpm.ckpt", other), "unknown weights .* expected a diffusion autoencoder")
    refused(saved(tmp_path / "list.pt", [1, 2]), "no dictionary of weights")
    refused(
        saved(tmp_path / "sd.ckpt", {"state_dict": {"model.diffusion_model.out.2.weight": torch.ones(2)}}),
        "unknown weights",
    )
    save_file(
        other,
        tmp_path / "face.safetensors",
        metadata={"hspace": json.dumps({"format": "hspace_face_model", "version": 1})},
    )
    refused(
        tmp_path / "face.safetensors", "marked as 'hspace_face_model' of this pack, not as a face diffae of version 1"
    )
    refused(tmp_path / "none.pkl", "no such file")
    with pytest.raises(ValueError, match=r"code.* of 24|24 numbers"):
        state = weights() | {k: v for k, v in filled(latent(3, 24, 16, 16, alias=False)).items()}
        load_autoencoder(saved(tmp_path / "l.pt", state))


# --- ours
# -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("half", [False, True])
def test_our_files_come_back(tmp_path, half):
    made = load_autoencoder(saved(tmp_path / "last.ckpt", lightning(weights(64, 4), **STATISTICS)))
    again = load_autoencoder(save_autoencoder(tmp_path / "own.safetensors", made, half))
    assert (again.prediction, again.schedule, again.image_size) == (made.prediction, made.schedule, made.image_size)
    assert again.net.config == made.net.config and again.fingerprint == made.fingerprint
    for a, b in ((made.net, again.net), (made.latent, again.latent)):
        for (k, v), w in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
            assert torch.equal(v.half().float() if half else v, w), k
    assert torch.equal(again.space.mean, made.space.mean) and torch.equal(again.space.std, made.space.std)
    assert not any("cond_layers" in k for k in load_file(tmp_path / "own.safetensors") if "latent" in k)


def test_prediction_patch_and_schedule_are_kept(tmp_path):
    torch.manual_seed(3)
    config = DiffAEConfig(
        (32, 64),
        (32, 64, 64),
        (False, True),
        (False, False, True),
        1,
        16,
        8,
        levels=2,
        reading="U",
        injection="dec",
        patch=2,
    )
    net = DiffAENet(config)
    made = load_autoencoder(saved(tmp_path / "a.ckpt", lightning(weights())))
    made.net, made.prediction, made.schedule, made.image_size = (
        net,
        "v",
        Schedule("scaled_linear", 500, 0.001, 0.01),
        48,
    )
    again = load_autoencoder(save_autoencoder(tmp_path / "own.safetensors", made))
    assert (
        again.net.config == config
        and again.prediction == "v"
        and again.schedule == made.schedule
        and again.image_size == 48
    )
    assert again.space.shape == (2, 8)


def test_metadata_is_checked(tmp_path):
    made = load_autoencoder(saved(tmp_path / "a.ckpt", lightning(weights())))
    path = save_autoencoder(tmp_path / "own.safetensors", made)
    facts = {
        "format": "hspace_face_diffae",
        "version": 1,
        "prediction": "eps",
        "patch": 1,
        "size": 64,
        "betas": "linear",
        "beta_start": 1e-4,
        "beta_end": 0.02,
        "steps": 1000,
    }
    for change in ({"prediction": "x0"}, {"patch": 0}, {"size": "64"}, {"steps": 1}, {"version": 2}, {"beta_end": 2.0}):
        save_file(load_file(path), tmp_path / "bad.safetensors", metadata={"hspace": json.dumps(facts | change)})
        refused(tmp_path / "bad.safetensors", "out of range|of version 1")


def test_a_network_loaded_under_inference_mode_can_be_differentiated(tmp_path):
    path = saved(tmp_path / "last.ckpt", lightning(weights(64, 3), **STATISTICS))
    with torch.inference_mode():
        made = load_autoencoder(path)
    code = made.net.encoder(torch.zeros(1, 3, 64, 64)).requires_grad_()
    made.net(torch.zeros(1, 3, 64, 64), torch.tensor([3]), code).sum().backward()
    assert code.grad.abs().sum() > 0
    assert made.space.normalise(code).requires_grad


def test_half_precision_that_overflows(tmp_path):
    state = weights()
    state["out.2.weight"][0, 0, 0, 0] = 1e6
    path = saved(tmp_path / "last.ckpt", lightning(state))
    load_autoencoder(path)
    with pytest.raises(ValueError, match=r"once they are torch\.float16; load it in float32"):
        load_autoencoder(path, dtype=torch.float16)


def test_a_file_stripped_to_its_average_is_read(tmp_path):
    state = weights(depth=4)
    content = {"state_dict": {f"ema_model.{k}": v for k, v in state.items()} | STATISTICS}
    path = saved(tmp_path / "stripped.ckpt", content)
    assert sum(v.numel() * 4 for v in state.values()) > 0
    names = [k for k in state if ".cond_layers.1." in k]
    assert names and all(
        state[k].data_ptr() == state[k.replace(".cond_layers.1.", ".linear_emb.")].data_ptr() for k in names
    )
    made = load_autoencoder(path)
    assert made.latent is not None and torch.equal(made.net.state_dict()["out.2.weight"], state["out.2.weight"])
    assert torch.equal(made.space.mean, STATISTICS["conds_mean"].flatten())
    expanded = {**content["state_dict"], "ema_model.out.2.bias": torch.zeros(1).expand(3)}
    refused(saved(tmp_path / "stripped.ckpt", {"state_dict": expanded}), "claim more data than the file holds")
