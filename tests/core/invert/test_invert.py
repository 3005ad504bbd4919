"""Inversion: order of convergence against an exact solution, exact round trips, what is refused."""

import math
from itertools import pairwise

import pytest
import torch

from core.edit.anchor import drift
from core.invert.ddim import invert_ddim
from core.invert.fixed_point import FixedPointOptions, count_calls, damping_for, invert_fixed_point
from core.measure.image import psnr
from core.networks.ddpm import DDPMConfig, DDPMUNet
from core.networks.vp import VPDenoiser
from core.sample import edited_step, reconstruct, sample_ddim
from core.schedule import Schedule, grid_sigmas
from core.trajectory import Trajectory


class Gaussian:
    """The exact denoiser of data with variance ``c``; the ODE through x0 is ``x0 sqrt((c + sigma^2) / c)``."""

    noising = "sigma"

    layers, fingerprint = ("middle",), "gaussian"

    def __init__(self, c: float):
        self.c, self.calls = c, 0

    def __call__(self, x, sigma):
        self.calls += 1
        return x * (self.c / (self.c + sigma.square()))[:, None, None, None]

    def exact(self, x0, sigma: float):
        return x0 * math.sqrt((self.c + sigma * sigma) / self.c)


class Dialect:
    """A model of sigma space, asked as models of ``noising`` are."""

    def __init__(self, model, noising: str):
        self.model, self.noising, self.fingerprint = model, noising, "dialect"

    def __call__(self, x, s):
        if self.noising == "sigma":
            return self.model(x, s)
        return self.model(x / (1 - s)[:, None, None, None], s / (1 - s))


class FlowGaussian:
    """The exact denoiser of data with variance 1 in the dialect of flow models, up to pure noise."""

    noising, fingerprint = "flow", "flow gaussian"

    def __call__(self, x, s):
        return x * ((1 - s) / ((1 - s).square() + s.square()))[:, None, None, None]


def levels_of(noising: str, sigmas):
    """A grid of sigmas in the levels of that noising."""
    return sigmas if noising == "sigma" else sigmas / (1 + sigmas)


WARM, COLD = FixedPointOptions(), FixedPointOptions(warm=False, extrapolate=False)


def tiny(device="cpu", dtype=torch.float32) -> VPDenoiser:
    net = DDPMUNet(DDPMConfig(3, 3, (32, 64), 1, (False, True))).to(device, dtype).eval().requires_grad_(False)
    net.conv_out.weight.mul_(0.25)  # a mild network: the fixed point contracts quickly
    return VPDenoiser(net, Schedule())


def picture(b=2, h=16, w=16, device="cpu", dtype=torch.float32):
    return (torch.rand(b, 3, h, w, dtype=dtype) * 2 - 1).to(device)


def even(steps: int, top: float = 3.0):
    return torch.linspace(top, 0, steps + 1, dtype=torch.float64)


def schedule_grid(steps: int, t0: int = 400):
    return grid_sigmas(Schedule(), steps, t0=t0)


@pytest.mark.parametrize("c", [0.25, 0.6])
@pytest.mark.parametrize("convention", ["A", "B"])
def test_ddim_converges_at_first_order(convention, c, device):
    model, x0 = Gaussian(c), picture(1, 4, 6, device, torch.float64)
    errors = []
    for steps in (200, 400, 800):
        trajectory = invert_ddim(model, x0, even(steps), convention)
        errors.append(float((trajectory.noisiest - model.exact(x0, 3.0)).norm()))
    orders = [math.log2(a / b) for a, b in pairwise(errors)]
    assert all(0.85 < order < 1.2 for order in orders), (errors, orders)


def test_sampling_converges_at_first_order(device):
    model, x0 = Gaussian(0.4), picture(1, 4, 6, device, torch.float64)
    errors = [float((sample_ddim(model, model.exact(x0, 3.0), even(n)) - x0).norm()) for n in (200, 400, 800)]
    assert 0.85 < math.log2(errors[0] / errors[1]) < 1.2 and 0.85 < math.log2(errors[1] / errors[2]) < 1.2


