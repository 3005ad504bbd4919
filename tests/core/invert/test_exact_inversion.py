"""Exact inversions: order of convergence, round trips to rounding, the growth that they must be protected from, what is
refused."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from core.directions import Directions
from core.edit.directions.steer import Edit, Steered, steer_trajectory
from core.edit.noise.exact import reconstruct_exact, sample_exact
from core.edit_schedule import EditSchedule
from core.invert.bdia import bdia_up, invert_bdia
from core.invert.coupled import Noise
from core.invert.ddim import invert_ddim
from core.invert.edict import alternated, edict_down, edict_up, invert_edict
from core.invert.fixed_point import invert_fixed_point
from core.networks.ddpm import DDPMConfig, DDPMUNet
from core.networks.vp import VPDenoiser
from core.payload import trajectory_from_payload, trajectory_to_payload
from core.sample import reconstruct
from core.schedule import Schedule, grid_sigmas


class Gaussian:
    """The exact denoiser of data with variance ``c``; the ODE through x0 is ``x0 sqrt((c + sigma^2) / c)``."""

    noising = "sigma"

    layers, fingerprint = ("middle",), "gaussian"

    def __init__(self, c: float):
        self.c = c

    def __call__(self, x, sigma):
        return x * (self.c / (self.c + sigma.square()))[:, None, None, None]

    def exact(self, x0, sigma: float):
        return x0 * math.sqrt((self.c + sigma * sigma) / self.c)


class Flow(Gaussian):
    """The same data seen by a flow model: ``x = (1 - sigma) x0 + sigma n``."""

    fingerprint, noising = "flow", "flow"

    def __call__(self, x, sigma):
        s = sigma[:, None, None, None]
        return x * ((1 - s) * self.c / ((1 - s) ** 2 * self.c + s**2))

    def exact(self, x0, sigma: float):
        return x0 * math.sqrt((1 - sigma) ** 2 * self.c + sigma * sigma) / math.sqrt(self.c)


def network(device, dtype=torch.float32) -> VPDenoiser:
    net = DDPMUNet(DDPMConfig(3, 3, (32, 64), 1, (False, True))).to(device, dtype).eval().requires_grad_(False)
    return VPDenoiser(net, Schedule())


def picture(b=2, h=16, w=24, device="cpu", dtype=torch.float32):
    return (torch.rand(b, 3, h, w, dtype=dtype) * 2 - 1).to(device)


def even(steps: int, top: float = 3.0):
    return torch.linspace(top, 0, steps + 1, dtype=torch.float64)


METHODS = {"edict": invert_edict, "bdia": invert_bdia}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-9)])
def test_round_trip_is_exact_at_fifty_steps(name, dtype, tolerance, device):
    """States are float64 whatever the network computes in; what comes back is the picture in the network's dtype."""
    model, x0 = network(device, dtype), picture(1, 8, 16, device=device, dtype=dtype)
    path = METHODS[name](model, x0, grid_sigmas(Schedule(), 50, t0=800))
    assert path.pair.dtype == torch.float64 and path.states.dtype == dtype
    back = reconstruct_exact(model, path).rebuilt
    assert float((back - x0).abs().max()) <= tolerance
    plain = reconstruct(model, invert_ddim(model, x0, path.sigmas)).rebuilt
    assert float((plain - x0).abs().max()) > 1e3 * tolerance


def test_bdia_with_gamma_one_converges_at_second_order(device):
    model, x0 = Gaussian(0.5), picture(1, 4, 6, device, torch.float64)
    errors = [
        float((invert_bdia(model, x0, even(n, 2.0)).noisiest - model.exact(x0, 2.0)).norm()) for n in (50, 100, 200)
    ]
    assert all(1.8 < math.log2(a / b) < 2.2 for a, b in pairwise(errors)), errors


