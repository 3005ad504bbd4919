"""Midpoint and FireFlow on a mixture whose denoiser is known: their order, the noise they find, the way back, refusals."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from core.edit.anchor import drift
from core.edit.directions.steer import SteerOptions, steer_trajectory
from core.invert.ddim import invert_ddim
from core.invert.fixed_point import invert_fixed_point
from core.invert.second_order import invert_second_order
from core.payload import trajectory_from_payload, trajectory_to_payload
from core.sample import reconstruct
from core.solver import SecondOrder, calls_of

STEPS = (8, 16, 32, 64)
TABLE = {  # error of the noise, and of there and back, for so many steps
    "midpoint": ((5.52e-3, 1.22e-3, 2.80e-4, 6.76e-5), (6.11e-3, 1.16e-3, 1.43e-4, 1.77e-5)),
    "fireflow": ((1.49e-2, 3.41e-3, 8.01e-4, 1.93e-4), (1.02e-2, 1.83e-3, 2.67e-4, 3.48e-5)),
}
"""Of a flow model, by a prototype of its own; a method of first order has 2.4e-2 and 6e-2 after 64 steps."""


class Mixture:
    """Exact denoiser of three Gaussians in four dimensions, which counts its calls."""

    layers = ("x",)
    fingerprint = "mixture"

    def __init__(self, noising, device):
        self.noising, self.calls = noising, 0
        g = torch.Generator().manual_seed(0)
        means = torch.randn(3, 4, generator=g, dtype=torch.float64) * 1.5
        torch.randn(64, 4, generator=g, dtype=torch.float64)  # so that the pictures are those of the table
        chosen = means[torch.randint(3, (64,), generator=g)]
        self.start = (chosen + 0.4 * torch.randn(64, 4, generator=g, dtype=torch.float64)).to(device)[:, :, None, None]
        self.means = means.to(device)

    def __call__(self, x, sigma):
        self.calls += 1
        sigma = float(sigma.reshape(-1)[0]) if isinstance(sigma, torch.Tensor) else sigma
        k = 1 - sigma if self.noising == "flow" else 1.0
        variance = (k * 0.4) ** 2 + sigma**2
        r = x.flatten(1)[:, None] - k * self.means
        weights = torch.softmax(-(r**2).sum(-1) / (2 * variance), 1)[..., None]
        return (weights * (self.means + k * 0.16 / variance * r)).sum(1).reshape(x.shape)


def grid(noising, n):
    if noising == "flow":
        return torch.linspace(0.02, 0.95, n + 1, dtype=torch.float64).tolist()
    return torch.linspace(-4, 2.08, n + 1, dtype=torch.float64).exp().tolist()


def walked(model, x, levels, solver):
    run = SecondOrder(solver, model, model.noising)
    for a, b in pairwise(levels):
        x, _ = run.step(x, a, b)
    return x


@pytest.fixture(params=["flow", "sigma"])
def noising(request):
    return request.param


@pytest.mark.parametrize("solver", ["midpoint", "fireflow"])
def test_they_converge_in_second_order_to_the_models_own_noise_and_back(solver, noising, device):
    model = Mixture(noising, device)
    start, true = model.start, walked(model, model.start, grid(noising, 4096), "midpoint")
    noise, back = [], []
    for n in STEPS:
        up = walked(model, start, grid(noising, n), solver)
        down = walked(model, up, grid(noising, n)[::-1], solver)
        noise.append(float((up - true).norm() / true.norm()))
        back.append(float((down - start).norm() / start.norm()))
    for errors in (noise, back):
        assert errors[1] / errors[3] > 4**1.8, errors
    if noising == "flow":
        assert noise == pytest.approx(TABLE[solver][0], rel=0.02) and back == pytest.approx(TABLE[solver][1], rel=0.02)


@pytest.mark.parametrize("solver", ["midpoint", "fireflow"])
def test_whole_inversions_find_the_noise_and_come_back(solver, noising, device):
    """From the clean picture on, where no model can be asked."""
    model = Mixture(noising, device)
    errors = {}
    for n in (16, 64):
        sigmas = torch.tensor([*grid(noising, n)[::-1], 0.0], dtype=torch.float64)
        fine = torch.tensor([*grid(noising, 4096)[::-1], 0.0], dtype=torch.float64)
        true = invert_second_order(model, model.start, fine, "midpoint", limit=None).noisiest
        model.calls = 0
        found = invert_second_order(model, model.start, sigmas, solver, limit=None)
        assert model.calls == calls_of(solver, n + 1)
        rebuilt = reconstruct(model, found).rebuilt
        assert model.calls == 2 * calls_of(solver, n + 1)
        errors[n] = [float((found.noisiest - true).norm()), float((rebuilt - model.start).norm())]
        for other in (
            invert_ddim(model, model.start, sigmas, limit=None),
            invert_fixed_point(model, model.start, sigmas, 4, limit=None),
        ):
            assert errors[n][0] < 0.25 * float((other.noisiest - true).norm())
    assert errors[16][0] > 8 * errors[64][0] and errors[16][1] > 8 * errors[64][1]


@pytest.mark.parametrize("solver", ["midpoint", "fireflow"])
def test_the_way_back_follows_the_solver_or_is_refused_by_name(solver, device):
    model = Mixture("flow", device)
    sigmas = torch.tensor([*grid("flow", 16)[::-1], 0.0], dtype=torch.float64)
    trajectory = trajectory_from_payload(
        trajectory_to_payload(invert_second_order(model, model.start, sigmas, solver, limit=None))
    )
    assert trajectory.solver == trajectory.method == solver
    rebuilt = reconstruct(model, trajectory).rebuilt
    assert torch.equal(steer_trajectory(model, trajectory, []), rebuilt)
    by_euler = reconstruct(model, replace(trajectory, solver="euler")).rebuilt
    assert float((by_euler - model.start).norm()) > 4 * float((rebuilt - model.start).norm())
    for options in (
        SteerOptions(asymmetric=True),
        SteerOptions(eta=0.5),
        SteerOptions(boost=0.1),
        SteerOptions(lagged=True),
    ):
        with pytest.raises(ValueError, match=f"inverted by {solver}, whose steps"):
            steer_trajectory(model, trajectory, [], options)
    with pytest.raises(ValueError, match=f"inverted by {solver}, whose steps an anchor"):
        drift(model, trajectory)


def test_old_payloads_are_eulers_and_unknown_solvers_are_refused(device):
    model = Mixture("sigma", device)
    trajectory = invert_ddim(model, model.start, torch.tensor([2.0, 1.0, 0.0]).double(), limit=None)
    payload = trajectory_to_payload(trajectory)
    assert payload.pop("solver") == "euler" and trajectory_from_payload(payload).solver == "euler"
    with pytest.raises(ValueError, match="solver must be euler or midpoint or fireflow"):
        trajectory_from_payload({**payload, "solver": "heun"})
    with pytest.raises(ValueError, match="solver must be midpoint or fireflow, got 'euler'"):
        invert_second_order(model, model.start, trajectory.sigmas, "euler")