def test_states_are_those_of_the_textbook(device):
    """One step of each convention, in variance-preserving variables as the papers write them."""
    model, x0, sigmas = tiny(device, torch.float64), picture(2, 16, 24, device, torch.float64), schedule_grid(6)
    abar = (1 / (1 + sigmas.square())).tolist()
    for convention in "AB":
        trajectory = invert_ddim(model, x0, sigmas, convention)
        for i in range(len(sigmas) - 3):  # from state i+1 to state i
            low, high, lower = abar[i + 1], abar[i], trajectory.states[i + 1] * math.sqrt(abar[i + 1])
            level = low if convention == "A" else high
            s = math.sqrt((1 - level) / level)
            seen = lower / math.sqrt(
                level
            )  # what a sigma-space model is given so that the network sees `lower` at `level`
            eps = (seen - model(seen, seen.new_full((2,), s))) / s
            upper = math.sqrt(high) * (lower - math.sqrt(1 - low) * eps) / math.sqrt(low) + math.sqrt(1 - high) * eps
            assert torch.allclose(trajectory.states[i] * math.sqrt(high), upper, atol=1e-10)


@pytest.mark.parametrize("noising", ["sigma", "flow"])
def test_a_cold_fixed_point_without_iterations_is_convention_b(noising, device):
    model, x0, sigmas = Dialect(tiny(device), noising), picture(device=device), levels_of(noising, schedule_grid(5))
    b, zero = invert_ddim(model, x0, sigmas, "B"), invert_fixed_point(model, x0, sigmas, 0, options=COLD)
    assert torch.equal(b.states, zero.states)


@pytest.mark.parametrize("top", [0.95, 1.0])
def test_flow_models_are_inverted_exactly_from_any_level(top, device):
    """At the top of a flow grid a state is noise and nothing else."""
    model = FlowGaussian()
    x0, grid = picture(2, 8, 8, device, torch.float64), torch.linspace(top, 0, 9, dtype=torch.float64)
    trajectory = reconstruct(model, invert_fixed_point(model, x0, grid, 300, options=FixedPointOptions(tol=1e-13)))
    assert float((trajectory.reconstruction - x0).abs().max()) < 1e-9


@pytest.mark.parametrize("noising", ["sigma", "flow"])
def test_a_warm_start_comes_back_closer(noising, device):
    model = Dialect(tiny(device, torch.float64), noising)
    x0, sigmas = picture(1, device=device, dtype=torch.float64), levels_of(noising, schedule_grid(16))
    warm, cold = (
        psnr(reconstruct(model, invert_fixed_point(model, x0, sigmas, k, options=options)).reconstruction, x0)
        for k, options in ((1, WARM), (1, COLD))
    )
    assert float(warm[0]) > float(cold[0]) + 6


def test_calls_are_those_that_were_counted(device):
    model, x0, sigmas = tiny(device), picture(1, device=device), schedule_grid(3)
    for options in (WARM, COLD):
        for iterations in (0, 2):
            seen: list[dict] = []
            invert_fixed_point(model, x0, sigmas, iterations, options=options, callback=seen.append)
            assert len(seen) == count_calls(3, iterations, options)


def test_an_extrapolated_end_solves_a_linear_step(device):
    """Every value of a Gaussian's step is contracted alike, so that two evaluations say where it ends."""
    model, x0, sigmas = Gaussian(0.5), picture(2, 8, 8, device, torch.float64), even(6)
    ends, last = (
        (reconstruct(model, invert_fixed_point(model, x0, sigmas, 1, options=options)).reconstruction - x0).abs().max()
        for options in (WARM, FixedPointOptions(extrapolate=False))
    )
    assert float(ends) < 1e-9 and float(last) > 1e-4


def test_a_damped_step_is_not_extrapolated(device):
    model, x0, sigmas = Gaussian(0.5), picture(2, 8, 8, device, torch.float64), even(6)
    damped, plain = (
        invert_fixed_point(model, x0, sigmas, 2, options=FixedPointOptions(damping=0.3, extrapolate=extrapolate))
        for extrapolate in (True, False)
    )
    assert torch.equal(damped.states, plain.states)
    assert [damping_for(cfg) for cfg in (0.5, 1.0, 3.0, 3.1, 7.5)] == [0.0, 0.0, 0.0, 0.3, 0.3]


@pytest.mark.parametrize("options", [{}, {"damping": 0.2}, {"anderson": True}, {"warm": False}])
def test_fixed_point_round_trip_is_exact(options, device):
    model, x0, sigmas = tiny(device, torch.float64), picture(2, 16, 8, device, torch.float64), schedule_grid(5)
    how = FixedPointOptions(tol=1e-12, **options)
    trajectory = reconstruct(model, invert_fixed_point(model, x0, sigmas, iterations=30, options=how))
    assert float((trajectory.reconstruction - x0).abs().max()) < 1e-9
    assert float(trajectory.residual.max()) <= 1e-10 and trajectory.residual.shape == (5,)
    assert float(drift(model, trajectory).abs().max()) < 1e-9


