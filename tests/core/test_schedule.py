"""Schedules and step grids against the papers' formulas and diffusers."""

import math

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from core.schedule import (
    Schedule,
    abar_of_sigma,
    betas,
    from_vp,
    grid,
    grid_sigmas,
    rescale_sigma,
    sigma_of_abar,
    to_vp,
)

CHAINS = [
    Schedule(),
    Schedule("scaled_linear", 1000, 0.00085, 0.012),
    Schedule("cosine"),
    Schedule("linear", 2),
    Schedule("cosine", 50),
]


@pytest.mark.parametrize(
    ("kind", "theirs", "start", "end"),
    [
        ("linear", "linear", 1e-4, 0.02),
        ("scaled_linear", "scaled_linear", 0.00085, 0.012),
        ("cosine", "squaredcos_cap_v2", 1e-4, 0.02),
    ],
)
def test_betas_equal_diffusers(kind, theirs, start, end):
    other = DDIMScheduler(1000, beta_start=start, beta_end=end, beta_schedule=theirs)
    torch.testing.assert_close(betas(kind, 1000, start, end).float(), other.betas, rtol=2e-5, atol=1e-8)
    torch.testing.assert_close(
        Schedule(kind, 1000, start, end).abar.float(), other.alphas_cumprod, rtol=2e-3, atol=1e-7
    )


@pytest.mark.parametrize("schedule", CHAINS, ids=lambda s: f"{s.kind}-{s.steps}")
def test_sigma_and_step_are_inverse(schedule):
    t = torch.linspace(0, schedule.steps - 1, 301, dtype=torch.float64)
    torch.testing.assert_close(schedule.t(schedule.sigma(t)), t, rtol=0, atol=1e-6)
    assert (schedule.sigmas.diff() > 0).all()
    torch.testing.assert_close(schedule.sigma(torch.arange(schedule.steps)), schedule.sigmas, rtol=1e-12, atol=0)
    torch.testing.assert_close(sigma_of_abar(abar_of_sigma(schedule.sigmas)), schedule.sigmas, rtol=1e-6, atol=0)


def test_sigma_at_the_ends():
    s = Schedule()
    assert float(s.sigma(-1)) == 0
    assert float(s.t(0.0)) == 0 and float(s.t(1e9)) == s.steps - 1
    assert float(s.sigma(5000.0)) == pytest.approx(float(s.sigmas[-1]))
    assert s.sigma(torch.zeros(2, 3)).shape == (2, 3) and s.t(torch.ones(2, 3)).shape == (2, 3)
    half = s.sigma(10.5)
    assert float(half) == pytest.approx(math.sqrt(float(s.sigmas[10] * s.sigmas[11])))  # linear in log sigma


def test_kept_tables_can_be_differentiated_through():
    s = Schedule("linear", 77)
    with torch.inference_mode():
        s.sigma(3)
    x = torch.ones(2, requires_grad=True, dtype=torch.float64)
    (x * s.abar[5] * s.sigmas[5]).sum().backward()
    assert x.grad is not None and not s.abar.is_inference()


@given(st.floats(1e-3, 1e3), st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_vp_round_trip(sigma, seed):
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    for s in (torch.tensor(sigma), torch.tensor([sigma, 2 * sigma])):
        torch.testing.assert_close(from_vp(to_vp(x, s), s), x, rtol=1e-12, atol=1e-12)
    noisy = x[:1] + sigma * torch.ones_like(x[:1])  # the VP paper's form of the same state
    abar = 1 / (1 + sigma**2)
    vp = math.sqrt(abar) * x[:1] + math.sqrt(1 - abar) * torch.ones_like(x[:1])
    torch.testing.assert_close(to_vp(noisy, torch.tensor(sigma, dtype=torch.float64)), vp, rtol=1e-9, atol=1e-9)


def test_rbe_grid():
    t = grid(Schedule(), 40, t0=500)
    assert t.tolist() == [int(s) for s in np.linspace(0, 1, 40) * 500][::-1]
    assert t[:3].tolist() == [500, 487, 474] and t[-1] == 0
    assert float(grid_sigmas(Schedule(), 40, t0=500)[0]) == pytest.approx(3.4, abs=0.05)


@pytest.mark.parametrize("n", [2, 6, 10, 40, 50, 100, 1000])
def test_asyrp_grid(n):
    assert grid(Schedule(), n).tolist() == [int(s + 1e-6) for s in np.linspace(0, 1, n) * 999][::-1]


@pytest.mark.parametrize("style", ["leading", "trailing"])
@pytest.mark.parametrize("n", [1, 2, 7, 20, 30, 50, 333, 1000])
def test_grids_equal_diffusers(style, n):
    other = DDIMScheduler(1000, timestep_spacing=style)
    other.set_timesteps(n)
    assert grid(Schedule(), n, style).tolist() == other.timesteps.tolist()


@given(st.integers(1, 200), st.sampled_from(["linspace", "leading", "trailing"]), st.integers(0, 199))
@settings(max_examples=200, deadline=None)
def test_grids_descend_strictly_inside_the_chain(n, style, t0):
    schedule = Schedule("linear", 200)
    if n > t0 + 1:
        with pytest.raises(ValueError, match="steps must be between 1 and"):
            grid(schedule, n, style, t0)
        return
    t = grid(schedule, n, style, t0)
    assert len(t) == n and (t.diff() < 0).all() and 0 <= int(t[-1]) and int(t[0]) <= t0
    sigmas = grid_sigmas(schedule, n, style, t0)
    assert len(sigmas) == n + 1 and float(sigmas[-1]) == 0 and (sigmas.diff() < 0).all()


def test_the_same_content_at_another_size():
    assert rescale_sigma(3.4, 256, 64) == pytest.approx(0.85)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: grid(Schedule(), 0), "steps must be between 1 and 1000"),
        (lambda: grid(Schedule(), 10, t0=1000), "t0 must lie in 0 .. 999"),
        (lambda: grid(Schedule(), 10, t0=-5), "t0 must lie in 0 .. 999"),
        (lambda: grid(Schedule(), 10, "quad"), "unknown grid 'quad'"),
        (lambda: betas("sigmoid"), "unknown beta schedule 'sigmoid'"),
        (lambda: betas(steps=1), "at least two steps"),
        (lambda: betas(start=0.5, end=0.1), "betas must rise"),
        (lambda: betas(end=1.5), "betas must rise"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
