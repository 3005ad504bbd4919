"""The reader of foreign files: what everything else gets."""

import json
import pickle
import re
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.files import network as files
from core.files.checkpoint import load_network
from core.networks.ddpm import DDPMConfig

from ..hostile_readers import readers
from ..network_files import FACE, GUIDED, refused, safe, same, saved, weights


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
        (
            lambda: {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(1)},
            "load it with the stock Load Checkpoint node",
        ),
        (
            lambda: {"down_blocks.0.attentions.0.transformer_blocks.0.norm1.weight": torch.zeros(1)},
            "stock Load Checkpoint node",
        ),
        (four_channels, "takes 4 channels and returns 4, expected 3 .*stock Load Checkpoint node"),
        (lambda: weights(DDPMConfig(1, 1, (32,), 1, (False,))), "only unconditional RGB models"),
        (
            lambda: {**weights(GUIDED), "label_emb.weight": torch.zeros(10, 64)},
            "label_emb is .10, 64., not one row of the step embedding",
        ),
        (
            lambda: {k: v for k, v in weights(GUIDED).items() if not k.startswith("output_blocks")},
            "encoder of a classifier",
        ),
        (
            lambda: {"conv1.weight": torch.zeros(512, 512, 1, 1), "temb_proj.weight": torch.zeros(512, 512)},
            "unknown weights .conv1.weight",
        ),
        (lambda: {f"layer\n{i}" * 99: torch.zeros(1) for i in range(99)}, "unknown weights .* and 94 more"),
        (lambda: {**weights(), "mid.attn_2.q.weight": torch.zeros(1)}, "1 weights unexpected: mid.attn_2.q.weight"),
        (
            lambda: {k: v for k, v in weights().items() if "norm_out" not in k},
            "2 weights missing: norm_out.weight, norm_out.bias",
        ),
        (
            lambda: {**weights(), "mid.block_1.conv1.weight": torch.zeros(64, 64, 1, 1)},
            r"\[64, 64, 1, 1\] instead of \[64, 64, 3, 3\]",
        ),
        (
            lambda: {f"down.{i}.extra": torch.zeros(1) for i in range(9)} | weights(),
            "9 weights unexpected: .* and 4 more",
        ),
        (
            lambda: {**weights(), "conv_out.bias": torch.tensor([0.0, float("nan"), 0.0])},
            "NaN or infinite values .conv_out.bias",
        ),
        (lambda: {**weights(), "conv_out.bias": torch.tensor([0.0, float("inf"), 0.0])}, "NaN or infinite values"),
        (
            lambda: {**weights(), "conv_in.weight": torch.zeros(32, 3, 3, 3, dtype=torch.float8_e4m3fn)},
            "float8_e4m3fn.*unquantised",
        ),
        (lambda: {**weights(), "conv_in.weight": torch.zeros(32, 3, 3, 3, dtype=torch.int8)}, "int8.*unquantised"),
        (lambda: {**weights(), "conv_in.weight": torch.zeros(32, 3, 3, 3, dtype=torch.complex64)}, "complex64"),
        (lambda: {**weights(), "conv_in.weight": torch.zeros(0, 3, 3, 3)}, "conv_in.weight is empty"),
        (lambda: {**weights(), "conv_in.weight": torch.tensor(1.0)}, "not a DDPM U-Net"),
        (lambda: {"temb.dense.0.weight": torch.zeros(8, 2)}, "not a DDPM U-Net: .*down.0.block.0.conv1.weight"),
        (
            lambda: {k: torch.zeros(1) for k in ("time_embed.0.weight", "input_blocks.0", "output_blocks.0")},
            "not a guided",
        ),
        (lambda: {**weights(), "down.0.downsample.op.weight": torch.zeros(1)}, "two weights mean the same thing"),
        (
            lambda: {k: torch.zeros([33 if n == 32 else n for n in v.shape]) for k, v in weights().items()},
            "must be divisible",
        ),
    ],
)
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


@pytest.mark.parametrize("version", ["2.5.1", "2.5.1+cu124", "1.13.0"])
@pytest.mark.parametrize("name", ["network", "autoencoder", "statistics", "released heads", "lpips", "dino", "asyrp"])
def test_pickles_want_a_pytorch_that_runs_nothing_of_them(tmp_path, monkeypatch, name, version):
    load, suffix, names, _, _ = readers()[name]
    content = {key: torch.zeros(4) for key in names}
    monkeypatch.setattr(torch, "__version__", version)
    text = refused(
        saved(tmp_path / f"m{suffix}", content),
        f"PyTorch {re.escape(version)} can be made to run code.*update PyTorch to 2.6",
        load,
    )
    assert "get a .safetensors file" in text
    try:
        load(safe(tmp_path / "m.safetensors", content))
    except ValueError as error:  # for the weights, which are those of no whole network
        assert "PyTorch" not in str(error) and name != "statistics"


def test_safetensors_are_read_with_any_pytorch(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.5.1")
    net, _ = load_network(safe(tmp_path / "m.safetensors", weights()))
    assert same(net.state_dict(), weights())
    monkeypatch.setattr(torch, "__version__", "2.6.0")
    assert same(load_network(saved(tmp_path / "m.pt", weights()))[0].state_dict(), weights())


def test_pytorch_is_the_hosts_and_pillow_has_no_known_holes():
    lines = Path(__file__).parents[3].joinpath("requirements.txt").read_text().split()
    floors = dict(line.split(">=") for line in lines)
    assert not [name for name in floors if name.lower().startswith("torch")]
    assert tuple(map(int, floors["Pillow"].split("."))) >= (12, 3)


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
    monkeypatch.setattr(files, "MAX_BYTES", 1000)
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
    near = st.one_of(
        st.integers(0, 4000), st.integers(0, len(content) - 1), st.integers(len(content) - 4000, len(content) - 1)
    )
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
        st.text(max_size=12) | st.sampled_from(list(weights(TINY))),
        st.none() | st.integers() | st.text(max_size=5),
        max_size=4,
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
