"""The dials of sampling back act on every kind of edit: one list of all ways in which a MODEL or a trajectory can be
edited."""

from __future__ import annotations

import pytest
import torch

from .dial_world import Bench, Link, at, pack_nodes

FACE = {"model": at("model"), "trajectory": at("invert")}


@pytest.fixture(scope="module")
def bench(executor) -> Bench:
    return Bench(executor)


def edit_inputs(kind: str, strength: str, value: float, **inputs):
    """Inputs of an edit of the face model, and the widget that switches it off at 0."""
    return kind, strength, {"model": at("model"), strength: value, **inputs}


EDITS = {
    "HSpaceSteer": edit_inputs("HSpaceSteer", "strength", 15.0, directions=at("mouth")),
    "HSpaceSteerTrained": edit_inputs("HSpaceSteerTrained", "strength", 1.0, trained=at("asyrp")),
    "HSpaceSteerFineTuned": edit_inputs("HSpaceSteerFineTuned", "degree", 1.0, lora=at("tuned")),
    "HSpaceApplyRectifier": edit_inputs(
        "HSpaceApplyRectifier",
        "amount",
        1.0,
        trajectory=at("invert"),
        rectifier=at("rectifier"),
        edit=at("rectifier edit"),
    ),
    "HSpaceDials": edit_inputs("HSpaceDials", "dial_2", 1.0, trajectory=at("invert"), directions=at("mouth"), frames=0),
    "HSpaceEditState": edit_inputs(
        "HSpaceEditState", "strength", 20.0, trajectory=at("invert"), directions=at("face state")
    ),
}
ELSEWHERE = {  # edits that Render Trajectory refuses or that act in a sampler alone
    "HSpacePromptToPrompt",
    "HSpaceP2PLocalBlend",
    "HSpaceInjectFeatures",
    "HSpaceProximalCFG",
    "HSpaceEditDial",
    "HSpaceRecolourEditFriendly",
}


def edited(bench: Bench, name: str, value: float | None = None) -> dict:
    """MODEL and trajectory with an edit, at ``value`` of its strength."""
    kind, strength, inputs = EDITS[name]
    if value is not None:
        inputs = {**inputs, strength: value}
    outputs = bench.call(kind, {**bench.defaults(kind), **inputs})
    result = next(output for output in outputs if not isinstance(output, torch.Tensor))  # Dials gives pictures first
    return {**FACE, "trajectory" if isinstance(result, dict) else "model": result}


def render(bench: Bench, given: dict, **options):
    return bench.call("HSpaceRenderTrajectory", {**given, "asymmetric": False, "protect": 0.0, **options})


def test_the_list_holds_every_node_that_edits_a_model_or_a_trajectory(executor):
    names = set()
    for name in pack_nodes(executor):
        schema = executor.classes[name].define_schema()
        taken, given = ({i.get_io_type() for i in part} for part in (schema.inputs, schema.outputs))
        names |= {name for kind in ("MODEL", "HSPACE_TRAJECTORY") if kind in taken and kind in given}
    assert names == set(EDITS) | ELSEWHERE


@pytest.mark.parametrize("name", EDITS)
def test_protect_holds_what_lies_far_from_the_mask(bench, name):
    given, mask = edited(bench, name), bench.get(at("face", 1))
    free = render(bench, given)[0]
    protected = render(bench, given, protect=1.0, mask=mask)[0]
    far = torch.nn.functional.max_pool2d(mask[None], 9, 1, 4)[0] == 0
    picture = bench.get(at("face"))
    assert float((protected - picture).abs()[far].max()) <= 1 / 255
    assert float((free - picture).abs()[far].max()) > 3 / 255
    assert float((protected - picture).abs()[mask > 0.5].max()) > 3 / 255


@pytest.mark.sweep("")
@pytest.mark.parametrize("name", EDITS)
@pytest.mark.parametrize("dial", [{"boost": 10.0}, {"eta": 0.7}], ids=["boost", "eta"])
def test_fresh_noise_is_drawn_for_every_edit_and_repeats_with_its_seed(bench, name, dial):
    given = edited(bench, name)
    off, one, again, other = (
        render(bench, given, **more)[0] for more in ({}, {**dial, "seed": 3}, {**dial, "seed": 3}, {**dial, "seed": 4})
    )
    assert torch.equal(one, again)
    assert float((one - off).abs().max()) > 3 / 255 and float((one - other).abs().max()) > 3 / 255


@pytest.mark.parametrize("name", EDITS)
def test_off_is_the_reconstruction_bit_for_bit_and_says_so(bench, name):
    given, mask = edited(bench, name, 0.0), bench.get(at("face", 1))
    node = bench.executor.classes["HSpaceRenderTrajectory"]
    inputs = {k: bench.get(v) if isinstance(v, Link) else v for k, v in given.items()}
    with torch.inference_mode():
        result = node.PREPARE_CLASS_CLONE(None).EXECUTE_NORMALIZED(
            **inputs, asymmetric=False, protect=1.0, mask=mask, eta=0.7, boost=5.0, seed=3
        )
    plain = render(bench, given)
    assert torch.equal(result.result[0], plain[0])
    if name != "HSpaceEditState":  # whose way back begins at its own level
        assert torch.equal(plain[0], plain[1])
    said = str(result.ui)
    said = said if "nothing" in said else str(vars(result.ui))
    assert all(f"{dial} does nothing" in said for dial in ("eta", "boost", "protect"))