def test_every_iteration_brings_the_round_trip_closer(device):
    model, x0, sigmas = tiny(device, torch.float64), picture(1, device=device, dtype=torch.float64), schedule_grid(8)
    quality = [
        float(psnr(reconstruct(model, invert_fixed_point(model, x0, sigmas, k)).reconstruction, x0)[0])
        for k in (0, 1, 3)
    ]
    assert quality[0] + 3 < quality[1] and quality[1] + 3 < quality[2]


def test_the_best_iterate_is_kept_where_the_iteration_diverges(device):
    """Steps far too long for a contraction: more iterations must not make the state worse."""

    class Stiff(Gaussian):
        noising = "sigma"

        def __call__(self, x, sigma):
            return x - 2.5 * sigma[:, None, None, None] * torch.sin(3 * x)

    model, x0 = Stiff(1), picture(3, 4, 4, device, torch.float64)
    few, many = (invert_fixed_point(model, x0, even(2), iterations=k) for k in (1, 25))
    assert float(many.residual[-1]) <= float(few.residual[-1])


def test_average_of_one_range_is_that_iterate(device):
    model, x0, sigmas = tiny(device), picture(device=device), schedule_grid(4)
    plain = invert_fixed_point(model, x0, sigmas, iterations=0, options=COLD)
    averaged = invert_fixed_point(model, x0, sigmas, 2, options=FixedPointOptions(warm=False, average=(0, 0)))
    assert torch.allclose(plain.states, averaged.states, atol=1e-5)
    wide = invert_fixed_point(model, x0, sigmas, iterations=3, options=FixedPointOptions(average=(1, 3)))
    assert not torch.equal(wide.states, plain.states) and "average 1-3" in wide.method


def test_a_batch_is_its_samples(device):
    model, x0, sigmas = tiny(device, torch.float64), picture(3, 24, 16, device, torch.float64), schedule_grid(4)
    both = invert_fixed_point(model, x0, sigmas, 2)
    for i in range(3):
        alone = invert_fixed_point(model, x0[i : i + 1], sigmas, 2)
        assert torch.allclose(both.states[:, i : i + 1], alone.states, atol=1e-9)


def test_a_sample_does_not_wait_for_the_others(device):
    """``tol`` ends the iteration of each by itself: the easy one takes no further steps because of the hard one beside
    it."""
    model, x0, sigmas = tiny(device, torch.float64), picture(2, 16, 8, device, torch.float64), schedule_grid(5)
    both = invert_fixed_point(model, x0, sigmas, 30, options=FixedPointOptions(tol=1e-4))
    for i in range(2):
        alone = invert_fixed_point(model, x0[i : i + 1], sigmas, 30, options=FixedPointOptions(tol=1e-4))
        assert torch.allclose(both.states[:, i : i + 1], alone.states, atol=1e-9)


def test_the_grid_stays_in_float64_and_the_states_in_the_images_precision(device):
    model, sigmas = tiny(device), schedule_grid(3)
    trajectory = invert_ddim(model, picture(1, device=device).half(), sigmas.float())
    assert (
        trajectory.sigmas.dtype == torch.float64
        and trajectory.states.dtype == torch.float32
        and trajectory.fingerprint == model.fingerprint
    )
    assert torch.equal(trajectory.x0, trajectory.states[-1]) and len(trajectory.states) == 4


def test_callback_is_called_a_step_and_may_cancel(device):
    seen: list[dict] = []
    model, x0, sigmas = tiny(device), picture(1, device=device), schedule_grid(3)
    invert_ddim(model, x0, sigmas, callback=seen.append)
    assert [s["i"] for s in seen] == [0, 1, 2] and {"n", "x", "sigma", "denoised"} <= set(seen[0])
    assert [s["sigma"] for s in seen] == sigmas[:-1].flip(0).tolist()
    seen.clear()
    invert_fixed_point(model, x0, sigmas, 2, callback=seen.append)
    assert len(seen) == 10

    class Cancelled(Exception):
        pass

    def stop(state):
        raise Cancelled

    with pytest.raises(Cancelled):
        invert_ddim(model, x0, sigmas, callback=stop)


