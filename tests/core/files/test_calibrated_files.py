"""Calibrations in direction files and on sockets: exact round trips, and a ValueError for half of one or a wrong one."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.calibration import Calibration
from core.directions import Directions
from core.files.directions import load_directions, read_directions, save_directions
from core.payload import directions_from_payload, directions_to_payload

from .test_direction_files import JSON, MODEST, directions, facts, with_metadata


def calibrated() -> Directions:
    unit = torch.rand(2, 3, generator=torch.Generator().manual_seed(4)) + 0.5
    return replace(
        directions(), calibration=Calibration(unit, torch.tensor([9.0, 8.5, 80.0]), 6.4, 0.1, (64, 48), "a" * 16)
    )


def test_a_calibration_comes_back_exactly(tmp_path):
    for half in (False, True):
        back = load_directions(save_directions(tmp_path / "c.safetensors", calibrated(), half)).calibration
        assert torch.equal(back.unit, calibrated().calibration.unit)
        assert torch.equal(back.area, calibrated().calibration.area)
        assert (back.sigma_start, back.sigma_end, back.size) == (6.4, 0.1, (64, 48))
    payload = directions_to_payload(calibrated())
    assert directions_from_payload(payload).calibration.size == (64, 48)
    without = {name: value for name, value in payload.items() if name != "calibration"}
    assert directions_from_payload(without).calibration is None


CALIBRATION = {"sigma_start": 6.4, "sigma_end": 0.1, "size": [64, 48], "picture": "a" * 16}
UNIT = {"unit": torch.ones(2, 3), "area": torch.ones(3)}


@pytest.mark.parametrize(
    ("given_", "tensors"),
    [
        ({"calibration": CALIBRATION}, {}),
        ({}, UNIT),
        ({"version": 2, "calibration": CALIBRATION}, UNIT),
        ({"calibration": CALIBRATION}, {**UNIT, "unit": torch.ones(3, 3)}),
        ({"calibration": CALIBRATION}, {**UNIT, "unit": torch.ones(2, 4)}),
        ({"calibration": CALIBRATION}, {**UNIT, "unit": -torch.ones(2, 3)}),
        ({"calibration": CALIBRATION}, {**UNIT, "area": torch.zeros(3)}),
        ({"calibration": {**CALIBRATION, "more": 1}}, UNIT),
        ({"calibration": {**CALIBRATION, "sigma_end": 9.0}}, UNIT),
        ({"calibration": {**CALIBRATION, "size": [64, 48.5]}}, UNIT),
        ({"calibration": {**CALIBRATION, "size": 3}}, UNIT),
        ({"calibration": {**CALIBRATION, "picture": 3}}, UNIT),
        ({"calibration": {**CALIBRATION, "sigma_start": "x"}}, UNIT),
        ({"calibration": None}, UNIT),
    ],
)
def test_half_a_calibration_or_a_wrong_one_is_refused(given_, tensors):
    assert read_directions(with_metadata(facts(version=3, calibration=CALIBRATION), **UNIT)).calibration is not None
    with pytest.raises(ValueError, match="direction file"):
        read_directions(with_metadata(facts(**{"version": 3, **given_}), **tensors))


@MODEST
@given(key=st.sampled_from(sorted(CALIBRATION)), value=JSON)
def test_hostile_calibrations_give_directions_or_a_value_error(key, value):
    try:
        read = read_directions(with_metadata(facts(version=3, calibration={**CALIBRATION, key: value}), **UNIT))
    except ValueError:
        return
    assert read.calibration.sigma_start >= read.calibration.sigma_end >= 0 and min(read.calibration.size) > 0


def test_damaged_payloads_name_the_socket():
    payload = directions_to_payload(calibrated())
    for damage in ({"unit": None}, {"size": 3}, {"area": torch.ones(2)}, {"sigma_start": "x"}):
        with pytest.raises(ValueError, match="HSPACE_DIRECTIONS"):
            directions_from_payload({**payload, "calibration": {**payload["calibration"], **damage}})
    with pytest.raises(ValueError, match=r"calibration must hold area, picture, .* unit"):
        directions_from_payload({**payload, "calibration": {}})
