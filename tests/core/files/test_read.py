"""The reader of foreign files: every layout that is known."""

import json

import pytest
import torch
from diffusers import UNet2DModel

from core.denoiser import Denoiser
from core.files import checkpoint as read
from core.files.checkpoint import load_denoiser, load_network
from core.networks.ddpm import DDPMConfig, DDPMUNet
from core.networks.guided import GuidedUNet
from core.schedule import Schedule

from ..network_files import DDPM, FACE, GUIDED, read_checkpoint, refused, safe, same, saved, weights


@pytest.mark.parametrize(
    ("wrap", "found_in"),
    [
        (lambda s: s, ""),
        (lambda s: {f"module.{k}": v for k, v in s.items()}, ""),
        (lambda s: {"state_dict": s, "epoch": 3, "step": torch.tensor(7)}, "state_dict"),
        (lambda s: {"model": {f"module.{k}": v for k, v in s.items()}, "optimizer": {"state": {}}}, "model"),
        (lambda s: {"model": {k: v + 1 for k, v in s.items()}, "ema": s}, "ema"),
        (lambda s: {"state_dict": s, "ema": {"decay": 0.999}}, "state_dict"),
        (lambda s: {"state_dict": {"model": s}}, "state_dict/model"),
        (
            lambda s: [
                {f"module.{k}": v + 1 for k, v in s.items()},
                {"state": {0: {"exp_avg": torch.ones(2)}}},
                3,
                900,
                s,
            ],
            "item 4",
        ),
        (lambda s: (s, {"state": {}, "param_groups": [{"lr": 1e-4}]}, 3, 900), "item 0"),
        (lambda s: {k.replace("downsample.conv", "downsample.op"): v for k, v in s.items()}, ""),
    ],
    ids=["plain", "module", "state_dict", "model", "ema", "odd ema", "nested", "ddim row", "row without ema", "op"],
)
def test_wrappings(tmp_path, wrap, found_in):
    state = weights()
    path = saved(tmp_path / "m.ckpt", wrap(state))
    family, read_state = read_checkpoint(path)
    assert family == "ddpm" and same(read_state, state)
    net, info = load_network(path)
    assert info["found_in"] == found_in and same(net.state_dict(), state)


@pytest.mark.parametrize("name", ["m.safetensors", "m.sft", "m.pt", "m.pth", "m.ckpt", "m.bin", "M.PT"])
@pytest.mark.parametrize("config", [DDPM, GUIDED], ids=["ddpm", "guided"])
def test_every_extension_gives_the_same_network(tmp_path, name, config, device):
    state = weights(config)
    path = tmp_path / name
    safe(path, state) if path.suffix in read.SAFE else saved(path, state)
    model = load_denoiser(path, device)
    assert isinstance(model, Denoiser) and model.fingerprint == load_network(path)[1]["fingerprint"]
    assert all(torch.equal(v.cpu(), state[k]) for k, v in model.net.state_dict().items())
    assert not model.net.training and not any(p.requires_grad for p in model.net.parameters())
    assert model(torch.randn(2, 3, 8, 8, device=device), torch.tensor([1.0, 5.0], device=device)).shape == (2, 3, 8, 8)


def test_old_torch_files_and_parameters(tmp_path):
    state = weights()
    path = saved(
        tmp_path / "old.pth", {k: torch.nn.Parameter(v) for k, v in state.items()}, _use_new_zipfile_serialization=False
    )
    assert same(read_checkpoint(path)[1], state)


def test_what_the_family_implies(tmp_path):
    net, info = load_network(safe(tmp_path / "a.safetensors", weights()))
    assert isinstance(net, DDPMUNet) and net.config == DDPM
    assert (info["family"], info["prediction"], info["schedule"], info["learned_sigma"]) == (
        "ddpm",
        "eps",
        Schedule("linear"),
        False,
    )
    assert info["image_size"] == 32  # one level of attention, the second: 16 pixels there
    net, info = load_network(safe(tmp_path / "b.safetensors", weights(GUIDED)))
    assert isinstance(net, GuidedUNet) and net.config == GUIDED and info["learned_sigma"] and info["family"] == "guided"
    net, _ = load_network(tmp_path / "b.safetensors", legacy=False, head_channels=32)
    assert net.config.legacy is False and net.config.head_channels == 32


@pytest.mark.parametrize(
    ("attention", "size"),
    [
        ((False,) * 4 + (True, False), 256),  # celeba_hq.ckpt, P2
        ((False,) * 3 + (True,) * 3, 256),  # 256x256_diffusion_uncond.pt
        ((False, True, True, True), 64),  # 64x64_diffusion.pt
        ((False, True, False, False), 32),  # cifar10
        ((False, False, False), 32),
    ],
)
def test_guessed_image_size(attention, size):
    assert read._guess_size(attention) == size


