"""The direction file and the socket payloads: exact round trips, and a ValueError for everything else."""

import json
from dataclasses import fields, replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from core.directions import Directions
from core.files import directions as directions_io
from core.files.directions import load_directions, read_directions, save_directions
from core.files.kinds import DIRECTIONS
from core.payload import directions_from_payload, directions_to_payload, trajectory_from_payload, trajectory_to_payload
from core.trajectory import Trajectory

MODEST = settings(
    max_examples=200, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def directions(t=2, k=3, mask=True, labels=("smile", "œil ouvert", "<b>")) -> Directions:
    v = torch.randn(t, k, 4, 3, 5, generator=torch.Generator().manual_seed(0))
    v = v / v.flatten(2).norm(dim=2)[:, :, None, None, None]
    sigmas = torch.tensor([1 / 3, 0.1][:t], dtype=torch.float64)
    region = torch.rand(8, 10, generator=torch.Generator().manual_seed(1)) if mask else None
    spectrum = torch.rand(9, generator=torch.Generator().manual_seed(2))
    return Directions(
        v,
        sigmas,
        torch.rand(t, k),
        torch.rand(t, k),
        "up.2",
        "0123456789ab",
        region,
        "generalized tau 0.1",
        labels,
        spectrum,
    )


@pytest.fixture(scope="module")
def valid(tmp_path_factory) -> bytes:
    return save_directions(tmp_path_factory.mktemp("d") / "d.safetensors", directions()).read_bytes()


def same(a, b) -> bool:
    pairs = [(getattr(a, f.name), getattr(b, f.name)) for f in fields(a)]
    return all(torch.equal(x, y) and x.dtype == y.dtype if isinstance(x, torch.Tensor) else x == y for x, y in pairs)


@pytest.mark.parametrize("given_", [directions(), directions(1, 3, False, ())])
def test_round_trip_is_exact(tmp_path, given_):
    path = save_directions(tmp_path / "a.safetensors", given_)
    assert same(load_directions(path), given_)
    save_directions(path, given_)  # replaced, not appended
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_half_precision_halves_the_file_and_keeps_unit_length(tmp_path):
    big = replace(
        directions(), vectors=torch.nn.functional.normalize(torch.randn(2, 3, 64 * 64), dim=2).reshape(2, 3, 64, 8, 8)
    )
    full, half = (
        save_directions(tmp_path / "a.safetensors", big),
        save_directions(tmp_path / "b.safetensors", big, half=True),
    )
    assert half.stat().st_size < 0.6 * full.stat().st_size
    read = load_directions(half)
    assert torch.allclose(read.vectors, big.vectors, atol=1e-3)
    assert torch.allclose(read.vectors.flatten(2).norm(dim=2), torch.ones(2, 3), atol=1e-6)


@MODEST
@given(cut=st.integers(0, 10_000))
def test_every_truncation_is_refused(valid, cut):
    with pytest.raises(ValueError, match="not a usable direction file"):
        read_directions(valid[: cut % len(valid)])


@MODEST
@given(edits=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1, max_size=8), data=st.data())
def test_mutated_bytes_give_directions_or_a_value_error(valid, edits, data):
    mutated, header = bytearray(valid), 8 + int.from_bytes(valid[:8], "little")
    limit = header if data.draw(st.booleans()) else len(valid)
    for place, value in edits:
        mutated[place % limit] = value
    try:
        read = read_directions(bytes(mutated))
    except ValueError:
        return
    assert torch.isfinite(read.vectors).all()
    assert torch.allclose(read.vectors.flatten(2).norm(dim=2), torch.ones(2, 3), atol=2e-3)


@MODEST
@given(
    junk=st.one_of(st.binary(max_size=300), st.binary(max_size=60).map(lambda b: (len(b)).to_bytes(8, "little") + b))
)
def test_any_bytes_whatever_give_a_value_error(junk):
    with pytest.raises(ValueError, match="not a usable direction file"):
        read_directions(junk)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def with_metadata(facts: object, **tensors) -> bytes:
    d = directions()
    stored = {"vectors": d.vectors, "gain": d.gain, "leak": d.leak, "spectrum": d.spectrum, **tensors}
    text = facts if isinstance(facts, str) else json.dumps(facts)
    return save({k: v.contiguous() for k, v in stored.items() if v is not None}, {"hspace": text})


