"""Training of Asyrp's shift: it moves pictures to the prompt, and a run that was cut goes on to the same weights."""

import pytest
import torch
from torch import nn

from core.edit.directions.asyrp import AsyrpEdit
from core.edit.directions.steer import SteerOptions, steer_trajectory
from core.edit_schedule import EditSchedule
from core.networks.asyrp import ShiftTable, TrainedAsyrp
from core.networks.vp import VPDenoiser
from core.train.asyrp import AsyrpSettings, PlainPredictions, global_shift, train_asyrp
from core.train.directional import PromptPair
from core.train.run import Optimiser, Run, Session
from core.train.state import load_state

from ..tiny import Cancelled, Colours, block_of, redness, resumed, stopped


def trained(model, path, shift, session=None, target="red", **settings) -> TrainedAsyrp:
    prompts = PromptPair(Colours(), "grey", target)
    return train_asyrp(model, path, shift, prompts, AsyrpSettings(**settings), session=session)


def test_asyrp_moves_pictures_to_the_prompt_and_back(model, path, device):
    calls, before = [], {k: v.clone() for k, v in model.net.state_dict().items()}
    options = {
        "sigma_edit": 0.5,
        "epochs": 3,
        "batch": 4,
        "lr": 3e-3,
        "optimiser": "adam",
        "clip_weight": 1.0,
        "l1_weight": 0.3,
    }
    found = trained(model, path, block_of(model), Session(on_step=calls.append), **options)
    assert all(torch.equal(v, before[k]) for k, v in model.net.state_dict().items())
    assert calls[-1]["n"] == len(calls) == 3 * found.steps and calls[-1]["smooth"] < calls[0]["loss"]
    edits = {
        s: steer_trajectory(
            model, path, [AsyrpEdit(found, EditSchedule(s, sigma_end=found.sigma_edit))], SteerOptions(asymmetric=True)
        )
        for s in (-1.0, 1.0)
    }
    assert redness(edits[1.0]) > redness(path.reconstruction) + 0.02
    assert redness(edits[-1.0]) < redness(path.reconstruction) - 0.005
    again = trained(model, path, block_of(model), **options)
    assert all(torch.equal(v, again.shift.state_dict()[k]) for k, v in found.shift.state_dict().items())
    for one in (False, True):
        mean = global_shift(model, path, found, one=one)
        assert len(mean.shift.levels) == (1 if one else found.steps)
        moved = steer_trajectory(
            model, path, [AsyrpEdit(mean, EditSchedule(1.0, sigma_end=0.5))], SteerOptions(asymmetric=True)
        )
        assert redness(moved) > redness(path.reconstruction) + 0.02


def test_a_table_of_shifts_can_be_trained_too(model, path):
    steps = [s for s in path.sigmas.tolist() if s >= 0.5]
    table = ShiftTable(0.02 * torch.randn(len(steps), 64, 8, 8), torch.tensor(steps))
    found = trained(
        model,
        path,
        table,
        sigma_edit=0.5,
        epochs=4,
        batch=4,
        lr=0.1,
        optimiser="adam",
        l1_weight=0.3,
    )
    moved = steer_trajectory(
        model, path, [AsyrpEdit(found, EditSchedule(1.0, sigma_end=0.5))], SteerOptions(asymmetric=True)
    )
    assert redness(moved) > redness(path.reconstruction) + 0.02


def test_the_plain_predictions_are_asked_for_once(model, path):
    asked = []

    class Asked(VPDenoiser):
        def __call__(self, x, sigma):
            asked.append(len(x))
            return super().__call__(x, sigma)

    counted = Asked(model.net, model.schedule, model.prediction, model.fingerprint)
    kept, rows = PlainPredictions(counted, path, 3), torch.tensor([2, 0, 3])
    for i in (0, 2, 0):
        plain = model(path.states[i][rows], path.states.new_full((3,), float(path.sigmas[i])))
        torch.testing.assert_close(kept.at(i, rows), plain, rtol=1e-4, atol=1e-5)
    count = path.states.shape[1]
    assert asked == [min(3, count), count - 3] * 2


OPTIONS = {"sigma_edit": 0.5, "epochs": 2, "batch": 2, "lr": 1e-3, "optimiser": "adam"}


def test_a_cancelled_run_leaves_its_latest_state_until_every_picture_was_seen_and_then_its_best(model, path):
    """The running loss of the first few steps is of one easy batch: no state may count as the best for that."""
    steps = len([s for s in path.sigmas.tolist() if s >= 0.5])
    session, kept = stopped(steps - 1)
    with pytest.raises(Cancelled):
        trained(model, path, block_of(model), session, **OPTIONS)
    (fit,) = kept
    assert fit.i == len(fit.losses) == steps - 1
    assert all(torch.equal(v, fit.best[k]) for k, v in fit.module.state_dict().items())


@pytest.mark.parametrize("chains", [1.0, 1.5])
def test_a_run_on_disk_goes_on_to_the_same_weights(model, path, tmp_path, chains):
    """Stored between two batches, and in the middle of one."""
    whole = trained(model, path, block_of(model), **OPTIONS)
    file, facts = tmp_path / "run.safetensors", {}
    session, kept = stopped(int(chains * whole.steps), file)
    with pytest.raises(Cancelled):
        trained(model, path, block_of(model), session, **OPTIONS)
    assert bool(kept[0].carry) == (chains != 1.0)
    again = trained(model, path, block_of(model, 7), resumed(file, facts), **OPTIONS)
    for name, value in whole.shift.state_dict().items():
        torch.testing.assert_close(again.shift.state_dict()[name], value, rtol=1e-6, atol=1e-8)
    with pytest.raises(ValueError, match=r"other settings \(epochs\)"):
        load_state(file, kept[0], {"epochs": 3})
    with pytest.raises(ValueError, match="does not fit"):
        load_state(file, Run(nn.Linear(2, 2), Optimiser(0.1), 5), facts)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match="not a usable"):
        load_state(file, kept[0], facts)


def test_asyrp_refuses(model, path):
    with pytest.raises(ValueError, match="lower sigma_edit"):
        trained(model, path, block_of(model), sigma_edit=100.0)
    with pytest.raises(ValueError, match="mean the same"):
        trained(model, path, block_of(model), target="grey", sigma_edit=0.5)