def test_bdia_with_less_gamma_leaves_the_path_as_the_refusal_says(device):
    """Divided by gamma at every step, an error grows; the round trip stays exact all the same."""
    model, x0, nothing = Gaussian(0.5), picture(1, 4, 6, device, torch.float64), torch.zeros(())
    below, x = nothing, nothing + 1
    for _ in range(40):  # on a model without noise only the division is left
        below, x = x, bdia_up(nothing, x, below, (3.0, 2.0, 1.0), 0.95)
    assert float((x - below).abs()) == pytest.approx(0.95**-40, rel=1e-4)
    assert float((sample_exact(model, invert_bdia(model, x0, even(80, 2.0), 0.95)) - x0).abs().max()) < 1e-9
    with pytest.raises(ValueError, match=r"2\.9e\+04 over 200 steps.*at least 0\.977"):
        invert_bdia(model, x0, even(200), 0.95)


def test_edict_converges_at_first_order_without_mixing(device):
    model, x0 = Gaussian(0.5), picture(1, 4, 6, device, torch.float64)
    errors = [
        float((invert_edict(model, x0, even(n), mixing=1.0).noisiest - model.exact(x0, 3.0)).norm())
        for n in (200, 400, 800)
    ]
    assert all(0.8 < math.log2(a / b) < 1.25 for a, b in pairwise(errors)), errors


def test_edict_steps_are_inverse_to_each_other(device):
    model, dtype = network(device, torch.float64), torch.float64
    eps = Noise(model, dtype)
    x, y = (3 * picture(device=device, dtype=dtype) for _ in range(2))
    for i in (0, 1):
        down = alternated(edict_down, i, eps, x, y, 2.0, 1.5, 0.93)
        up = alternated(edict_up, i, eps, *down, 2.0, 1.5, 0.93)
        assert all(float((a - b).abs().max()) < 1e-12 for a, b in zip(up, (x, y), strict=True))


def test_mixing_has_the_eigenvalues_that_the_docstring_warns_of():
    """On a model without noise a step is the mixing alone: undone, it multiplies the difference of the states by
    1/p^2."""

    class Clean:
        noising = "sigma"
        layers, fingerprint = ("middle",), "clean"

        def __call__(self, x, sigma):
            return x

    p, eps = 0.93, Noise(Clean(), torch.float64)
    matrix = torch.cat(
        [
            torch.cat(edict_down(eps, *unit, 1.0, 0.5, p))
            for unit in torch.eye(2, dtype=torch.float64).view(2, 2, 1, 1, 1, 1)
        ],
        1,
    )
    values = torch.linalg.eigvals(matrix[..., 0, 0]).real.sort().values
    assert torch.allclose(values, torch.tensor([p * p, 1.0], dtype=torch.float64), atol=1e-12)
    x = torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    y = x + 1e-6
    for i in range(50):
        x, y = alternated(edict_up, i, eps, x, y, 1.0, 0.5, p)
    assert 1000 < float((x - y).abs()) / 1e-6 < 2000


@pytest.mark.parametrize("wide", [True, False])
def test_float64_is_what_makes_edict_exact_from_noise_to_noise(wide, device):
    """Sampling and inverting again is the way round that mixing amplifies; float32 states lose three digits there."""
    model, dtype = network(device, torch.float64), torch.float64 if wide else torch.float32
    eps, s = Noise(model, torch.float64), grid_sigmas(Schedule(), 50, t0=400).tolist()
    x = y = (s[0] * torch.randn(1, 3, 16, 16, dtype=torch.float64)).to(device)
    top = x
    for i in range(50):
        x, y = (v.to(dtype) for v in alternated(edict_down, i, eps, x, y, s[i], s[i + 1], 0.93))
    for i in reversed(range(50)):
        x, y = (v.to(dtype) for v in alternated(edict_up, i, eps, x, y, s[i], s[i + 1], 0.93))
    error = float((x - top).norm() / top.norm())
    assert error < 1e-9 if wide else error > 1e-6


@pytest.mark.parametrize("name", METHODS)
def test_flow_models_are_inverted_by_the_same_steps(name, device):
    model, x0 = Flow(0.5), picture(1, 4, 6, device, torch.float64)
    path = METHODS[name](model, x0, even(40, 1.0), 1.0)
    assert path.noising == "flow" and torch.isfinite(path.states).all()
    assert float((sample_exact(model, path) - x0).abs().max()) < 1e-12
    assert float((path.noisiest - model.exact(x0, 1.0)).abs().max()) < 0.1


