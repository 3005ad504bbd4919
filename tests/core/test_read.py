"""The reader of foreign files: every layout that is known, and what everything else gets."""

import json
import pickle
import re
import zipfile
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DModel
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from core.denoiser import Denoiser
from core.networks import read
from core.networks.ddpm import DDPMConfig, DDPMUNet
from core.networks.guided import GuidedConfig, GuidedUNet
from core.networks.read import load_denoiser, load_network, read_checkpoint
from core.schedule import Schedule

DDPM = DDPMConfig(3, 3, (32, 64), 1, (False, True))
GUIDED = GuidedConfig(3, 6, 32, 32, (32, 64), 1, (False, True))
FACE = {
    "format": "hspace_face_model", "version": 1, "prediction": "v", "patch": 4, "size": 64, "betas": "linear", "beta_start": 1e-4,
    "beta_end": 0.02, "steps": 1000, "images": 1, "minutes": 0.1, "device": "cpu",
}  # fmt: skip


def weights(config=DDPM):
    torch.manual_seed(5)
    net = DDPMUNet(config) if isinstance(config, DDPMConfig) else GuidedUNet(config)
    return {k: v.detach().clone() for k, v in net.state_dict().items()}


def safe(path: Path, state, meta=None) -> Path:
    save_file({k: v.contiguous() for k, v in state.items()}, path, metadata=meta)
    return path


def saved(path: Path, content, **kw) -> Path:
    torch.save(content, path, **kw)
    return path


def refused(path, message, load=load_denoiser):
    with pytest.raises(ValueError, match=message) as caught:
        load(path)
    text = str(caught.value)
    assert Path(path).name in text and len(text) < 700 and "weights_only" not in text
    return text


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


# --- what is read ---------------------------------------------------------------------------------------------------------


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
        (lambda s: [{f"module.{k}": v + 1 for k, v in s.items()}, {"state": {0: {"exp_avg": torch.ones(2)}}}, 3, 900, s], "item 4"),
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
    path = saved(tmp_path / "old.pth", {k: torch.nn.Parameter(v) for k, v in state.items()}, _use_new_zipfile_serialization=False)
    assert same(read_checkpoint(path)[1], state)


def test_what_the_family_implies(tmp_path):
    net, info = load_network(safe(tmp_path / "a.safetensors", weights()))
    assert isinstance(net, DDPMUNet) and net.config == DDPM
    assert (info["family"], info["prediction"], info["schedule"], info["learned_sigma"]) == ("ddpm", "eps", Schedule("linear"), False)
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
            "sample_size": 16, "block_out_channels": (32, 64), "layers_per_block": 1,
            "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
            "up_block_types": ("AttnUpBlock2D", "UpBlock2D"), "attention_head_dim": None, "norm_eps": 1e-6, "freq_shift": 1,
            "flip_sin_to_cos": False, "downsample_padding": 0,
        }  # fmt: skip
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
    unet(attention_head_dim=8, flip_sin_to_cos=True).save_pretrained(tmp_path, safe_serialization=not old)  # diffusers' own defaults
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
        {"format": "hspace_directions"}, {"version": 2}, {"prediction": "x0"}, {"patch": 0}, {"patch": "4"}, {"patch": True},
        {"betas": "sigmoid"}, {"betas": ["linear"]}, {"beta_end": 2.0}, {"beta_start": 0.5}, {"beta_start": float("nan")},
        {"steps": None}, {"patch": 2}, {"size": 10**9}, {"steps": 10**12},
    ],
    ids=str,
)  # fmt: skip
def test_embedded_metadata_is_checked(tmp_path, change):
    state = weights(DDPMConfig(3, 3, (32, 64), 1, (False, True), patch=4))
    refused(safe(tmp_path / "face.safetensors", state, {"hspace": json.dumps({**FACE, **change})}), "face.safetensors: ")


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


# --- what is refused ------------------------------------------------------------------------------------------------------


def sd(prefix=""):
    return {
        f"{prefix}time_embed.0.weight": torch.zeros(8, 4),
        f"{prefix}input_blocks.0.0.weight": torch.zeros(4, 4, 3, 3),
        f"{prefix}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": torch.zeros(4, 8),
        f"{prefix}output_blocks.0.0.in_layers.0.weight": torch.zeros(4),
    }


