"""How strongly a trained shift is added in a run of other steps than its training's, and released tables of another
number of steps."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from core.edit.directions.asyrp import AsyrpEdit
from core.files.asyrp import edited_steps, load_released_asyrp
from core.networks.asyrp import ShiftTable, TrainedAsyrp
from core.schedule import Schedule

from ...tiny import released_for


@pytest.fixture(scope="module")
def model(small):
    return small


def test_released_means_over_another_number_of_steps(model, tmp_path):
    file, shift = tmp_path / "smiling.pth", torch.randn(2, 64, 8, 8)
    where = released_for(model)
    torch.save({0: None, 1: None, 20: None, 500: shift[0], 525: shift[1]}, file)
    (table,) = load_released_asyrp(file, **where)
    assert torch.equal(table.shift.levels, model.schedule.sigmas[[500, 525]].float()) and torch.equal(
        table.shift.shifts, shift
    )
    torch.save({0: shift[0], 20: None, 500: shift[1]}, file)  # 0 is the one for all steps
    table, single = load_released_asyrp(file, **where)
    assert torch.equal(table.shift.shifts, shift[1:]) and torch.equal(single.shift.shifts, shift[:1])
    torch.save({0: None, 20: None}, file)
    with pytest.raises(ValueError, match="no numbered blocks"):
        load_released_asyrp(file, **where)
    for odd in (
        torch.zeros(()),
        torch.zeros(0),
        torch.zeros(64),
        torch.zeros(2, 64, 8, 8),
        torch.zeros(1, 1, 64, 8, 8),
    ):
        torch.save({1: odd}, file)
        with pytest.raises(ValueError, match=r"one shape, \[c h w\]"):
            load_released_asyrp(file, **where)


@pytest.mark.parametrize("edit", [350, 400, 450, 500, 550, 600, 700])
@pytest.mark.parametrize("trained", [40, 50, 100])
@pytest.mark.parametrize("run", [10, 20, 25, 30, 40, 50, 100, 999, 1000])
def test_the_scale_is_the_released_codes_for_every_number_of_steps(edit, trained, run):
    levels = Schedule("linear").sigmas
    low = float(levels[edit])

    def grid(steps):  # as the released code writes it
        return [int(s + 1e-6) for s in np.linspace(0, 1, steps) * 999]

    edited = sum(t >= edit for t in grid(trained))
    assert edited_steps(levels, trained, low) == edited
    delta = TrainedAsyrp(
        ShiftTable(torch.ones(1, 3, 4, 4), torch.ones(1)), "0123456789ab", low, edited, whole_steps=trained
    )
    sigmas = torch.cat([levels[grid(run)[::-1]], torch.zeros(1)])
    acting = AsyrpEdit(delta, delta.schedule(1.0)).on(sigmas, asymmetric=True)
    assert acting.schedule.strength == pytest.approx(trained / run, rel=1e-12)
    assert sum(acting.acts(s) for s in sigmas[:-1].tolist()) == sum(t >= edit for t in grid(run))


def test_the_scale_of_a_run_that_is_spread_otherwise_is_that_of_its_edited_steps():
    delta = TrainedAsyrp(ShiftTable(torch.ones(1, 3, 4, 4), torch.ones(1)), "0123456789ab", 1.0, 20, whole_steps=40)
    assert delta.factor(5, 20) == 4.0 and delta.factor(18, 20) == pytest.approx(20 / 18) and delta.factor(0, 20) == 1.0
    assert replace(delta, whole_steps=0).factor(12, 25) == pytest.approx(20 / 12), "files of before do not say"