@pytest.mark.parametrize("convention", ["A", "B", None])
def test_plain_inversion_of_flow_models_converges(convention, device):
    """From sigma 1, where nothing of the picture is left by name, down and up: no division by 1 - sigma anywhere."""
    model, x0 = Flow(0.5), picture(1, 4, 6, device, torch.float64)
    errors, back = [], []
    for n in (50, 100, 200):
        trajectory = (
            invert_ddim(model, x0, even(n, 1.0), convention)
            if convention
            else invert_fixed_point(model, x0, even(n, 1.0), 3)
        )
        assert trajectory.noising == model.noising == "flow"
        errors.append(float((trajectory.noisiest - model.exact(x0, 1.0)).norm()))
        back.append(float((reconstruct(model, trajectory).rebuilt - x0).norm()))
    assert all(0.8 < math.log2(a / b) < 1.3 for a, b in pairwise(errors)), errors
    assert back[2] < back[0]


@pytest.mark.parametrize("name", METHODS)
def test_pair_travels_with_the_trajectory(name, device):
    model, x0 = network(device), picture(3, device=device)
    path = METHODS[name](model, x0, grid_sigmas(Schedule(), 6, t0=400))
    assert f"{name} " in path.method
    same = trajectory_from_payload(trajectory_to_payload(path.to("cpu"))).to(device)
    assert float((sample_exact(model, same) - x0).abs().max()) <= 1e-5
    one = same.image(1)
    assert float((sample_exact(model, one) - x0[1:2]).abs().max()) <= 1e-5  # a batch of one is rounded otherwise
    assert float((sample_exact(model, one.repeat(2)) - x0[1:2]).abs().max()) <= 1e-5
    moved = replace(path, sigmas=path.sigmas[1:], states=path.states[1:])
    with pytest.raises(ValueError, match="changed after its inversion"):
        sample_exact(model, moved)


@pytest.mark.parametrize("name", METHODS)
def test_an_edited_model_edits(name, device):
    """An edit of strength 0 gives the picture back, another moves it."""
    model, x0 = network(device), picture(1, device=device)
    path = METHODS[name](model, x0, grid_sigmas(Schedule(), 10, t0=400))
    h = model.split(path.states[3], path.states.new_full((1,), float(path.sigmas[3]))).h
    v = torch.randn_like(h[None]) / h.numel() ** 0.5
    ones = torch.ones(1, 1)
    found = Directions(v, path.sigmas[3:4], ones, ones, "middle", model.fingerprint, torch.ones(1), None)
    zero, ten = (
        Steered(model, [Edit(found, EditSchedule(strength=k, sigma_start=9.0, sigma_end=0.0))]) for k in (0.0, 50.0)
    )
    assert torch.equal(sample_exact(zero, path), sample_exact(model, path))
    assert float((sample_exact(ten, path) - x0).abs().max()) > 1e-3


def test_refusals(device):
    model, x0, grid = network(device), picture(1, device=device), even(50)
    with pytest.raises(ValueError, match=r"1\.1e\+15 over 50 steps.*at least 0\.950.*set it to 1"):
        invert_bdia(model, x0, grid, 0.5)
    with pytest.raises(ValueError, match="at least two"):
        invert_bdia(model, x0, even(1))
    for mixing in (0.5, 1.1, float("nan")):
        with pytest.raises(ValueError, match="mixing must lie"):
            invert_edict(model, x0, grid, mixing)
    with pytest.raises(ValueError, match="no coupled states"):
        sample_exact(model, invert_ddim(model, x0, even(3)))
    trajectory = invert_edict(model, x0, even(3))
    with pytest.raises(ValueError, match="Sample Exact Inversion only"):
        steer_trajectory(model, trajectory, [])
    with pytest.raises(ValueError, match="connect the same MODEL"):
        reconstruct_exact(Gaussian(1.0), trajectory)
    with pytest.raises(ValueError, match=r"lie in -1\.\.1"):
        invert_bdia(model, 2 * x0, grid)
