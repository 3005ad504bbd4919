"""Not one evaluation more than a method needs: the formulas of devtools/evaluations, held against what nodes ask for, and
what is left out changes no result."""

import pytest
import torch

from devtools.evaluations.counter import Count
from devtools.evaluations.need import Needs
from devtools.evaluations.needs import need_of
from devtools.evaluations.runs import read_workflow, run_counted

from .edit_friendly_graphs import world
from .feature_graphs import inverted, out, resumed
from .graphs import base, discover, half_mask, invert, node, render, steer
from .pair_graphs import SOURCE, TARGET, local_blend, p2p

MOST = 1.02
STEPS = 6
LOOKS = 4
"""Calls that tell whether a picture is of an embedded model's world."""


def counted(executor, prompt: dict) -> dict:
    """The nodes of a prompt that asked the network for something, each within the formula of its method."""
    needs, nodes = Needs(executor), run_counted(executor, prompt)
    for ran in nodes:
        if ran.count == Count():
            continue
        need, count = need_of(needs, ran), ran.count
        assert need is not None, ran.kind
        pairs = [(count.calls, need.calls), (count.rows, need.rows), (count.operators, need.operators)]
        pairs += [] if need.products is None else [(count.products, need.products)]
        assert all(value <= MOST * needed for value, needed in pairs), (ran.kind, need, count)
    return {ran.number: ran for ran in nodes}


def atlas(**options) -> dict:
    inputs = {"strength": 15.0, "columns": 3, "count": 2, "sigma_start": 1.5, "sigma_end": 0.1, "title": "", **options}
    return node(
        "HSpaceDirectionAtlas", model=["model", 0], trajectory=["invert", 0], directions=["discover", 0], **inputs
    )


def test_the_main_way(executor):
    """Invert, discover, steer, render and the atlas; a cut is compared with the whole once a model."""
    prompt = {
        **base(steps=12, iterations=4),
        "discover": discover(),
        "steer": steer(15.0, sigma_start=1.5),
        "off": steer(0.0, sigma_start=1.5),
        "render": render("steer"),
        "fresh": render("steer", eta=0.3),
        "plain": render("off"),
        "atlas": atlas(),
    }
    ran = counted(executor, prompt)
    window = sum(0.1 <= s <= 1.5 * 1.001 or s < 0.1 for s in ran["sigmas"].outputs[0].tolist()[:-1])
    expected = {"invert": LOOKS + 12 * 5 + 1 + 12, "render": window, "fresh": 12, "plain": 12, "atlas": window}
    assert {name: ran[name].count.calls for name in expected} == expected and window < 10
    assert ran["discover"].count.operators == 1
    assert {name: part.count.checks for name, part in ran.items() if part.count.checks} == {"discover": 2}
    edited, rebuilt, _ = ran["plain"].outputs
    assert torch.equal(edited, rebuilt)


def test_a_patch_of_another_node_is_compared_again(executor):
    cheap = {"k": 1, "mode": "none"}
    freeu = node("FreeU_V2", model=["model", 0], b1=1.3, b2=1.4, s1=0.9, s2=0.2)
    prompt = {
        **base(steps=4, iterations=1),
        "freeu": freeu,
        "discover": discover(**cheap),
        "again": discover(seed=1, **cheap),
        "patched": discover(model=["freeu", 0], **cheap),
    }
    ran = run_counted(executor, prompt)
    checks = {part.number: part.count.checks for part in ran if part.count.checks}
    assert sorted(checks.values()) == [2, 2] and checks["patched"] == 2


@pytest.mark.parametrize(
    ("method", "up", "back"),
    [
        ("fixed point", 2 * STEPS + 1, STEPS),
        ("ddim B", STEPS, STEPS),
        ("edict", 2 * STEPS, 2 * STEPS),
        ("bdia", STEPS, STEPS - 1),
        ("midpoint", 2 * STEPS, 2 * STEPS),
        ("fireflow", STEPS + 1, STEPS + 1),
    ],
)
def test_an_inversion_without_a_picture_of_its_way_back(executor, method, up, back):
    """It saves the way back, its trajectory is the same, and what was not made stops whoever asks for it."""
    inputs = {"method": method, "iterations": 1}
    prompt = base(steps=STEPS) | {"invert": invert(**inputs), "only": invert(**inputs, preview="residual only")}
    ran = counted(executor, prompt)
    shown, only = ran["invert"], ran["only"]
    assert (shown.count.calls, only.count.calls) == (LOOKS + up + back, LOOKS + up)
    assert torch.equal(shown.outputs[0]["states"], only.outputs[0]["states"])
    assert only.outputs[0]["reconstruction"] is None and shown.outputs[0]["reconstruction"] is not None
    assert all(type(blocked).__name__ == "ExecutionBlocker" and blocked.message for blocked in only.outputs[2:])
    if method in ("edict", "bdia"):
        assert float(only.outputs[0]["residual"].max()) < 1e-9


