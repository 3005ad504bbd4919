"""No dial is turned for nothing: every widget of every node changes what its node makes, or is refused by name where it
cannot."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from .dial_table import TABLE
from .dial_world import Bench, Link, at, facts, pack_nodes, widgets
from .dials import FILE

MOVES = [(kind, name) for kind, dials in TABLE.items() for name in dials.moves]
REFUSED = [(kind, i) for kind, dials in TABLE.items() for i in range(len(dials.refused))]


@pytest.fixture(scope="module")
def bench(executor) -> Bench:
    return Bench(executor)


def test_every_widget_of_every_node_is_in_the_table(executor):
    nodes = pack_nodes(executor)
    assert sorted(TABLE) == nodes and len(nodes) > 60
    for kind, dials in TABLE.items():
        known = {i.id for i in widgets(executor, kind)}
        assert set(dials.moves) | set(dials.elsewhere) == known, kind
        assert not set(dials.moves) & set(dials.elsewhere), kind


@pytest.mark.sweep("kind")
@pytest.mark.parametrize(("kind", "name"), MOVES, ids=[f"{kind.removeprefix('HSpace')}-{name}" for kind, name in MOVES])
def test_a_dial_acts(bench, kind, name):
    dials, move = TABLE[kind], TABLE[kind].moves[name]
    inputs = {**bench.defaults(kind), **dials.given, **move.given}
    look = move.look or dials.look
    results = [
        bench.facts(kind, {**inputs, **moved}, look) for moved in ({}, *({name: value} for value in move.values))
    ]
    for i, one in enumerate(results):
        same = [repr([inputs.get(name), *move.values][j]) for j in range(i) if results[j] == one]
        assert not same, f"{name} {move.values[i - 1]!r} gives what {', '.join(same)} gives"


@pytest.mark.sweep("kind")
@pytest.mark.parametrize(
    ("kind", "i"),
    REFUSED,
    ids=[f"{kind.removeprefix('HSpace')}-{TABLE[kind].refused[i][1]}-{i}" for kind, i in REFUSED],
)
def test_a_dial_that_cannot_act_is_refused_by_name(bench, kind, i):
    given, name = TABLE[kind].refused[i]
    with pytest.raises(ValueError, match=name):
        bench.call(kind, {**bench.defaults(kind), **TABLE[kind].given, **given})


FILES = {(kind, name) for kind, dials in TABLE.items() for name, why in dials.elsewhere.items() if why == FILE}


def test_widgets_of_files_are_all_asserted_below():
    asserted = {
        ("HSpaceLoadPixelModel", "checkpoint"),
        ("HSpaceLoadDiffAE", "checkpoint"),
        ("HSpaceLoadDiffAE", "statistics"),
        *(("HSpaceLoadAsyrp", name) for name in ("checkpoint", "index", "sigma_edit", "steps", "sigma_boost")),
        ("HSpaceLoadDiffusionCLIP", "checkpoint"),
        ("HSpaceLoadDiffusionCLIP", "rank"),
        ("HSpaceLoadHeads", "file"),
        ("HSpaceLoadDirections", "file"),
        ("HSpaceEditMetrics", "lpips"),
    }
    others = {(kind, name) for kind, dials in TABLE.items() for name in dials.elsewhere} - FILES
    assert asserted == FILES and others == {
        ("HSpaceDials", "frames"),
        ("HSpaceEditFriendlyInversion", "levels_at_once"),
        ("HSpaceEditFriendlyInversion", "preview"),
        ("HSpaceInvertImage", "preview"),
        ("HSpaceMorphFrames", "batch"),
        ("HSpaceNullTextOptimise", "tolerance"),
    }


def test_more_levels_at_once_are_fewer_calls_and_the_same_noises(bench):
    inputs = {**bench.defaults("HSpaceEditFriendlyInversion"), **TABLE["HSpaceEditFriendlyInversion"].given}
    model = bench.get(at("tiny"))
    one = bench.call("HSpaceEditFriendlyInversion", {**inputs, "model": model})[0]
    many = bench.call("HSpaceEditFriendlyInversion", {**inputs, "model": model, "levels_at_once": 3})[0]
    assert torch.allclose(one["noises"], many["noises"], atol=2e-2)
    host = bench.executor.module("nodes.host.samplers.edit_friendly")
    prompts = bench.executor.module("nodes.host.model.prompts").Prompts(bench.get(at("tiny", 1)))
    assert [host.at_once(model, prompts, n) for n in (1, 3)] == [1, 3]


def test_the_tolerance_of_null_text_is_that_of_the_fit(bench, monkeypatch):
    """What it does there is asserted in tests/core/invert/test_null_text.py."""
    tolerances: list[float] = []

    def fit(model, trajectory, positive, negative, cfg, settings, report):
        tolerances.append(settings.tolerance)
        raise InterruptedError

    monkeypatch.setattr(bench.executor.module("nodes.invert.null_text"), "null_text", fit)
    inputs = {**bench.defaults("HSpaceNullTextOptimise"), **TABLE["HSpaceNullTextOptimise"].given}
    for tolerance in (0.0, 0.3):
        with pytest.raises(InterruptedError):
            bench.call("HSpaceNullTextOptimise", {**inputs, "tolerance": tolerance})
    assert tolerances == [0.0, 0.3]


def test_frames_in_smaller_batches_are_the_same_frames(bench):
    dials = TABLE["HSpaceMorphFrames"]
    inputs = {**bench.defaults("HSpaceMorphFrames"), **dials.given}
    one, many = (bench.call("HSpaceMorphFrames", {**inputs, "batch": n}) for n in (1, 3))
    assert torch.allclose(one[0], many[0], atol=1e-3)
    groups = bench.executor.module("nodes.host.patches.diffmorpher").groups
    assert groups([0.0, 0.3, 0.6, 1.0], 1) > groups([0.0, 0.3, 0.6, 1.0], 4)


def unchecked(bench, kind, inputs):
    """A node whose files need not be there."""
    node = bench.executor.classes[kind]
    given = {name: bench.get(value) if isinstance(value, Link) else value for name, value in inputs.items()}
    with torch.inference_mode():
        return node.execute.__func__.__wrapped__(node, **given).result


def test_files_are_those_that_were_chosen(bench, monkeypatch):
    """Loaders of released files, and what they do with their numbers; the readers themselves have tests of their
    own."""
    models, edits, codes, metrics = (
        bench.executor.module(f"nodes.{name}")
        for name in ("load.models", "load.released_edits", "load.codes", "measure.pie")
    )
    paths = bench.executor.module("nodes.host.paths")
    monkeypatch.setattr(paths, "checkpoint_path", lambda name: f"at {name}")
    read: list = []

    def reader(result):
        def take(path, *rest, **more):
            read.append((path, *(part for part in rest if isinstance(part, str)), more))
            return result

        return take

    face = bench.get(at("model")).model.diffusion_model
    monkeypatch.setattr(models, "load_denoiser", reader(face.denoiser("0" * 12)))
    unchecked(bench, "HSpaceLoadPixelModel", {"checkpoint": "a"})
    given = bench.get(at("asyrp"))
    trained = bench.executor.module("core.files.asyrp").asyrp_from_payload(given)
    monkeypatch.setattr(edits, "load_released_asyrp", reader([trained, replace(trained, label="second")]))
    numbers = {"model": at("model"), "checkpoint": "b", "index": 1, "sigma_edit": 0.0, "steps": 40, "sigma_boost": 0.0}
    results = []
    for moved in ({}, {"sigma_edit": 5.0}, {"steps": 80}, {"sigma_boost": 0.3}):
        unchecked(bench, "HSpaceLoadAsyrp", {**numbers, **moved})
        results.append({k: v for k, v in read[-1][-1].items() if isinstance(v, (int, float))})
    assert all(a != b for i, a in enumerate(results) for b in results[:i]) and read[-1][0] == "at b"
    assert [unchecked(bench, "HSpaceLoadAsyrp", {**numbers, "index": i})[1] for i in (1, 2)] == [
        trained.label,
        "second",
    ]

    monkeypatch.setattr(edits, "load_denoiser", reader(vp_changed(bench, face)))
    thin = [
        unchecked(bench, "HSpaceLoadDiffusionCLIP", {"model": at("model"), "checkpoint": "c_t401.pth", "rank": r})
        for r in (0, 1)
    ]
    assert facts(thin[0][0]) != facts(thin[1][0]) and "rank 1" in thin[1][2] and read[-1][0] == "at c_t401.pth"

    with monkeypatch.context() as patch:
        patch.setattr(codes, "load_autoencoder", reader(None))
        patch.setattr(codes, "make_autoencoder", lambda source: source)
        for statistics in ("none", "s"):
            with pytest.raises(AttributeError):  # what the reader gave is no network
                unchecked(bench, "HSpaceLoadDiffAE", {"checkpoint": "d", "statistics": statistics})
    assert [r[:-1] for r in read[-2:]] == [("at d",), ("at d", "at s")]

    monkeypatch.setattr(metrics, "perceptual", reader(None))
    unchecked(
        bench,
        "HSpaceEditMetrics",
        {**TABLE["HSpaceEditMetrics"].given, **bench.defaults("HSpaceEditMetrics"), "lpips": "e.pth"},
    )
    assert read[-1][0] == "e.pth"


def vp_changed(bench, face):
    """The face model with other weights in one layer."""
    denoiser = face.denoiser("1" * 12)
    with torch.inference_mode(False):
        net = copy.deepcopy(face.net)
        next(p for p in net.parameters() if p.dim() == 4).data.add_(
            0.1 * torch.rand_like(next(p for p in net.parameters() if p.dim() == 4))
        )
    return replace_net(denoiser, net)


def replace_net(denoiser, net):
    """A denoiser around another network."""
    copied = copy.copy(denoiser)
    copied.net = net
    return copied


def test_own_files_are_those_that_were_chosen(bench):
    flipped = bench.call(
        "HSpaceSelectDirections", {"directions": at("mouth"), "first": 1, "count": 1, "flip": True, "label": ""}
    )[0]
    (file,) = bench.call("HSpaceSaveDirections", {"directions": flipped, "name": "turned"})
    one, two = (bench.call("HSpaceLoadDirections", {"file": name})[0] for name in ("hspace/mouth.safetensors", file))
    assert torch.equal(two["vectors"], -one["vectors"][:, :1])
    heads = bench.call(
        "HSpaceTrainHeads", {**bench.defaults("HSpaceTrainHeads"), **TABLE["HSpaceTrainHeads"].given, "name": "mine"}
    )[0]
    (file,) = bench.call("HSpaceSaveTrained", {"trained": heads, "name": "mine"})
    names = [
        bench.call("HSpaceLoadHeads", {"model": at("diffae"), "file": f})[1]
        for f in ("hspace/face_diffae.safetensors", file)
    ]
    assert "glasses" in names[0] and names[1] == "mine"
