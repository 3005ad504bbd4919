"""Edit Image by Dials: the picture of a setting, what is prepared once, what the editor is told, what is refused."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from devtools.evaluations.runs import run_counted
from devtools.executor import NodeFailed

from .graphs import base, discover, node, render, steer
from .unet_graphs import latent_base, latent_discover

WINDOW = {"sigma_start": 3.4, "sigma_end": 0.1}


def dials(directions: str = "mouth", model: str = "model", **inputs) -> dict:
    """The node, on the inverted face."""
    links = {"model": [model, 0], "trajectory": ["invert", 0], "directions": [directions, 0]}
    return node("HSpaceDials", **{**links, "frames": 3, **WINDOW, **inputs})


def world(steps: int = 8, **nodes) -> dict:
    """A face and ready directions of its mouth; with 12 steps the inversion comes back exactly enough to start below."""
    mouth = node("HSpaceLoadDirections", file="hspace/mouth.safetensors")
    three = node("HSpaceSelectDirections", directions=["all", 0], first=1, count=3, flip=False, label="mouth")
    return {**base(steps=steps, iterations=4), "all": mouth, "mouth": three, **nodes}


def told(executor) -> dict:
    """The facts of the last run of the node."""
    (facts,) = [
        data["output"]["hspace_dials"][0]
        for event, data in executor.server.events
        if event == "executed" and "hspace_dials" in (data["output"] or {})
    ]
    return facts


def picture(executor, file: dict) -> np.ndarray:
    """A temporary picture, `[h w 3]` in 0..1."""
    folder = Path(executor.nodes.folder_paths.get_temp_directory())
    data = (folder / file["subfolder"] / file["filename"]).read_bytes()
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=np.float64) / 255


def test_at_rest_it_is_the_reconstruction_bit_for_bit(executor):
    prompt = world(off=dials(), plain=render("model"))
    off, plain = executor.run(prompt, "off", "plain")
    edited, reconstruction, model, directions = off
    assert torch.equal(edited, reconstruction) and torch.equal(edited, plain[1])
    edits = executor.module("nodes.host.patches.steering").edits_of(model)
    assert edits and not any(edit.schedule.strength for edit in edits)
    assert directions["calibration"]["unit"].shape == (2, 3)


def test_a_dial_is_a_clear_change_of_the_mouth_both_ways(executor):
    prompt = world(up=dials(dial_1=1.0), down=dials(dial_1=-1.0), other=dials(dial_2=1.0), far=dials(dial_1=2.0))
    names = ("up", "down", "other", "far")
    outputs = dict(zip(names, executor.run(prompt, *names), strict=True))
    mask = executor.run(prompt, "face")[0][1][0]
    before = outputs["up"][1]
    changes = {}
    for name, (edited, *_) in outputs.items():
        square = (2 * (edited - before)).square().mean(-1)[0]
        changes[name] = float(((square * mask).sum() / mask.sum()).sqrt())
        assert float(square[:16].mean()) < 0.05 * changes[name] ** 2  # the hair stays
    assert all(0.25 / 1.3 < changes[name] < 0.25 * 1.3 for name in ("up", "down", "other"))
    assert changes["far"] > 1.3 * changes["up"]
    assert not torch.allclose(outputs["up"][0], outputs["down"][0], atol=0.1)


def test_the_model_that_comes_out_renders_the_same_picture(executor):
    prompt = world(on=dials(dial_1=0.8, dial_3=-0.5), again=render("on"))
    prompt["again"]["inputs"]["model"] = ["on", 2]
    on, again = executor.run(prompt, "on", "again")
    assert torch.equal(on[0], again[0]) and not torch.equal(on[0], on[1])


def test_a_turn_asks_for_the_levels_inside_the_window_and_below_alone(executor):
    """The first run calibrates and renders the strips; then only the exact picture is left."""
    prompt = world(12, turned=dials(dial_1=0.5))
    first = {ran.number: ran.count for ran in run_counted(executor, prompt)}
    turned = first["turned"]
    sigmas = executor.run(prompt, "sigmas")[0][0].tolist()
    levels = sum(s <= WINDOW["sigma_start"] for s in sigmas[:-1])
    assert turned.calls > 3 * levels and turned.checks == 1
    counts = []
    for value in (0.6, -0.6):
        prompt["turned"]["inputs"]["dial_1"] = value
        counts.append(_again(executor, prompt))
    assert [count.calls for count in counts] == [levels] * 2
    assert [count.rows for count in counts] == [levels] * 2 and not any(count.checks for count in counts)
    prompt["turned"]["inputs"]["dial_1"] = 0.0
    assert _again(executor, prompt).calls == 0
    prompt["turned"]["inputs"] |= {"sigma_start": 2.0, "dial_1": 0.5}
    assert _again(executor, prompt).calls > levels


def _again(executor, prompt: dict):
    """Count what one more run of the last node asks for, all before it kept."""
    from devtools.evaluations.counter import counting

    with counting(executor) as counter:
        executor.run(prompt, "turned")
    return counter.of["turned"]


def test_the_editor_is_told_names_settings_and_pictures(executor):
    prompt = world(turned=dials(dial_1=0.5, frames=5))
    ((edited, reconstruction, *_),) = executor.run(prompt, "turned")
    facts = told(executor)
    assert facts["names"] == ["mouth 1", "mouth 2", "mouth 3"] and facts["values"] == [0.5, 0, 0]
    grid = facts["grid"]
    assert grid[0] == -3 and grid[2] == 0 and grid[-1] == 3 and facts["size"] == [64, 64]
    shown = {name: picture(executor, file) for name, file in facts["pictures"].items()}
    assert np.allclose(shown["final"], edited[0].numpy(), atol=1 / 255)
    assert np.allclose(shown["original"], reconstruction[0].numpy(), atol=1 / 255)
    assert np.array_equal(shown["rest"], shown["original"])
    json.dumps(facts)
    for file in facts["strips"]:
        frames = np.split(picture(executor, file), 5, axis=1)
        assert np.array_equal(frames[2], shown["rest"])
        away = [np.abs(frame - shown["rest"]).mean() for frame in frames]
        assert away[0] > away[1] > 0.002 and away[4] > away[3] > 0.002


def test_a_strip_shows_what_the_exact_picture_shows(executor):
    prompt = world(turned=dials(dial_2=3.0))
    ((edited, reconstruction, *_),) = executor.run(prompt, "turned")
    facts = told(executor)
    *_, last = np.split(picture(executor, facts["strips"][1]), 3, axis=1)
    change = np.abs(edited[0].numpy() - reconstruction[0].numpy()).mean()
    assert np.abs(last - edited[0].numpy()).mean() < 0.3 * change


def test_without_frames_there_are_no_strips(executor):
    executor.run(world(turned=dials(dial_1=0.5, frames=0)), "turned")
    assert told(executor)["strips"] == [] and told(executor)["grid"] == []


def test_several_sets_share_the_dials(executor):
    eyes = node("HSpaceSelectDirections", directions=["found", 0], first=1, count=2, flip=False, label="eyes")
    nodes = {"found": discover(mask=("face", 2)), "eyes": eyes}
    prompt = world(**nodes, turned=dials(directions_2=["eyes", 0], dial_4=1.0))
    ((edited, reconstruction, _, directions),) = executor.run(prompt, "turned")
    assert told(executor)["names"] == ["mouth 1", "mouth 2", "mouth 3", "eyes 1", "eyes 2"]
    assert directions["vectors"].shape[1] == 5 and directions["calibration"]["unit"].shape == (2, 5)
    change = (edited - reconstruction).abs().mean(-1)[0]
    assert float(change[20:36].mean()) > 3 * float(change[48:].mean())


def test_protection_holds_everything_outside_the_region(executor):
    prompt = world(free=dials(dial_1=1.0), held=dials(dial_1=1.0, protect=1.0))
    free, held, face = executor.run(prompt, "free", "held", "face")
    rim = (slice(None), slice(0, 16))
    assert torch.allclose(held[0][rim], face[0][rim], atol=1e-4)
    assert not torch.allclose(free[0][rim], face[0][rim], atol=5e-3)


def test_a_steered_model_keeps_its_edit(executor):
    prompt = world(found=discover(), steered=steer(20.0, ("all", 0), sigma_start=3.4))
    prompt |= {"off": dials(model="steered"), "on": dials(model="steered", dial_2=1.0), "plain": render("steered")}
    off, on, plain = executor.run(prompt, "off", "on", "plain")
    assert torch.allclose(off[0], plain[0], atol=1e-5) and torch.equal(off[1], plain[1])
    assert not torch.allclose(on[0], off[0], atol=0.05) and not torch.allclose(off[0], off[1], atol=0.05)


def test_calibrated_directions_are_not_calibrated_again(executor, tmp_path):
    prompt = world(turned=dials(dial_1=0.5))
    ((_, _, _, directions),) = executor.run(prompt, "turned")
    turning = executor.module("nodes.turning")
    payload = executor.module("core.payload")
    measured = payload.directions_from_payload(directions)
    unit = measured.calibration
    assert unit is not None and unit.has_window(3.4, 0.1) and unit.size == (64, 64)
    prompt["saved"] = node("HSpaceSaveDirections", directions=["turned", 3], name="calibrated")
    ((file,),) = executor.run(prompt, "saved")
    prompt |= {"all": node("HSpaceLoadDirections", file=file), "kept": dials("all", dial_1=0.5, frames=0)}
    calls = []
    original = turning.calibrate
    turning.calibrate = lambda *given, **more: calls.append(1) or original(*given, **more)
    try:
        ((edited, *_),) = executor.run(prompt, "kept")
        assert not calls
        prompt["kept"]["inputs"]["sigma_start"] = 2.0
        executor.run(prompt, "kept")
        assert len(calls) == 1
        prompt["kept"]["inputs"]["sigma_start"] = 3.4
        prompt["face"]["inputs"]["seed"] = 12  # another picture changes by another amount
        executor.run(prompt, "kept")
        assert len(calls) == 2
    finally:
        turning.calibrate = original
    prompt["face"]["inputs"]["seed"] = 35
    assert torch.equal(edited, executor.run(prompt, "turned")[0][0])


def test_in_latents_pictures_come_through_the_vae(executor):
    prompt = {**latent_base(), **latent_discover()}
    prompt["turned"] = dials("discover", sigma_start=0.0, dial_1=1.0, vae=["vae", 0])
    ((edited, reconstruction, *_),) = executor.run(prompt, "turned")
    facts = told(executor)
    assert edited.shape == reconstruction.shape and edited.shape[0] == 1 and edited.shape[-1] == 3
    assert facts["size"] == [edited.shape[2], edited.shape[1]]
    frames = [picture(executor, file) for file in facts["strips"]]
    assert all(one.shape == (edited.shape[1], 3 * edited.shape[2], 3) for one in frames)
    assert float((edited - reconstruction).abs().mean()) > 2 / 255
    del prompt["turned"]["inputs"]["vae"]
    with pytest.raises(NodeFailed, match="connect the VAE of its checkpoint to 'vae'"):
        executor.run(prompt, "turned")


@pytest.mark.parametrize("dtype", ["scaled fp8", "int8"])
def test_quantised_weights_turn_and_take_the_directions_of_the_release(executor, dtype):
    """Whoever has little memory loads such a copy; a turn asks for predictions alone."""
    prompt = {**latent_base(), **latent_discover()}
    prompt["copy"] = node("HSpaceTestUNet", network="sd15", dtype=dtype, seed=0)
    prompt["copied"] = {**prompt["invert"], "inputs": {**prompt["invert"]["inputs"], "model": ["copy", 0]}}
    settings = {"sigma_start": 0.0, "vae": ["vae", 0], "frames": 0}
    prompt["turned"] = dials("discover", model="copy", trajectory=["copied", 0], dial_1=1.0, **settings)
    ((edited, reconstruction, model, directions),) = executor.run(prompt, "turned")
    assert float((edited - reconstruction).abs().mean()) > 2 / 255
    assert 0 < float(directions["calibration"]["unit"].min()) < float("inf")
    assert model.model is executor.run(prompt, "copy")[0][0].model


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"dial_4": 0.5}, ("dial_4", "3 directions are connected")),
        ({"frames": 4}, ("'frames'", "odd number", "take 5")),
        ({"mask": ["face", 1]}, ("mask", "protect")),
        ({"sigma_start": 0.2, "sigma_end": 0.3}, ("sigma_start",)),
        ({"sigma_start": 0.0011, "sigma_end": 0.001}, ("none of them in that window",)),
    ],
)
def test_what_cannot_act_is_refused_before_the_network_is_asked(executor, inputs, words):
    from devtools.evaluations.counter import counting

    prompt = world(turned=dials(**inputs))
    executor.run(prompt, "mouth", "invert", "face")
    with counting(executor) as counter, pytest.raises(NodeFailed) as error:
        executor.run(prompt, "turned")
    assert all(word in str(error.value) for word in words)
    assert counter.of["turned"].calls == 0


def test_a_mask_of_the_whole_photograph_protects_as_the_cut_one_does(executor):
    (face, mouth, *_), (model, *_) = executor.run(world(), "face", "model")
    wide = torch.nn.functional.pad(face.movedim(-1, 1).repeat_interleave(2, 2).repeat_interleave(2, 3), (64, 64))
    painted = torch.nn.functional.pad(mouth.repeat_interleave(2, 1).repeat_interleave(2, 2), (64, 64))
    sigmas = executor.call("BasicScheduler", model=model, scheduler="karras", steps=8, denoise=1.0)[0]
    inverted = {"model": model, "image": wide.movedim(1, -1), "sigmas": sigmas, "method": "fixed point"}
    trajectory = executor.call("HSpaceInvertImage", iterations=4, **inverted)[0]
    assert trajectory["fit"]["source"] == [128, 256]
    (directions,) = executor.run(world(), "mouth")[0]
    given = {"model": model, "trajectory": trajectory, "directions": directions, "frames": 0, "dial_2": 1.0, **WINDOW}
    looking = executor.module("nodes.looking")
    inside = looking.mask_of(model, executor.module("core.payload").trajectory_from_payload(trajectory), painted)
    assert float((inside - mouth[0]).abs().mean()) < 0.01  # to the edge's smoothness
    cut, whole = (executor.call("HSpaceDials", **given, protect=1.0, mask=m)[0] for m in (inside[None], painted))
    assert torch.equal(cut, whole)
    picture_cut = (trajectory["states"][-1, 0].movedim(0, -1) + 1) / 2
    change = (whole[0] - picture_cut).abs().amax(-1)  # what is protected is the picture itself, not its reconstruction
    far = torch.nn.functional.max_pool2d(mouth[None], 9, 1, 4)[0, 0] == 0  # protection has a smooth edge
    assert float(change[far].max()) <= 1 / 255
    assert float(change[mouth[0] > 0.5].max()) > 0.1
