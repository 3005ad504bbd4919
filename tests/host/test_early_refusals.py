"""Whatever follows from the inputs alone is refused before the network is asked once, and by the name of the input."""

import pytest
import torch

from devtools.executor import NodeFailed

from .dial_world import Bench, at
from .graphs import FACE, base, discover, node
from .refusal_cases import CASES
from .worlds import EVERY, World, baseline, render, steer, watched


@pytest.fixture(scope="module")
def worlds(executor):
    return {False: World(executor), True: World(executor, text=True)}


@pytest.fixture(scope="module")
def bench(executor):
    return Bench(executor)


class Counted:
    """A MODEL that counts what is asked of it."""

    def __init__(self, model):
        self.calls = 0
        self.model = watched(model, self._count)

    def _count(self, sigma: float, out: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return out


@pytest.mark.parametrize("name", CASES)
def test_refused_before_the_network_is_asked(worlds, name):
    text, recipe, words = CASES[name]
    w = worlds[text]
    counted = Counted(w.model)
    with pytest.raises(ValueError) as error:
        recipe(w, counted.model)
    assert counted.calls == 0
    for word in words:
        assert word in str(error.value), f"{word!r} is not in: {error.value}"


def test_the_counter_counts(worlds):
    counted = Counted(worlds[False].model)
    EVERY["Invert Image, ddim B"](worlds[False], counted.model)
    assert counted.calls >= 2 * 4  # up and back


def test_a_moderate_mismatch_and_a_snapped_level_are_said_on_the_node(executor):
    prompt = base(steps=4, iterations=1)
    prompt["scaled"] = node("ImageScale", image=[FACE, 0], upscale_method="area", width=96, height=128, crop="disabled")
    prompt["invert"]["inputs"] |= {"image": ["scaled", 0], "fit": "crop"}
    executor.run(prompt, "invert")
    said = [
        text for event, (name, text) in ((e, d) for e, d in executor.server.events if e == "text") if name == "invert"
    ]
    fitted, strange = said
    assert fitted.startswith("image is 96x128: the middle taken at 64x64 (scaled by 0.667): this model works at 64x64")
    assert strange.startswith("not a picture of this model's world: ")
    prompt = {**base(steps=4, iterations=1), "discover": discover(sigma=1.6, iterations=1, k=1)}
    ((_, _, report),) = executor.run(prompt, "discover")
    said = [
        text for event, (name, text) in ((e, d) for e, d in executor.server.events if e == "text") if name == "discover"
    ]
    sigmas = executor.run(prompt, "sigmas")[0][0][:-1]
    level = float(sigmas[(sigmas.log() - torch.tensor(1.6).log()).abs().argmin()])
    assert (
        len(said) == 1
        and said[0].startswith(f"nearest stored level {level:.2f} for 1.60")
        and f"nearest stored level {level:.2f} for 1.60" in report
    )
    executor.run({**base(steps=4, iterations=1), "discover": discover(sigma=level, iterations=1, k=1)}, "discover")
    assert not [d for e, d in executor.server.events if e == "text"]


@pytest.mark.sweep("")
@pytest.mark.parametrize("scale", [0.5, 2.0, 1.5, 2.34375])
def test_a_mask_of_another_size_does_what_it_does_scaled_by_hand(worlds, executor, bench, scale):
    """Discover and LOCO on a network of 16 pixels, which they ask a hundred times."""
    w, fit = worlds[False], executor.module("core.edit.protect").fit_mask

    def both(mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        size = mask.shape[-1]
        drawn = fit(mask[0], round(size * scale), round(size * scale))[None]
        return drawn, fit(drawn[0], size, size)[None]

    edited = w.image.clone()
    edited[:, 40:50, 24:40] += 0.1
    edited = edited.clamp(0, 1)
    nodes = {
        "Measure Edit": lambda m: w.call("HSpaceMeasureEdit", before=w.image, after=edited, mask=m, factors="off")[1],
        "Render": lambda m: render(w, steer(w, w.model)[0], protect=1.0, mask=m)[0],
        "Recolour": lambda m: w.call(
            "HSpaceRecolourEditFriendly", model=w.model, trajectory=w.noises, colour=w.image, strength=0.1, mask=m
        )[0]["noises"],
    }
    few = {"model": at("small"), "trajectory": at("small invert"), "k": 1, "sigma": 1.6, "iterations": 1}
    small = {
        "Discover": lambda m: bench.call(
            "HSpaceDiscoverRegion", {**few, "mask": m, "mode": "generalized", "tau": 0.01, "rank": 20}
        ),
        "LOCO": lambda m: bench.call(
            "HSpaceBaselineDirections", {**few, "mask": m, "method": "LOCO Edit (x)", "rank": 1}
        ),
    }
    for name, run in nodes.items():
        one, other = map(run, both(w.mask))
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other, name
    drawn, by_hand = both(bench.get(at("small mask")))
    assert drawn.shape != by_hand.shape
    for name, run in small.items():
        assert torch.equal(run(drawn)[0]["vectors"], run(by_hand)[0]["vectors"]), name


def test_measure_compares_what_a_vae_leaves_of_a_picture(worlds):
    w = worlds[False]
    before = torch.rand(1, 131, 145, 3)
    after = before[:, 1:129]  # 128x144 out of the middle, as the host crops it
    after = after[:, :, :144].clone()
    table, facts, _, _ = w.call("HSpaceMeasureEdit", before=before, after=after, factors="off")
    assert '"psnr": 120.0' in facts and "'before' is 145x131, 'after' 144x128" in table
    with pytest.raises(ValueError, match=r"scale 'before' to 64x64 with Upscale Image"):
        w.call("HSpaceMeasureEdit", before=torch.rand(1, 150, 150, 3), after=torch.rand(1, 64, 64, 3), factors="off")


def test_a_picture_of_another_world_has_no_factors(worlds):
    w = worlds[False]
    table, _, _, _ = w.call("HSpaceMeasureEdit", before=w.image, after=w.image, factors="face world")
    assert "| smile |" in table.replace("**", "") and "not a face" not in table
    photo = torch.nn.functional.interpolate(torch.rand(1, 3, 5, 7), (64, 64), mode="bilinear").movedim(1, -1)
    table, facts, _, _ = w.call("HSpaceMeasureEdit", before=photo, after=photo, factors="face world")
    assert "'before' is not a face of the face world" in table and "smile" not in table and '"factors": {}' in facts


def test_a_server_refusal_needs_no_run(executor):
    with pytest.raises(NodeFailed) as error:
        executor.run({**base(steps=3, iterations=1), "discover": discover(k=65)}, "discover")
    assert error.value.kind == "refused"


def test_baseline_runs_where_nothing_is_wrong(worlds):
    assert baseline(worlds[False], worlds[False].model, "LOCO Edit (x)")[0]["vectors"].shape[1] == 1