def four_channels():
    return weights(DDPMConfig(4, 4, (32,), 1, (False,)))


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (sd, "load it with the stock Load Checkpoint node"),
        (lambda: sd("model.diffusion_model."), "load it with the stock Load Checkpoint node"),
        (lambda: {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(1)}, "load it with the stock Load Checkpoint node"),
        (lambda: {"down_blocks.0.attentions.0.transformer_blocks.0.norm1.weight": torch.zeros(1)}, "stock Load Checkpoint node"),
        (four_channels, "takes 4 channels and returns 4, expected 3 .*stock Load Checkpoint node"),
        (lambda: weights(DDPMConfig(1, 1, (32,), 1, (False,))), "only unconditional RGB models"),
        (lambda: {**weights(GUIDED), "label_emb.weight": torch.zeros(10, 128)}, "conditioned on a class"),
        (lambda: {k: v for k, v in weights(GUIDED).items() if not k.startswith("output_blocks")}, "encoder of a classifier"),
        (lambda: {"conv1.weight": torch.zeros(512, 512, 1, 1), "temb_proj.weight": torch.zeros(512, 512)}, "unknown weights .conv1.weight"),
        (lambda: {f"layer\n{i}" * 99: torch.zeros(1) for i in range(99)}, "unknown weights .* and 94 more"),
        (lambda: {**weights(), "mid.attn_2.q.weight": torch.zeros(1)}, "1 weights unexpected: mid.attn_2.q.weight"),
        (lambda: {k: v for k, v in weights().items() if "norm_out" not in k}, "2 weights missing: norm_out.weight, norm_out.bias"),
        (lambda: {**weights(), "mid.block_1.conv1.weight": torch.zeros(64, 64, 1, 1)}, r"\[64, 64, 1, 1\] instead of \[64, 64, 3, 3\]"),
        (lambda: {f"down.{i}.extra": torch.zeros(1) for i in range(9)} | weights(), "9 weights unexpected: .* and 4 more"),
        (lambda: {**weights(), "conv_out.bias": torch.tensor([0.0, float("nan"), 0.0])}, "NaN or infinite values .conv_out.bias"),
        (lambda: {**weights(), "conv_out.bias": torch.tensor([0.0, float("inf"), 0.0])}, "NaN or infinite values"),
        (lambda: {**weights(), "conv_in.weight": torch.zeros(32, 3, 3, 3, dtype=torch.float8_e4m3fn)}, "float8_e4m3fn.*unquantised"),
        (lambda: {**weights(), "conv_in.weight": torch.zeros(32, 3, 3, 3, dtype=torch.int8)}, "int8.*unquantised"),
        (lambda: {**weights(), "conv_in.weight": torch.zeros(32, 3, 3, 3, dtype=torch.complex64)}, "complex64"),
        (lambda: {**weights(), "conv_in.weight": torch.zeros(0, 3, 3, 3)}, "conv_in.weight is empty"),
        (lambda: {**weights(), "conv_in.weight": torch.tensor(1.0)}, "not a DDPM U-Net"),
        (lambda: {"temb.dense.0.weight": torch.zeros(8, 2)}, "not a DDPM U-Net: .*down.0.block.0.conv1.weight"),
        (lambda: {k: torch.zeros(1) for k in ("time_embed.0.weight", "input_blocks.0", "output_blocks.0")}, "not a guided"),
        (lambda: {**weights(), "down.0.downsample.op.weight": torch.zeros(1)}, "two weights mean the same thing"),
        (lambda: {k: torch.zeros([33 if n == 32 else n for n in v.shape]) for k, v in weights().items()}, "must be divisible"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_wrong_weights(tmp_path, state, message, suffix):
    path = tmp_path / f"wrong{suffix}"
    safe(path, state()) if suffix == ".safetensors" else saved(path, state())
    refused(path, message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (3, "no dictionary of weights"),
        ({}, "no dictionary of weights"),
        ([], "no dictionary of weights"),
        ([1, {"a": "b"}], "no dictionary of weights"),
        ({"state_dict": {"state_dict": {"state_dict": {"state_dict": {"model": {}}}}}}, "no dictionary of weights"),
        ({"a": torch.zeros(1), "epoch": 3, 5: torch.zeros(1)}, r"mixed with other things \(epoch, 5\)"),
        ({"temb.dense.0.weight": torch.zeros(1).to_sparse()}, "only plain float16"),
        ({"temb.dense.0.weight": torch.zeros(1, device="meta")}, "only plain float16"),
        ({"temb.dense.0.weight": torch.zeros(1).expand(10**6, 10**6)}, "claim more data than the file holds"),
    ],
)
def test_wrong_contents(tmp_path, content, message):
    refused(saved(tmp_path / "wrong.pt", content), message)