def test_without_it_an_edit_is_compared_with_the_picture_itself(executor):
    """Where the trajectory is exact enough; an edit at strength 0 is what sampling back gives."""
    prompt = {
        **base(steps=12, iterations=4),
        "invert": invert(iterations=4, preview="residual only"),
        "discover": discover(k=1, mode="none"),
        "steer": steer(15.0, sigma_start=1.5),
        "off": steer(0.0),
        "render": render("steer"),
        "plain": render("off"),
    }
    ran = counted(executor, prompt)
    assert torch.allclose(ran["render"].outputs[1], ran["face"].outputs[0][..., :3], atol=1e-5)
    assert torch.equal(*ran["plain"].outputs[:2]) and ran["plain"].count.calls == 12


def test_edit_friendly_noises_are_checked_at_several_levels_a_call(executor):
    prompt = world(12, levels_at_once=6)
    prompt["one"] = {**prompt["invert"], "inputs": {**prompt["invert"]["inputs"], "levels_at_once": 1}}
    prompt["only"] = {**prompt["invert"], "inputs": {**prompt["invert"]["inputs"], "preview": "residual only"}}
    ran = counted(executor, prompt)
    calls = {name: ran[name].count.calls - LOOKS for name in ("invert", "one", "only")}
    assert calls == {"invert": 4, "one": 24, "only": 2}
    assert ran["invert"].outputs[3] > 60 and ran["one"].outputs[3] > 60
    assert float(ran["only"].outputs[0]["residual"].max()) < 1e-5


def pair(targets: str, blend: dict | None = None) -> dict:
    count = 1 + len(targets.splitlines())
    prompt = inverted(1) | {
        "pair": node("HSpacePairConditioning", clip=["model", 1], source=SOURCE, targets=targets),
        "rows": node("HSpacePairLatent", latent=["invert", 1], rows=count),
        "words": p2p(cross_end=0.4, self_end=0.5),
        **half_mask(64, 64, "painted"),
    }
    if blend is not None:
        prompt["blend"] = local_blend("words", **blend)
    return prompt | resumed("words" if blend is None else "blend", "pair", 4.0, ("rows", 0))


@pytest.mark.parametrize(
    ("targets", "blend", "rows"),
    [
        (TARGET, None, 3 * 3 + 3 * 2),
        (TARGET, {"words": "hair", "mask": ["painted", 0]}, 6 * 3),
    ],
)
def test_rows_of_a_pair_that_nobody_reads_are_left_out(executor, monkeypatch, targets, blend, rows):
    """And the targets are the same."""
    prompt = pair(targets, blend)
    name = out(prompt)
    fewer = counted(executor, prompt)[name]
    assert (fewer.count.calls, fewer.count.rows) == (6, rows)
    trajectory = executor.module("nodes.host.samplers.trajectory")
    monkeypatch.setattr(trajectory, "leave_sources_out", lambda model, extra, x, pair: extra)
    whole = {ran.number: ran for ran in run_counted(executor, prompt)}[name]
    assert whole.count.rows == 6 * 2 * len(whole.outputs[0]["samples"])
    assert torch.allclose(fewer.outputs[0]["samples"], whole.outputs[0]["samples"], atol=2e-4)


def test_rows_stay_where_another_node_could_count_them(executor):
    prompt = pair(TARGET)
    prompt["rescale"] = node("RescaleCFG", model=["words", 0], multiplier=0.7)
    prompt |= resumed("rescale", "pair", 4.0, ("rows", 0))
    ran = {part.number: part for part in run_counted(executor, prompt)}
    assert ran[out(prompt)].count.rows == 6 * 4


@pytest.mark.sweep("")
@pytest.mark.parametrize(
    "name", ["edit_weights_rectified_steering", "edit_noise_ledits", "train_asyrp", "01_start_here"]
)
def test_shipped_workflows(executor, name):
    """The quick ones; ``python dev.py bench evaluations`` counts them all."""
    prompt = read_workflow(name)
    for entry in prompt.values():
        if "steps" in entry["inputs"]:
            entry["inputs"]["steps"] = 6
        if "skip" in entry["inputs"]:
            entry["inputs"]["skip"] = min(entry["inputs"]["skip"], 2)
        if entry["class_type"] == "HSpaceDials":
            entry["inputs"]["frames"] = 3  # so that a batch fits a busy machine
        if entry["class_type"] == "HSpaceTrainAsyrp":
            entry["inputs"] |= {"epochs": 2, "batch": 2}
        if entry["class_type"] == "HSpaceDemoFace":
            entry["inputs"]["count"] = min(entry["inputs"]["count"], 4)
    counted(executor, prompt)