def facts(**changed) -> dict:
    fine = {
        "format": "hspace.directions",
        "version": 1,
        "layer": "middle",
        "fingerprint": "0123456789ab",
        "method": "m",
        "labels": ["a", "b", "c"],
        "sigmas": [0.5, 0.25],
    }
    return {**fine, **changed}


def test_version_2_holds_any_layer_and_rank(tmp_path):
    for shape in ((6,), (8, 4), (4, 2, 8, 8)):
        vectors = torch.randn(1, 2, *shape)
        vectors = vectors / vectors.flatten(2).norm(dim=2).reshape(1, 2, *(1,) * len(shape))
        zero = torch.zeros(1, 2)
        saved = Directions(vectors, torch.ones(1, dtype=torch.float64), zero, zero, "block.12", "0123456789ab")
        back = load_directions(save_directions(tmp_path / "any.safetensors", saved))
        assert torch.equal(back.vectors, vectors) and back.layer == "block.12"
        half = load_directions(save_directions(tmp_path / "half.safetensors", saved, half=True))
        assert torch.allclose(half.vectors, vectors, atol=1e-3)
    for damage in ({"layer": "block.12"}, {"layer": "x"}):
        with pytest.raises(ValueError, match="layer"):
            read_directions(with_metadata(facts(**damage)))
    assert read_directions(with_metadata(facts(version=2, layer="block.12"))).layer == "block.12"


@MODEST
@given(key=st.sampled_from(sorted(facts())), value=JSON)
def test_hostile_metadata_gives_directions_or_a_value_error(key, value):
    try:
        read = read_directions(with_metadata(facts(**{key: value})))
    except ValueError:
        return
    assert (
        key in ("method", "labels", "sigmas", "version")
        and read.method.isprintable()
        and all(v.isprintable() for v in read.labels)
    )


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"format": "other"}, "format"),
        ({"version": 4}, "update the pack"),
        ({"version": True}, "version"),
        ({"layer": "../../etc/passwd"}, "layer"),
        ({"layer": "up.-1"}, "layer"),
        ({"fingerprint": "/etc/passwd"}, "fingerprint"),
        ({"labels": ["a", "b"]}, "labels"),
        ({"labels": ["a", "b", "x" * 65]}, "labels"),
        ({"labels": ["a", "b", "line\nbreak"]}, "labels"),
        ({"labels": "abc"}, "labels"),
        ({"method": "x" * 301}, "method"),
        ({"sigmas": [0.5]}, "sigmas"),
        ({"sigmas": [0.5, float("nan")]}, "sigmas"),
        ({"sigmas": [0.5, -1.0]}, "sigmas"),
        ({"sigmas": [0.5, 10**400]}, "direction file"),
        ({"more": 1}, "exactly"),
    ],
)
def test_metadata_rules(changed, said):
    with pytest.raises(ValueError, match=said):
        read_directions(with_metadata(facts(**changed)))


def test_deep_and_long_headers_are_refused():
    with pytest.raises(ValueError):
        read_directions(with_metadata("[" * 100_000))
    with pytest.raises(ValueError, match="header"):
        read_directions((1 << 62).to_bytes(8, "little") + b"{}")
    with pytest.raises(ValueError, match="header"):
        read_directions(with_metadata(facts(method="x" * (2 << 20))))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"vectors": torch.zeros(2, 3, 4, 3, 5)}, "unit length"),
        ({"vectors": torch.full((2, 3, 4, 3, 5), float("nan"))}, "NaN"),
        ({"vectors": torch.ones(2, 3, 4, 3, 5, dtype=torch.float64)}, "F32 or F16"),
        ({"vectors": torch.ones(2, 3, 4, 3, 5, dtype=torch.int64)}, "F32 or F16"),
        ({"vectors": torch.zeros(2, 3, 0, 3, 5)}, "at most"),
        ({"vectors": torch.ones(60)}, "vectors must have 3 to 6 axes"),
        ({"vectors": torch.ones(2, 3, 4, 15)}, "vectors must have 5 axes"),  # in a file of version 1
        ({"vectors": None}, "must hold"),
        ({"gain": torch.zeros(2, 4)}, "gain"),
        ({"leak": torch.full((2, 3), float("inf"))}, "infinite"),
        ({"mask": torch.full((4, 4), 7.0)}, "0..1"),
        ({"mask": torch.zeros(0, 4)}, "mask"),
        ({"spectrum": torch.full((3,), -1.0)}, "spectrum"),
        ({"extra": torch.zeros(1)}, "must hold"),
    ],
)
def test_tensor_rules(changed, said):
    with pytest.raises(ValueError, match=said):
        read_directions(with_metadata(facts(), **changed))


