"""The run that all training shares: it goes on as if it was not cut, keeps its best state, and refuses bad settings."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from core.train.run import Optimiser, Run, cosine
from core.train.state import load_state

STATES = Path(__file__).parent / "states"


def fitted(steps: int, run: Run | None = None, method: str = "adam") -> Run:
    torch.manual_seed(3)
    module = nn.Linear(3, 1)
    run = run or Run(module, Optimiser(0.05, method), 20)
    x = torch.randn(20, 8, 3, generator=torch.Generator().manual_seed(4))
    while run.i < steps:
        run.step((run.module(x[run.i]) - x[run.i].sum(1, keepdim=True)).square().mean())
    return run


@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_a_resumed_run_is_the_run_that_was_not_cut(optimiser):
    whole = fitted(20, method=optimiser)
    state = fitted(7, method=optimiser).state()
    again = Run(nn.Linear(3, 1), Optimiser(0.05, optimiser), 20)
    again.resume(state)
    fitted(20, again)
    assert torch.equal(whole.module.weight, again.module.weight) and whole.losses == again.losses
    assert sum(whole.losses[-5:]) < 0.8 * sum(whole.losses[:5])
    assert torch.equal(fitted(20, method=optimiser).module.weight, whole.module.weight)


def test_a_state_of_an_earlier_release_goes_on_to_the_same_weights():
    """Written after 7 of 20 steps, before all training became one run."""
    run = Run(nn.Linear(3, 1), Optimiser(0.05), 20)
    load_state(STATES / "run.safetensors", run, {"epochs": 2})
    assert run.i == len(run.losses) == 7
    fitted(20, run)
    whole = fitted(20)
    for name, value in whole.module.state_dict().items():
        torch.testing.assert_close(run.module.state_dict()[name], value, rtol=1e-6, atol=1e-7)


def test_the_best_state_is_kept_and_nan_changes_nothing():
    run = fitted(10)
    good = {k: v.clone() for k, v in run.module.state_dict().items()}
    with pytest.raises(RuntimeError, match="lower the learning rate"):
        run.step(run.module.weight.sum() * float("nan"))
    assert all(torch.equal(v, good[k]) for k, v in run.module.state_dict().items())
    worse = Run(nn.Linear(1, 1), Optimiser(0.5), 30)
    for i in range(30):
        worse.step(worse.module.weight.square().sum() * (1 if i < 10 else -1))
        if i == 9:
            best = {k: v.clone() for k, v in worse.best.items()}
    assert not torch.equal(best["weight"], worse.module.weight)


@pytest.mark.parametrize(
    ("settings", "total", "word"),
    [
        ({"lr": 0.1}, 0, "at least one step"),
        ({"lr": math.nan}, 1, "learning rate"),
        ({"lr": 0.1, "method": "lion"}, 1, "adam, sgd"),
    ],
)
def test_settings_that_cannot_train_are_refused(settings, total, word):
    with pytest.raises(ValueError, match=word):
        Run(nn.Linear(1, 1), Optimiser(**settings), total)


def test_the_rate_cools_as_torchs_cosine():
    run, other = (Run(nn.Linear(1, 1), Optimiser(0.2), 7) for _ in range(2))
    oracle = torch.optim.lr_scheduler.CosineAnnealingLR(other.optimiser, other.total)
    for _ in run.remaining(rate=cosine):
        assert run.optimiser.param_groups[0]["lr"] == pytest.approx(other.optimiser.param_groups[0]["lr"], rel=1e-9)
        run.step(run.module(torch.ones(1, 1)).square().sum())
        other.optimiser.step()
        oracle.step()


def test_the_best_state_is_that_of_the_least_running_loss_after_the_warm_up():
    run = Run(nn.Linear(1, 1, bias=False), Optimiser(0.1, "sgd", clip=0.0), 50, warm_up=4)
    values = [1.0, 0.1, 5.0, 5.0, 4.0, 3.0, 60.0, 60.0]
    after = []
    for value in values:
        run.step(value + 0 * run.parameters[0].sum())
        run.parameters[0].data.add_(1)  # a state that can be told from the others
        after.append(run.parameters[0].item() - 1)
    assert run.best["weight"].item() == after[5]