@pytest.mark.parametrize("old", [False, True], ids=["to_q", "query"])
def test_diffusers_folder(tmp_path, old):
    def unet(**kw):
        common = {
            "sample_size": 16,
            "block_out_channels": (32, 64),
            "layers_per_block": 1,
            "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
            "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
            "attention_head_dim": None,
            "norm_eps": 1e-6,
            "freq_shift": 1,
            "flip_sin_to_cos": False,
            "downsample_padding": 0,
        }
        return UNet2DModel(**{**common, **kw}).eval()

    net = unet()
    net.save_pretrained(tmp_path, safe_serialization=not old)
    path = tmp_path / ("diffusion_pytorch_model.bin" if old else "diffusion_pytorch_model.safetensors")
    if old:
        state = net.state_dict()
        for new, name in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
            state = {k.replace(f".{new}.", f".{name}."): v for k, v in state.items()}
        torch.save(state, path)
    ours, info = load_network(path)
    assert (info["family"], info["image_size"]) == ("ddpm", 16)
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([0, 613])
    with torch.no_grad():
        torch.testing.assert_close(ours(x, t), net(x, t).sample, rtol=1e-3, atol=1e-4)
    ddpm = safe(tmp_path / "native.safetensors", ours.state_dict())
    assert load_network(ddpm)[1]["fingerprint"] == info["fingerprint"]  # one model, whatever its file calls the weights
    unet(attention_head_dim=8, flip_sin_to_cos=True).save_pretrained(
        tmp_path, safe_serialization=not old
    )  # diffusers' own defaults
    refused(path, r"config.json beside it sets .*attention_head_dim = 8, flip_sin_to_cos = True")
    (tmp_path / "config.json").write_text("[" * 50_000)
    assert load_network(path)[1]["image_size"] == 32


def test_embedded_face_model(tmp_path):
    config = DDPMConfig(3, 3, (32, 64), 1, (False, True), patch=4)
    state = {k: v.half() for k, v in weights(config).items()}
    path = safe(tmp_path / "face.safetensors", state, {"hspace": json.dumps({**FACE, "betas": "cosine", "steps": 500})})
    net, info = load_network(path)
    assert net.config == config and net.multiple == 8
    assert (info["prediction"], info["schedule"], info["image_size"]) == ("v", Schedule("cosine", 500), 64)
    model = load_denoiser(path)
    assert model.prediction == "v" and model(torch.zeros(1, 3, 64, 64), torch.ones(1)).shape == (1, 3, 64, 64)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "hspace_directions"},
        {"version": 2},
        {"prediction": "x0"},
        {"patch": 0},
        {"patch": "4"},
        {"patch": True},
        {"betas": "sigmoid"},
        {"betas": ["linear"]},
        {"beta_end": 2.0},
        {"beta_start": 0.5},
        {"beta_start": float("nan")},
        {"steps": None},
        {"patch": 2},
        {"size": 10**9},
        {"steps": 10**12},
    ],
    ids=str,
)
def test_embedded_metadata_is_checked(tmp_path, change):
    state = weights(DDPMConfig(3, 3, (32, 64), 1, (False, True), patch=4))
    refused(
        safe(tmp_path / "face.safetensors", state, {"hspace": json.dumps({**FACE, **change})}), "face.safetensors: "
    )


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 99_999, '"' + "x" * 200_000])
def test_embedded_metadata_that_is_no_json(tmp_path, text):
    refused(safe(tmp_path / "face.safetensors", weights(), {"hspace": text}), "load it with the node made for it")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_precisions(tmp_path, dtype):
    state = {k: v.to(dtype) for k, v in weights().items()}
    path = saved(tmp_path / "m.pt", state)
    net, _ = load_network(path)
    assert {p.dtype for p in net.parameters()} == {torch.float32}
    assert {p.dtype for p in load_network(path, torch.float64)[0].parameters()} == {torch.float64}
    if dtype != torch.bfloat16:
        assert load_denoiser(path).fingerprint == load_denoiser(path, dtype=torch.float16).fingerprint


def test_weights_do_not_depend_on_the_file_afterwards(tmp_path):
    for path in (saved(tmp_path / "m.pt", weights()), safe(tmp_path / "m.safetensors", weights())):
        net, _ = load_network(path)
        before = net.conv_in.weight.clone()
        path.write_bytes(b"\0" * path.stat().st_size)
        assert torch.equal(net.conv_in.weight, before)


def test_a_network_loaded_under_inference_mode_can_be_differentiated(tmp_path):
    path = safe(tmp_path / "m.safetensors", weights())
    with torch.inference_mode():
        model = load_denoiser(path)
    x = torch.randn(1, 3, 8, 8, requires_grad=True)
    model(x, torch.ones(1)).sum().backward()
    assert x.grad.abs().sum() > 0


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_class_conditional_networks_run_without_a_label(tmp_path, suffix):
    state = weights(GUIDED)
    labelled = {**state, "label_emb.weight": torch.randn(1000, 128)}
    path = (
        saved(tmp_path / "imagenet.pt", labelled)
        if suffix == ".pt"
        else safe(tmp_path / "imagenet.safetensors", labelled)
    )
    net, info = load_network(path, head_channels=32)
    plain, other = load_network(safe(tmp_path / "plain.safetensors", state), head_channels=32)
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([3, 700])
    assert torch.equal(net(x, t), plain(x, t)) and info == other | {"found_in": info["found_in"]}


def test_one_tensor_under_two_names_is_no_forgery(tmp_path):
    state = weights()
    key, twin = "mid.block_1.conv1.weight", "mid.block_2.conv1.weight"
    state[twin] = state[key]
    path = saved(tmp_path / "m.pt", state)
    assert path.stat().st_size < sum(v.numel() * 4 for v in state.values())
    assert same(load_network(path)[0].state_dict(), state)