class Payload:
    """Unpickling this would create a file."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return open, (str(self.target), "w")


@pytest.mark.parametrize("how", ["zip", "legacy", "raw", "raw2", "inside"])
def test_code_in_a_pickle_never_runs(tmp_path, how):
    trap, path = tmp_path / "ran", tmp_path / "evil.ckpt"
    match how:
        case "zip":
            torch.save(Payload(trap), path)
        case "legacy":
            torch.save(Payload(trap), path, _use_new_zipfile_serialization=False)
        case "inside":
            torch.save({"state_dict": weights(), "callback": Payload(trap)}, path)
        case _:
            path.write_bytes(pickle.dumps(Payload(trap), 4 if how == "raw" else 2))
    text = refused(path, "which is never run; get a .safetensors file")
    assert how == "raw" or "io.open" in text  # the object is named where torch says which it is
    assert not trap.exists()
    path.rename(tmp_path / "evil.safetensors")
    refused(tmp_path / "evil.safetensors", "download it again")
    assert not trap.exists()


def test_archives_that_unfold(tmp_path):
    plain, packed = saved(tmp_path / "m.pt", weights()), tmp_path / "bomb.pt"
    with zipfile.ZipFile(plain) as a, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as b:
        for name in a.namelist():
            b.writestr(name, a.read(name))
    refused(packed, "compressed archive")


def test_paths(tmp_path):
    refused(tmp_path / "none.safetensors", "no such file")
    refused(tmp_path, "cannot be read; expected one of .safetensors")
    (tmp_path / "folder.pt").mkdir()
    refused(tmp_path / "folder.pt", "no such file")
    for name in ("model.gguf", "model.pkl", "model"):
        (tmp_path / name).write_bytes(b"x")
        refused(tmp_path / name, "cannot be read; expected one of .safetensors, .sft, .pt")
    for suffix in (".safetensors", ".pt"):
        empty = tmp_path / f"empty{suffix}"
        empty.write_bytes(b"")
        refused(empty, "download it again")


def test_size_limit(tmp_path, monkeypatch):
    path = safe(tmp_path / "m.safetensors", weights())
    monkeypatch.setattr(read, "MAX_BYTES", 1000)
    refused(path, "more than a pixel model can be")


def test_overflow_in_half_precision(tmp_path):
    path = safe(tmp_path / "m.safetensors", {**weights(), "conv_out.bias": torch.full((3,), 1e6)})
    load_network(path)
    refused(
        path,
        "infinite values .conv_out.bias. once they are torch.float16; load m.safetensors in float32",
        lambda p: load_network(p, torch.float16),
    )


TINY = DDPMConfig(3, 3, (32,), 1, (False,), mid_attention=False)


def tiny(folder: Path, kind: str) -> bytes:
    path = folder / f"whole{kind}"
    if kind == ".safetensors":
        safe(path, weights(TINY), {"hspace": json.dumps({**FACE, "patch": 1})})
    else:
        saved(path, {"state_dict": weights(TINY), "epoch": 1}, _use_new_zipfile_serialization=kind == ".pt")
    return path.read_bytes()


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("originals")
    return {kind: tiny(folder, kind) for kind in (".safetensors", ".pt", ".pth")}


def attempt(path: Path) -> None:
    """Either a whole network comes out, or a ValueError that names the file."""
    try:
        net, _ = load_network(path)
    except ValueError as error:
        assert str(error).startswith(path.name)
    else:
        assert all(bool(torch.isfinite(p).all()) for p in net.parameters())


FUZZ = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(kind=st.sampled_from([".safetensors", ".pt", ".pth"]), data=st.data())
def test_mutated_files(tmp_path, originals, kind, data):
    content = bytearray(originals[kind])
    # the structure sits at the head of every kind, and at the tail of the zip archive
    near = st.one_of(st.integers(0, 4000), st.integers(0, len(content) - 1), st.integers(len(content) - 4000, len(content) - 1))
    for where, what in data.draw(st.lists(st.tuples(near, st.binary(min_size=1, max_size=9)), min_size=1, max_size=6)):
        content[where : where + len(what)] = what
    path = tmp_path / f"mutated{kind}"
    path.write_bytes(content)
    attempt(path)


@FUZZ
@given(kind=st.sampled_from([".safetensors", ".pt", ".pth"]), data=st.data())
def test_truncated_files(tmp_path, originals, kind, data):
    whole = originals[kind]
    path = tmp_path / f"cut{kind}"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    refused(path, re.escape(path.name), load_network)


@FUZZ
@given(
    kind=st.sampled_from([".safetensors", ".pt", ".pth", ".bin"]),
    content=st.binary(max_size=300),
    prefix=st.sampled_from([b"", b"PK\3\4", b"\x80\2", b"\x10\0\0\0\0\0\0\0"]),
)
def test_arbitrary_bytes(tmp_path, kind, content, prefix):
    path = tmp_path / f"noise{kind}"
    path.write_bytes(prefix + content)
    refused(path, re.escape(path.name), load_network)


@settings(FUZZ, max_examples=40)
@given(
    st.dictionaries(
        st.text(max_size=12) | st.sampled_from(list(weights(TINY))), st.none() | st.integers() | st.text(max_size=5), max_size=4
    ),
    st.data(),
)
def test_weights_in_any_disorder(tmp_path, junk, data):
    state = weights(TINY)
    for name in data.draw(st.lists(st.sampled_from(list(state)), max_size=3)):
        shape = data.draw(st.lists(st.integers(0, 5), max_size=4))
        state[name] = torch.zeros(shape)
    path = saved(tmp_path / "disorder.pt", {**state, **junk})
    attempt(path)
