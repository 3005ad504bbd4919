"""Training that stops and goes on: the same weights as without a stop, and what the state file holds."""

import math
import tempfile
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from core.own_file import Form, read_own, write_own
from core.train.run import Optimiser, Run, Session, rate
from core.train.session import ResultSession, options
from core.train.state import load_state, save_state


def net(width: int = 5) -> torch.nn.Module:
    torch.manual_seed(3)
    return torch.nn.Sequential(torch.nn.Linear(4, width), torch.nn.Tanh(), torch.nn.Linear(width, 2))


def train(module: torch.nn.Module, run: Run, steps: int) -> None:
    """Data that follow from the step alone."""
    while run.i < steps:
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(run.i))
        run.set_rate(0.01 * rate(run.i, 20, 5))
        run.step((module(x) - x[:, :2].square()).square().mean())


def averaged(module: torch.nn.Module, total: int = 20, session: Session | None = None, **factors) -> Run:
    options = {"betas": (0.9, 0.99), "weight_decay": 1e-3}
    optimiser = Optimiser(0.01, "adamw", foreach=True, options=options, factors=factors)
    return Run(module, optimiser, total, session, ema=0.99)


def begun(total: int = 20, session: Session | None = None) -> tuple[torch.nn.Module, Run]:
    module = net()
    return module, averaged(module, total, session, **{"2.weight": 3.0, "0.bias": 0.5})


def test_a_stop_changes_no_bit(tmp_path):
    module, run = begun()
    train(module, run, 7)
    save_state(tmp_path / "new" / "state.safetensors", run, {})
    train(module, run, 20)
    other, again = begun()
    load_state(tmp_path / "new" / "state.safetensors", again, {})
    assert again.i == 7 and again.seconds > 0
    train(other, again, 20)
    for k, p in run.weights.items():
        assert torch.equal(p, again.weights[k]) and torch.equal(run.average[k], again.average[k])
    assert not torch.equal(run.weights["0.weight"], run.average["0.weight"])


def test_a_state_of_an_earlier_release_goes_on_to_the_same_weights():
    """Written after 7 of 20 steps, before all training became one run."""
    module, run = begun()
    load_state(Path(__file__).parent / "states" / "averaged.safetensors", run, {"lr": 1})
    assert run.i == 7 and run.seconds > 0
    train(module, run, 20)
    other, whole = begun()
    train(other, whole, 20)
    for name, value in whole.weights.items():
        torch.testing.assert_close(run.weights[name], value, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(run.average[name], whole.average[name], rtol=1e-6, atol=1e-7)


def test_what_the_state_file_holds(tmp_path):
    module, run = begun()
    train(module, run, 3)
    save_state(tmp_path / "state.safetensors", run, {})
    state = load_file(tmp_path / "state.safetensors")
    assert set(state) == {f"{part}.{k}" for part in ("net", "ema", "m", "v") for k in module.state_dict()}
    assert torch.equal(state["net.0.weight"], module[0].weight) and (state["v.0.weight"] >= 0).all()
    with safe_open(tmp_path / "state.safetensors", "pt") as file:
        facts = file.metadata()
    assert facts["step"] == "3" and float(facts["seconds"]) >= 0
    with pytest.raises(ValueError, match="another network"):
        load_state(tmp_path / "state.safetensors", averaged(net(6)), {})
    fewer = net()
    fewer[0].bias.requires_grad_(False)
    with pytest.raises(ValueError, match=r"another network \(ema.0.bias"):
        load_state(tmp_path / "state.safetensors", averaged(fewer), {})


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
        assert torch.allclose(p, run.weights[k], atol=1e-6) and torch.allclose(average[k], run.average[k], atol=1e-6)


def test_the_rate_rises_holds_and_falls():
    shares = [rate(i, 1000, 100) for i in range(1001)]
    assert shares[0] == 0.01 and shares[99] == shares[400] == 1 and abs(shares[-1] - 0.02) < 1e-12
    assert all(a <= b for a, b in pairwise(shares[:101]))
    assert all(a > b for a, b in pairwise(shares[400:]))


def test_when_to_save(tmp_path):
    for every, due in ((1e6, False), (-1, True)):
        session = ResultSession(tmp_path / "net", print, tmp_path / "state", {}, resume=False, every=every)
        _, run = begun(10, session)
        assert session.due is due
        run.resume_at(10, 0.0)
        assert session.due


def test_the_command_line(tmp_path):
    a = options("Trains.\nMore.", tmp_path / "eyes.safetensors", images=64, seed=2).parse_args(
        ["--batch", "16", "--resume"]
    )
    assert (a.batch, a.images, a.seed, a.resume) == (16, 64, 2, True) and a.state.name == "eyes_state.safetensors"


def test_a_disk_that_fails_ends_no_run_and_its_result_is_put_aside(tmp_path, monkeypatch, capsys):
    (tmp_path / "taken").write_bytes(b"")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def write(path, run):
        write_own(path, {k: v.detach() for k, v in run.weights.items()}, {"format": "f", "version": 1})

    def session(folder):
        return ResultSession(folder / "net.safetensors", write, folder / "state.safetensors", {}, resume=False)

    blocked = session(tmp_path / "taken")
    module, run = begun(4, blocked)
    train(module, run, 2)
    blocked.store()
    assert not list(tmp_path.rglob("net.safetensors")) and "File exists" in capsys.readouterr().out
    train(module, run, 4)
    (aside,) = tmp_path.rglob("net.safetensors")
    assert (
        torch.equal(read_own(aside, Form("f", 1, 2**20))[0]["0.weight"], run.weights["0.weight"])
        and str(aside) in capsys.readouterr().out
    )
    good = session(tmp_path)
    good.begin(run)
    good.store()
    assert {p.name for p in tmp_path.iterdir() if p.is_file()} == {"taken", "net.safetensors", "state.safetensors"}
