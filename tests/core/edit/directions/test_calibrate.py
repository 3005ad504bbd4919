"""Calibrated strength: dial 1 reaches the target on a network of random weights and on the face model, either way."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from core.calibration import Calibration, joined
from core.directions import Directions
from core.discover.mask import output_weights
from core.edit.directions.calibrate import CHANGE, LATENT_CHANGE, calibrate, region_change
from core.edit.directions.combine import combine, select
from core.edit.directions.dials import REACH, Dials, WayBack, check_layers, strip_values, strips
from core.edit.directions.shorten import below_window
from core.edit.directions.steer import Edit, SteerOptions
from core.edit_schedule import EditSchedule
from core.files.checkpoint import load_denoiser
from core.files.directions import load_directions
from core.invert.fixed_point import invert_fixed_point
from core.sample import reconstruct
from core.schedule import karras

WEIGHTS = Path(__file__).resolve().parents[4] / "weights"
WINDOW = EditSchedule(1.0, 1.5, 0.1)


@pytest.fixture(scope="module")
def found(small, small_trajectory) -> Directions:
    """Two directions of noise, with a mask; the gain of the second is not known."""
    h = small.split(small_trajectory.noisiest[:1], small_trajectory.sigmas[:1]).h
    v = torch.randn(1, 2, *h.shape[1:], generator=torch.Generator().manual_seed(3))
    v = v / v.flatten(2).norm(dim=2)[..., None, None, None]
    mask = torch.zeros(16, 16)
    mask[4:12, 4:12] = 1
    gain = torch.tensor([[0.05, 0.0]])
    level = torch.tensor([1.0], dtype=torch.float64)
    return Directions(v, level, gain, gain.clone(), "middle", small.fingerprint, mask)


@pytest.fixture(scope="module")
def face(device):
    """The face model, an inverted face, and the ready directions of its mouth."""
    model = load_denoiser(WEIGHTS / "face_model.safetensors", device)
    from core.faces.factors import sample
    from core.faces.render import render

    picture = render(sample(1, torch.Generator().manual_seed(7)), 64)[0] * 2 - 1
    path = invert_fixed_point(model, picture.to(device), karras(10, 20.0))
    return model, path, load_directions(WEIGHTS / "directions" / "mouth.safetensors").select([0, 1, 2])


def changes(model, path, directions: Directions, value: float) -> torch.Tensor:
    """Change inside the mask of every dial at one value."""
    dials = Dials((directions,))
    rows = [[0.0] * len(dials), *(value * torch.eye(len(dials))).tolist()]
    before, *after = WayBack(model, path.repeat(len(rows))).picture(dials.edits(rows)).clamp(-1, 1)
    weights = output_weights(directions.mask, tuple(path.x0.shape[1:])).reshape(path.x0.shape[1:])
    return region_change(torch.stack(after), before[None], weights)


@pytest.mark.parametrize("value", [1.0, -1.0])
def test_the_face_model_changes_by_the_target(face, value):
    model, path, directions = face
    schedule = EditSchedule(1.0, 6.4, 0.1)
    calibrated = replace(directions, calibration=calibrate(model, path, directions, schedule))
    near = changes(model, path, calibrated, value) / CHANGE
    assert bool(((near > 1 / 1.1) & (near < 1.1)).all())
    half = changes(model, path, calibrated, value / 2) / CHANGE
    assert bool(((half > 0.3) & (half < 0.85)).all())


def test_it_is_met_whatever_the_window(face):
    model, path, directions = face
    units = []
    for high, low in ((6.4, 0.1), (2.5, 0.4)):
        unit = calibrate(model, path, directions, EditSchedule(1.0, high, low))
        near = changes(model, path, replace(directions, calibration=unit), 1.0) / CHANGE
        assert bool(((near > 1 / 1.1) & (near < 1.1)).all())
        assert unit.has_window(high, low) and not unit.has_window(high, low + 0.2)
        assert unit.is_of(path.x0.clone()) and not unit.is_of(-path.x0) and not unit.is_of(path.x0[..., 1:])
        units.append(unit.unit)
    assert bool((units[1] > 1.1 * units[0]).all())  # a narrower window takes more


def test_a_network_of_random_weights_too_and_without_a_gain(small, small_trajectory, found):
    path = small_trajectory.image(0)
    calibrated = replace(found, calibration=calibrate(small, path, found, WINDOW))
    for value in (1.0, -1.0):
        near = changes(small, path, calibrated, value) / CHANGE
        assert bool(((near > 1 / 1.3) & (near < 1.3)).all())
    wide = calibrate(small, path, found, WINDOW, latents=True).unit
    assert bool((wide > 1.1 * calibrated.calibration.unit).all()) and LATENT_CHANGE > CHANGE
    few = calibrate(small, path, found, WINDOW, size=2)
    assert torch.allclose(few.unit, calibrated.calibration.unit, rtol=1e-2)


def test_it_calls_the_network_three_times_a_level_at_most(small, small_trajectory, found):
    calls = []
    calibrate(small, small_trajectory, found.select([0]), WINDOW, callback=calls.append)
    levels = sum(s <= 1.5 for s in small_trajectory.sigmas.tolist()[:-1])
    assert levels <= len(calls) <= 3 * levels


def test_a_window_without_a_step_is_refused(small, small_trajectory, found):
    with pytest.raises(ValueError, match="none of them in that window"):
        calibrate(small, small_trajectory, found, EditSchedule(1.0, 0.0011, 0.001))


def unit(k: int = 2, high: float = 1.5) -> Calibration:
    values = torch.arange(1.0, 2 * k + 1).reshape(2, k)
    return Calibration(values, torch.full((k,), 64.0), high, 0.1, (16, 16), "0" * 16)


def test_it_goes_with_its_directions(found):
    one = replace(found, calibration=unit())
    assert one.calibration.strength(1, 0.5) == 1.0 and one.calibration.strength(0, -2.0) == -6.0
    assert one.calibration.strength(1, 0.0) == 0.0
    assert one.select([1]).calibration.unit.tolist() == [[2.0], [4.0]]
    assert select(one, 0, 2, flip=True).calibration.unit.tolist() == [[3.0, 4.0], [1.0, 2.0]]
    both = combine([one, replace(found, calibration=unit(2, 1.5))]).calibration
    assert both.unit.shape == (2, 4) and len(both.area) == 4
    assert combine([one, replace(found, calibration=unit(2, 1.4))]).calibration is None
    assert combine([one, found]).calibration is None and combine([one, one], "add").calibration is None
    assert joined([]) is None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"unit": torch.zeros(2, 2)}, "above 0"),
        ({"unit": torch.ones(3, 2)}, r"\[2 k\]"),
        ({"unit": torch.full((2, 2), float("nan"))}, "finite"),
        ({"area": torch.ones(3)}, r"area must be \[2\]"),
        ({"sigma_start": 0.01}, "from high to low"),
        ({"sigma_start": float("inf")}, "finite"),
        ({"size": (16, 0)}, "height and width"),
        ({"picture": "../x"}, "16 hex digits"),
    ],
)
def test_a_calibration_that_cannot_be_is_refused(changed, said):
    with pytest.raises(ValueError, match=said):
        replace(unit(), **changed)


def test_a_set_takes_the_calibration_of_as_many_directions(found):
    with pytest.raises(ValueError, match="of 3 directions, not of 2"):
        replace(found, calibration=unit(3))


def test_dials_at_0_are_the_picture_bit_for_bit(small, small_trajectory, found):
    dials = Dials((replace(found, calibration=unit()),))
    path = reconstruct(small, small_trajectory.image(0))
    assert torch.equal(WayBack(small, path).picture(dials.edits([[0.0, 0.0]])), path.rebuilt)
    assert not torch.equal(WayBack(small, path).picture(dials.edits([[0.5, 0.0]])), path.rebuilt)


def test_dials_of_two_sets_act_in_their_own_windows(small, small_trajectory, found):
    near, far = (
        replace(found, calibration=unit(2, high), labels=labels) for high, labels in ((0.8, ()), (1.5, ("a", "b")))
    )
    dials = Dials((near, far))
    assert dials.labels == ["#1", "#2", "a", "b"] and len(dials) == 4
    first, second = dials.edits([[1.0, 0.0, 0.0, -1.0]])
    assert (first.schedule.sigma_start, second.schedule.sigma_start) == (0.8, 1.5)
    assert first.weights == (1.0, 0.0) and second.weights == (0.0, -4.0)
    rows = dials.edits([[1.0, 0, 0, 0], [0, 0, 1.0, 0]])
    assert rows[0].weights == ((1.0, 0.0), (0.0, 0.0)) and rows[1].weights == ((0.0, 0.0), (1.0, 0.0))
    other = replace(far, layer="up.0")
    with pytest.raises(ValueError, match="must share a layer"):
        check_layers(Dials((near, other)).edits([[1.0] * 4]), small_trajectory)
    with pytest.raises(ValueError, match="calibrate each set first"):
        Dials((found,))


def test_a_strip_reaches_both_ends_and_crowds_around_0():
    assert strip_values(3) == [-REACH, 0.0, REACH]
    values = strip_values(9)
    gaps = [b - a for a, b in pairwise(values)]
    assert values[4] == 0 and gaps[4] < gaps[5] < gaps[6] and values == [-v for v in reversed(values)]
    for frames in (1, 2, 4):
        with pytest.raises(ValueError, match="odd number"):
            strip_values(frames)


def test_strips_in_few_steps_show_what_all_steps_show(face):
    model, path, directions = face
    schedule = EditSchedule(1.0, 6.4, 0.1)
    dials = Dials((replace(directions, calibration=calibrate(model, path, directions, schedule)),))
    way = WayBack(model, path)
    plain, frames = strips(way, dials, strip_values(3), size=4)
    assert frames.shape == (3, 2, 3, 64, 64) and plain.shape == (1, 3, 64, 64)
    whole, _ = strips(way, dials, strip_values(3), size=32)
    assert torch.allclose(whole, plain, atol=1e-4)
    for i in range(3):
        setting = [REACH if i == j else 0.0 for j in range(3)]
        exact = way.picture(dials.edits([setting])) - path.x0
        shown = frames[i, 1] - plain[0]
        assert float((shown - exact).norm()) < 0.35 * float(exact.norm())


def test_only_the_part_of_a_way_back_that_is_edited_is_kept(small_trajectory, found):
    edit = Edit(found, WINDOW, (1.0, 0.0))
    levels = small_trajectory.sigmas.tolist()
    inside = [s for s in levels if s <= 1.5]
    assert below_window(small_trajectory, [edit]).sigmas.tolist() == inside
    few = below_window(small_trajectory, [edit], steps=2)
    assert few.sigmas.tolist() == [inside[0], inside[-2], inside[-1]]
    assert torch.equal(few.states[0], small_trajectory.at(inside[0]))
    last = Edit(found, EditSchedule(1.0, inside[2], inside[2]), (1.0, 0.0))
    both = below_window(small_trajectory, [edit, last], steps=2).sigmas.tolist()
    assert inside[2] in both  # no edit is left without a level
    assert below_window(replace(small_trajectory, moved=True), [edit]).sigmas.tolist() == levels
    assert WayBack(None, small_trajectory, options=SteerOptions(start="auto")).on(few).options.start == "top"