def test_eta_one_is_the_ddpm_posterior(device):
    """Mean and variance of q(x_s | x_t, x0), Ho et al. 2020, eq. 7, in variance-preserving variables."""
    at, s = 0.3, 0.55
    x, x0 = picture(1, device=device, dtype=torch.float64), picture(1, device=device, dtype=torch.float64)
    sigma, nxt = math.sqrt((1 - at) / at), math.sqrt((1 - s) / s)
    mean = edited_step(x / math.sqrt(at), sigma, nxt, x0, x0, eta=1.0, noise=torch.zeros_like(x)) * math.sqrt(s)
    alpha = at / s
    expected = math.sqrt(s) * (1 - alpha) / (1 - at) * x0 + math.sqrt(alpha) * (1 - s) / (1 - at) * x
    assert torch.allclose(mean, expected, atol=1e-12)
    one = edited_step(x, sigma, nxt, x0, x0, eta=1.0, noise=torch.ones_like(x)) - edited_step(
        x, sigma, nxt, x0, x0, eta=1.0, noise=torch.zeros_like(x)
    )
    assert math.isclose(float(one.mean()) ** 2 * s, (1 - s) / (1 - at) * (1 - alpha), rel_tol=1e-9)


@pytest.mark.parametrize(
    ("image", "sigmas", "said"),
    [
        (torch.zeros(1, 3, 8, 8), torch.zeros(1), "at least one step"),
        (torch.zeros(1, 3, 8, 8), torch.zeros(0), "at least one step"),
        (torch.zeros(1, 3, 8, 8), torch.tensor([0.0, 1.0, 2.0]), "do not flip"),
        (torch.zeros(1, 3, 8, 8), torch.tensor([2.0, 1.0]), "end in 0"),
        (torch.zeros(1, 3, 8, 8), torch.tensor([float("nan"), 0.0]), "NaN"),
        (torch.full((1, 3, 8, 8), float("nan")), torch.tensor([1.0, 0.0]), "NaN"),
        (torch.full((1, 3, 8, 8), 255.0), torch.tensor([1.0, 0.0]), "127.5"),
        (torch.zeros(3, 8, 8), torch.tensor([1.0, 0.0]), r"\[b c h w\]"),
        (torch.zeros(0, 3, 8, 8), torch.tensor([1.0, 0.0]), "not empty"),
    ],
)
def test_bad_images_and_grids_are_refused(image, sigmas, said):
    for run in (invert_ddim, invert_fixed_point):
        with pytest.raises(ValueError, match=said):
            run(Gaussian(1), image, sigmas)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"damping": 1.0}, "damping"),
        ({"average": (2, 9)}, "average"),
        ({"tol": float("nan")}, "tol"),
    ],
)
def test_bad_options_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        invert_fixed_point(Gaussian(1), torch.zeros(1, 3, 8, 8), even(2), options=FixedPointOptions(**options))


def test_fewer_iterations_than_none_are_refused():
    with pytest.raises(ValueError, match="iterations"):
        invert_fixed_point(Gaussian(1), torch.zeros(1, 3, 8, 8), even(2), -1)


def test_other_refusals():
    with pytest.raises(ValueError, match="convention"):
        invert_ddim(Gaussian(1), torch.zeros(1, 3, 8, 8), even(2), "C")
    with pytest.raises(ValueError, match="generator"):
        sample_ddim(Gaussian(1), torch.zeros(1, 3, 8, 8), even(2), eta=0.5)
    with pytest.raises(ValueError, match="eta"):
        sample_ddim(Gaussian(1), torch.zeros(1, 3, 8, 8), even(2), eta=1.5)
    assert invert_ddim(Gaussian(1), torch.full((1, 3, 8, 8), 1.05), even(2)).states.isfinite().all()
    assert invert_ddim(Gaussian(9), torch.full((1, 4, 8, 8), 6.0), even(2), limit=None).states.isfinite().all()


def test_runs_that_cannot_follow_a_trajectory_are_refused():
    grid = torch.tensor([4.0, 2.0, 1.0, 0.0], dtype=torch.float64)
    path = Trajectory(grid, torch.zeros(4, 2, 3, 8, 6), "abc+1")
    path.check_run(grid.float(), torch.zeros(4, 3, 8, 6), "A Node")
    path.check_run(grid[1:], torch.zeros(1, 3, 8, 6), "A Node", skip=1)
    for sigmas, size, words in (
        (grid[1:], (8, 6), "SIGMAS output of A Node"),
        (grid * 1.01, (8, 6), "SIGMAS"),
        (grid, (6, 8), "latent connected"),
    ):
        with pytest.raises(ValueError, match=words):
            path.check_run(sigmas, torch.zeros(1, 3, *size), "A Node")
    path.check_base("abc")
    path.check_base("abc+2")
    with pytest.raises(ValueError, match="same MODEL"):
        path.check_base("abd+1")
