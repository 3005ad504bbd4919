"""Nothing in a file of a diffusion autoencoder is ever run."""

import io
import os
import pickle
import threading
import zipfile
from collections import OrderedDict, defaultdict
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.files.checkpoint import load_denoiser
from core.files.diffae import load_autoencoder
from core.files.diffae_parts import read_parts

from .. import network_files
from ..released_diffae import STATISTICS, ModelCheckpoint, lightning, saved, weights

refused = partial(network_files.refused, load=load_autoencoder)


class Call:
    """Unpickling this elsewhere would call ``function(*arguments)``."""

    def __init__(self, function, *arguments):
        self.how = function, arguments

    def __reduce__(self):
        return self.how


class Filled:
    """Unpickling this elsewhere would set its state."""

    def __init__(self, state):
        self.state = state

    def __getstate__(self):
        return self.state

    def __setstate__(self, state):
        raise AssertionError("state of a foreign class was set")


def hostile(trap):
    line = f"open({str(trap)!r}, 'w')"
    return {
        "open": Call(open, str(trap), "w"),
        "eval": Call(eval, line),
        "exec": Call(exec, line),
        "import": Call(__import__, "antigravity"),
        "getattr": Call(getattr, Call(__import__, "subprocess"), "call"),
        "hub": Call(torch.hub.load, str(trap.parent), "evil", True),
        "load": Call(torch.load, str(trap)),
        "thread": Call(threading.Thread, None, open, None, (str(trap), "w")),
        "map": Call(list, Call(map, eval, [line])),
        "state": Filled({"__class__": 1, "a": Call(open, str(trap), "w")}),
        "slots": Filled((None, {"a": Call(eval, line)})),
        "dict": defaultdict(Call, {1: Call(eval, line)}),
        "key": {Call(frozenset, (1, 2)): 1},
        "tensor": Call(
            torch._utils._rebuild_parameter_with_state, torch.ones(1), False, OrderedDict(), {"a": Call(eval, line)}
        ),
        "type": Call(torch._tensor._rebuild_from_type_v2, eval, torch.Tensor, (line,), {}),
    }


NAMES = tuple(hostile(Path("x")))


@pytest.mark.parametrize("name", NAMES)
def test_code_in_a_lightning_file_never_runs(tmp_path, name):
    trap, path = tmp_path / "ran", tmp_path / "last.ckpt"
    state = weights()
    (tmp_path / "hubconf.py").write_text(f"open({str(trap)!r}, 'w')")
    content = lightning(state)
    content["callbacks"][ModelCheckpoint]["x"] = hostile(trap)[name]
    saved(path, content)
    before = set(torch.serialization.get_safe_globals())
    if name == "type":  # its result is no tensor; torch's own function refuses that
        refused(path, "not a readable|never run")
    else:
        assert torch.equal(load_autoencoder(path).net.out[2].weight, state["out.2.weight"])
    assert not trap.exists() and set(torch.serialization.get_safe_globals()) == before


@pytest.mark.parametrize("name", ["open", "eval", "exec", "map", "tensor"])
def test_these_files_do_run_where_they_are_unpickled(tmp_path, name):
    trap = tmp_path / "ran"
    torch.load(saved(tmp_path / "t.pt", hostile(trap)[name]), weights_only=False)
    assert trap.exists()


def test_names_of_the_operating_system_are_refused(tmp_path):
    trap = tmp_path / "ran"
    path = saved(tmp_path / "last.ckpt", lightning(weights()) | {"x": Call(os.system, f"touch {trap}")})
    text = refused(path, "which is never run; get a .safetensors file")
    assert "posix.system" in text or "nt.system" in text
    assert not trap.exists()


@pytest.mark.parametrize("where", ["weight", "statistics"])
def test_an_object_in_the_place_of_a_tensor(tmp_path, where):
    content = lightning(weights(), **STATISTICS)
    content["state_dict"]["ema_model.out.2.weight" if where == "weight" else "conds_mean"] = Call(eval, "1")
    refused(saved(tmp_path / "last.ckpt", content), "mixed with other things")


def test_the_pixel_reader_still_refuses_objects(tmp_path):
    with pytest.raises(ValueError, match="never run"):
        load_denoiser(saved(tmp_path / "last.ckpt", lightning(weights())))
    with pytest.raises(ValueError, match="load it with Load DiffAE"):
        load_denoiser(saved(tmp_path / "plain.pt", weights()))


def test_compressed_archives(tmp_path):
    plain, packed = saved(tmp_path / "m.ckpt", lightning(weights())), tmp_path / "bomb.ckpt"
    with zipfile.ZipFile(plain) as a, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as b:
        for name in a.namelist():
            b.writestr(name, a.read(name))
    refused(packed, "compressed archive")


@pytest.fixture(scope="session")
def original(tmp_path_factory):
    path = tmp_path_factory.mktemp("lightning") / "last.ckpt"
    few = {"encoder.out.3.weight": torch.ones(2, 2, 1, 1), "a.b": torch.ones(3)}
    return saved(
        path, lightning(few, **STATISTICS) | {"x": hostile(Path("x"))["dict"], "y": Filled((None, {"a": 1}))}
    ).read_bytes()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_files_give_tensors_or_an_error_that_names_them(tmp_path, original, data):
    content = bytearray(original)
    inside = data.draw(st.booleans())
    with zipfile.ZipFile(io.BytesIO(original)) as z:
        entry = next(i for i in z.infolist() if i.filename.endswith("data.pkl"))
    start = original.index(b"data.pkl", entry.header_offset) + 8
    places = st.integers(start, start + entry.file_size + 64) if inside else st.integers(0, len(content) - 1)
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(places)] = data.draw(st.integers(0, 255))
    path = tmp_path / "last.ckpt"
    path.write_bytes(bytes(content))
    try:
        parts = read_parts(path)
        assert all(isinstance(v, torch.Tensor) for v in parts.weights.values())
    except ValueError as error:
        assert "last.ckpt" in str(error)


def test_old_and_raw_pickles_are_refused(tmp_path):
    trap = tmp_path / "ran"
    old = saved(
        tmp_path / "old.ckpt",
        lightning(weights()) | {"x": Call(eval, f"open({str(trap)!r}, 'w')")},
        _use_new_zipfile_serialization=False,
    )
    refused(old, "never run|download it again")
    raw = tmp_path / "latent.pkl"
    raw.write_bytes(pickle.dumps(Call(eval, f"open({str(trap)!r}, 'w')"), 2))
    refused(raw, "never run")
    assert not trap.exists()