def resume(bench: Bench, model, trajectory, **options):
    """The face on its way back through the stock sampler."""
    inputs = {"trajectory": trajectory, "asymmetric": False, **options}
    sampler, sigmas = bench.call("HSpaceResumeTrajectory", inputs)
    guider = bench.call("BasicGuider", {"model": model, "conditioning": at("model", 2)})[0]
    run = {"guider": guider, "sampler": sampler, "sigmas": sigmas}
    links = {"noise": at("no noise"), "latent_image": at("invert", 1), **run}
    return bench.call("SamplerCustomAdvanced", links)[0]["samples"]


@pytest.mark.parametrize("name", [n for n in EDITS if n != "HSpaceEditState"])
def test_resume_draws_noise_for_every_edit_and_none_at_strength_0(bench, name):
    def run(value, eta):
        given = edited(bench, name, value)
        return resume(bench, given["model"], given["trajectory"], eta=eta)

    assert torch.equal(run(0.0, 0.5), run(0.0, 0.0))
    assert float((run(None, 0.5) - run(None, 0.0)).abs().max()) > 0.02


def test_dials_of_edits_of_h_are_refused_without_one(bench):
    for name in ("HSpaceSteerFineTuned", "HSpaceApplyRectifier", "HSpaceEditState"):
        for dial in ("asymmetric", "lagged"):
            with pytest.raises(ValueError, match=f"'{dial}' is True, but it belongs to edits of h"):
                render(bench, edited(bench, name), **{dial: True})


IN_A_SAMPLER = {
    "Inject Features": ("HSpaceInjectFeatures", {"trajectory": at("tiny one")}),
    "Prompt-to-Prompt": ("HSpacePromptToPrompt", {"tokens": at("pair", 1)}),
    "P2P Local Blend": ("HSpaceP2PLocalBlend", {"tokens": at("pair", 1), "words": "cat"}),
    "Proximal CFG": ("HSpaceProximalCFG", {}),
    "Edit Dial": ("HSpaceEditDial", {"source": at("tiny encoded")}),
}


@pytest.mark.parametrize("name", IN_A_SAMPLER)
def test_edits_that_act_in_a_sampler_only_are_refused_by_name(bench, name):
    kind, inputs = IN_A_SAMPLER[name]
    model = bench.call(kind, {**bench.defaults(kind), "model": at("tiny"), **inputs})[0]
    links = {"model": model, "trajectory": at("tiny one"), "vae": at("tiny vae"), "asymmetric": False, "protect": 0.0}
    with pytest.raises(ValueError, match=f"carries {name}, which act in a sampler only"):
        bench.call("HSpaceRenderTrajectory", links)


def test_proximal_guidance_that_changes_nothing_is_not_refused(bench):
    off = bench.call(
        "HSpaceProximalCFG", {**bench.defaults("HSpaceProximalCFG"), "model": at("tiny"), "quantile": 0.0}
    )[0]
    links = {"trajectory": at("tiny one"), "vae": at("tiny vae"), "asymmetric": False, "protect": 0.0}
    one, other = (bench.call("HSpaceRenderTrajectory", {"model": model, **links})[0] for model in (off, at("tiny")))
    assert torch.equal(one, other)


WINDOWS = {"above": (900.0, 800.0), "between": (1e-3, 9e-4)}


@pytest.mark.parametrize("where", WINDOWS)
@pytest.mark.parametrize("kind", ["HSpaceSteer", "HSpaceSteerFineTuned"])
@pytest.mark.parametrize("way", ["render", "resume", "sampler"])
def test_a_window_without_a_step_is_refused_wherever_it_is_sampled(bench, kind, way, where):
    start, end = WINDOWS[where]
    if kind == "HSpaceSteerFineTuned" and where == "above":
        start, end = 200.0, 190.0
    inputs = {**EDITS[kind][2], "sigma_start": start, "sigma_end": end}
    model = bench.call(kind, {**bench.defaults(kind), **inputs})[0]
    with pytest.raises(ValueError, match=r"none of them in that window") as error:
        if way == "render":
            render(bench, {**FACE, "model": model})
        elif way == "resume":
            resume(bench, model, at("invert"))
        else:
            stock(bench, model)
    assert f"{start:g}" in str(error.value) and f"{end:g}" in str(error.value)


def stock(bench: Bench, model, denoise: float = 1.0) -> None:
    """Three steps of the stock KSampler."""
    dials = {"seed": 0, "steps": 3, "cfg": 1.0, "sampler_name": "euler", "scheduler": "karras", "denoise": denoise}
    links = {
        "positive": at("model", 2),
        "negative": at("model", 2),
        "latent_image": {"samples": torch.zeros(1, 3, 64, 64)},
    }
    bench.call("KSampler", {"model": model, **links, **dials})


def test_the_later_part_of_a_sampling_may_leave_a_window_to_the_earlier_one(bench):
    kind, _, inputs = EDITS["HSpaceSteer"]
    stock(
        bench,
        bench.call(kind, {**bench.defaults(kind), **inputs, "sigma_start": 500.0, "sigma_end": 40.0})[0],
        denoise=0.5,
    )


def test_an_automatic_start_below_the_end_is_refused(executor):
    dials, directions = executor.module("nodes.dials"), executor.module("core.directions").Directions
    ways = directions(
        torch.ones(1, 1, 1, 1, 1),
        torch.tensor([1.0], dtype=torch.float64),
        torch.ones(1, 1),
        torch.ones(1, 1),
        "middle",
        "0" * 12,
    )
    assert dials.edit_schedule(ways, 10, 0, 3.9).sigma_start == 4.0
    for start, end in ((0, 15), (3, 15)):
        with pytest.raises(ValueError, match="15") as error:
            dials.edit_schedule(ways, 10, start, end)
        assert "sigma_start" in str(error.value) and ("4" if not start else "3") in str(error.value)
