"""Training that stops and goes on: the same weights as without a stop, and what the state file holds."""

import math
from itertools import pairwise

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from core.train.long_run import LongRun, options, rate


def net(width: int = 5) -> torch.nn.Module:
    torch.manual_seed(3)
    return torch.nn.Sequential(torch.nn.Linear(4, width), torch.nn.Tanh(), torch.nn.Linear(width, 2))


def train(module: torch.nn.Module, run: LongRun, steps: int) -> None:
    """Data that follow from the step alone."""
    while run.step < steps:
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(run.step))
        run.learn((module(x) - x[:, :2].square()).square().mean(), 0.01 * rate(run.step, 20, 5))


def begun() -> tuple[torch.nn.Module, LongRun]:
    module = net()
    return module, LongRun(dict(module.named_parameters()), 0.99, {"2.weight": 3.0, "0.bias": 0.5})


def test_a_stop_changes_no_bit(tmp_path):
    module, run = begun()
    train(module, run, 7)
    run.save(tmp_path / "new" / "state.safetensors")
    train(module, run, 20)
    other, again = begun()
    again.resume(tmp_path / "new" / "state.safetensors")
    assert again.step == 7 and again.seconds > 0
    train(other, again, 20)
    for k, p in run.params.items():
        assert torch.equal(p, again.params[k]) and torch.equal(run.ema[k], again.ema[k])
    assert not torch.equal(run.params["0.weight"], run.ema["0.weight"])


def test_what_the_state_file_holds(tmp_path):
    module, run = begun()
    train(module, run, 3)
    run.save(tmp_path / "state.safetensors")
    state = load_file(tmp_path / "state.safetensors")
    assert set(state) == {f"{part}.{k}" for part in ("net", "ema", "m", "v") for k in module.state_dict()}
    assert torch.equal(state["net.0.weight"], module[0].weight) and (state["v.0.weight"] >= 0).all()
    with safe_open(tmp_path / "state.safetensors", "pt") as file:
        facts = file.metadata()
    assert facts["step"] == "3" and float(facts["seconds"]) >= 0
    wide = LongRun(dict(net(6).named_parameters()))
    with pytest.raises(ValueError, match="another network"):
        wide.resume(tmp_path / "state.safetensors")
    fewer = LongRun({k: v for k, v in net().named_parameters() if k != "0.bias"})
    with pytest.raises(ValueError, match=r"another network \(ema.0.bias"):
        fewer.resume(tmp_path / "state.safetensors")


def test_the_steps_of_adamw_and_of_the_average():
    """Against the loop written out, with the parts that learn faster and slower."""
    module, run = begun()
    plain = net()
    times = {"2.weight": 3.0, "0.bias": 0.5}
    optimisers = {k: torch.optim.AdamW([p], betas=(0.9, 0.99), weight_decay=1e-3) for k, p in plain.named_parameters()}
    average = {k: p.detach().clone() for k, p in plain.named_parameters()}
    train(module, run, 12)
    for step in range(12):
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        (plain(x) - x[:, :2].square()).square().mean().backward()
        size = math.sqrt(sum(float(p.grad.square().sum()) for p in plain.parameters()))
        decay = min(0.99, (2 + step) / (11 + step))
        for k, p in plain.named_parameters():
            p.grad *= min(1.0, 1 / (size + 1e-6))
            optimisers[k].param_groups[0]["lr"] = 0.01 * rate(step, 20, 5) * times.get(k, 1.0)
            optimisers[k].step()
            p.grad = None
            average[k] = decay * average[k] + (1 - decay) * p.detach()
    for k, p in plain.named_parameters():
        assert torch.allclose(p, run.params[k], atol=1e-6) and torch.allclose(average[k], run.ema[k], atol=1e-6)


def test_the_rate_rises_holds_and_falls():
    shares = [rate(i, 1000, 100) for i in range(1001)]
    assert shares[0] == 0.01 and shares[99] == shares[400] == 1 and abs(shares[-1] - 0.02) < 1e-12
    assert all(a <= b for a, b in pairwise(shares[:101]))
    assert all(a > b for a, b in pairwise(shares[400:]))


def test_when_to_save():
    _, run = begun()
    assert not run.due(1e6, 10) and run.due(0, 10)
    run.step = 10
    assert run.due(1e6, 10)


def test_the_command_line(tmp_path):
    a = options("Trains.\nMore.", tmp_path / "eyes.safetensors", images=64, seed=2).parse_args(["--batch", "16", "--resume"])
    assert (a.batch, a.images, a.seed, a.resume) == (16, 64, 2, True) and a.state.name == "eyes_state.safetensors"