def test_too_many_too_large_and_missing(tmp_path, monkeypatch):
    many = torch.nn.functional.normalize(torch.randn(1, 300, 4), dim=2).reshape(1, 300, 4, 1, 1)
    with pytest.raises(ValueError, match="256"):
        save_directions(
            tmp_path / "x.safetensors",
            Directions(many, torch.ones(1), torch.zeros(1, 300), torch.zeros(1, 300), "middle", "abcdef"),
        )
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="check that it is there"):
        load_directions(tmp_path / "none.safetensors")
    with pytest.raises(ValueError, match="cannot read"):
        load_directions(tmp_path)
    path = save_directions(tmp_path / "x.safetensors", directions())
    monkeypatch.setattr(directions_io, "DIRECTIONS", replace(DIRECTIONS, max_bytes=1000))
    with pytest.raises(ValueError, match="9 bytes to"):
        load_directions(path)


def test_saving_refuses_what_loading_would(tmp_path):
    with pytest.raises(ValueError, match="unit length"):
        save_directions(tmp_path / "x.safetensors", replace(directions(), vectors=2 * directions().vectors))
    with pytest.raises(ValueError, match="labels"):
        save_directions(tmp_path / "x.safetensors", replace(directions(), labels=("a", "b", "c\0")))
    assert not list(tmp_path.iterdir())


def trajectory() -> Trajectory:
    return Trajectory(
        torch.tensor([2.0, 1.0, 0.0], dtype=torch.float64),
        torch.randn(3, 1, 3, 4, 4),
        "abcdef012345",
        "ddim B",
        residual=torch.rand(2),
    )


def test_payload_round_trips():
    d, path = directions(), trajectory()
    assert same(directions_from_payload(directions_to_payload(d)), d) and type(directions_to_payload(d)) is dict
    assert same(trajectory_from_payload(trajectory_to_payload(path)), path)
    assert trajectory_to_payload(path)["format"] == "hspace.trajectory" and trajectory_to_payload(path)["version"] == 2
    lean = {
        k: v
        for k, v in trajectory_to_payload(path).items()
        if k in ("format", "version", "sigmas", "states", "fingerprint")
    }
    assert trajectory_from_payload(lean).method == ""
    assert trajectory_from_payload({**lean, "unknown": 3}).fingerprint == path.fingerprint


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (None, "HSPACE_TRAJECTORY must carry"),
        ({}, "HSPACE_TRAJECTORY must carry"),
        (directions_to_payload(directions()), "hspace.directions"),
        ({**trajectory_to_payload(trajectory()), "version": 9}, "version"),
        ({**trajectory_to_payload(trajectory()), "states": [1, 2]}, "'states' must be a Tensor"),
        ({**trajectory_to_payload(trajectory()), "fingerprint": None}, "'fingerprint' must be a text"),
        ({**trajectory_to_payload(trajectory()), "states": torch.zeros(2, 1, 3, 4, 4)}, "HSPACE_TRAJECTORY: states"),
        ({**trajectory_to_payload(trajectory()), "states": torch.full((3, 1, 3, 4, 4), float("nan"))}, "NaN"),
        ({k: v for k, v in trajectory_to_payload(trajectory()).items() if k != "sigmas"}, "lacks 'sigmas'"),
    ],
)
def test_payload_refusals_name_the_socket(payload, said):
    with pytest.raises(ValueError, match=said):
        trajectory_from_payload(payload)


def test_direction_payload_refusals():
    with pytest.raises(ValueError, match="HSPACE_DIRECTIONS must carry"):
        directions_from_payload(trajectory_to_payload(trajectory()))
    with pytest.raises(ValueError, match="HSPACE_DIRECTIONS: 3 directions need"):
        directions_from_payload({**directions_to_payload(directions()), "labels": ["a"]})
