"""Edit-friendly inversion: exact round trips, the released formulas in VP variables, what every dial does and
refuses."""

import math
from pathlib import Path

import pytest
import torch

from core.edit.noise.edit_friendly import (
    EditFriendlyOptions,
    holding,
    noises_of,
    rebuild,
    recolour,
    sample_edit_friendly,
)
from core.files.checkpoint import load_denoiser
from core.invert.ddim import invert_ddim, lift
from core.invert.edit_friendly import SOLVERS, NoiseSettings, invert_edit_friendly, posterior
from core.measure.image import psnr
from core.schedule import Schedule, abar_of_sigma, grid, grid_sigmas, to_vp

S = Schedule()
WEIGHTS = Path(__file__).resolve().parents[3] / "weights" / "face_model.safetensors"


def pictures(b, device, dtype=torch.float32, h=16, w=24):
    g = torch.Generator().manual_seed(4)
    return (torch.rand(b, 3, h, w, generator=g, dtype=dtype) * 1.6 - 0.8).to(device)


class Other:
    """A model that disagrees with the one inverted, as another prompt does."""

    layers = ("middle",)
    noising = "sigma"

    def __init__(self, model, amount=0.3):
        self.model, self.amount, self.fingerprint = model, amount, model.fingerprint

    def __call__(self, x, sigma):
        return self.model(x, sigma) + self.amount * torch.linspace(-1, 1, x.shape[-1]).to(x)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("steps", [20, 100])
def test_the_picture_comes_back_on_a_random_network(small, device, steps, solver):
    x0 = pictures(2, device)
    trajectory = rebuild(small, invert_edit_friendly(small, x0, grid_sigmas(S, steps), NoiseSettings(solver)))
    assert trajectory.noises.shape == (steps, 2, 3, 16, 24) and noises_of(trajectory)[0] == solver
    assert float(psnr(trajectory.rebuilt, x0).min()) >= 60


@pytest.mark.parametrize("solver", SOLVERS)
def test_skip_keeps_the_source_exact(small, device, solver):
    x0 = pictures(1, device)
    trajectory = invert_edit_friendly(small, x0, grid_sigmas(S, 20), NoiseSettings(solver))
    for skip in (1, 7, 19):
        assert float(psnr(sample_edit_friendly(small, trajectory, EditFriendlyOptions(skip=skip)), x0)) >= 60


def test_the_exact_pass_returns_the_picture_to_the_last_bits(small, device):
    x0 = pictures(2, device)
    trajectory = invert_edit_friendly(small, x0, grid_sigmas(S, 50))
    seen = []
    last = sample_edit_friendly(small, trajectory, callback=lambda s: seen.append(s["x"]))
    assert all(torch.equal(a, b) for a, b in zip(seen[:-1], trajectory.states[1:-1], strict=True))
    assert float((last - x0).abs().max()) <= 2**-23


def test_levels_may_go_through_the_model_together_or_one_by_one(model, device):
    x0, sigmas = pictures(2, device, torch.float64), grid_sigmas(S, 12)
    one, *many = (invert_edit_friendly(model, x0, sigmas, batch=b) for b in (1, 5, 12))
    assert all(float((one.noises - path.noises).abs().max()) < 1e-9 for path in many)


def literal(model, x0, noises, steps, solver):
    """The released loops in VP variables, with alpha-bar: z of every step but the last."""
    t = grid(S, steps).tolist()
    abar = [float(S.abar[i]) for i in t]
    xs = [math.sqrt(a) * x0 + math.sqrt(1 - a) * e for a, e in zip(abar, noises, strict=True)]
    zs, x, m1, h_prev = [], xs[0], None, None
    for i in range(steps - 1):
        a, p = abar[i], abar[i + 1]
        sigma = torch.full((len(x0),), math.sqrt((1 - a) / a), dtype=torch.float64)
        m0 = model(x / math.sqrt(a), sigma)
        eps = (x - math.sqrt(a) * m0) / math.sqrt(1 - a)
        if solver == "ddpm":
            var = (1 - p) / (1 - a) * (1 - a / p)
            mean, std = math.sqrt(p) * m0 + math.sqrt(1 - p - var) * eps, math.sqrt(var)
        else:
            lam = [0.5 * math.log(v / (1 - v)) for v in (a, p)]
            h, sig = lam[1] - lam[0], [math.sqrt(1 - v) for v in (a, p)]
            share = 1 - math.exp(-2 * h)
            mean = sig[1] / sig[0] * math.exp(-h) * x + math.sqrt(p) * share * m0
            if m1 is not None:
                mean = mean + 0.5 * math.sqrt(p) * share * (m0 - m1) / (h_prev / h)
            std, m1, h_prev = sig[1] * math.sqrt(share), m0, h
        z = (xs[i + 1] - mean) / std
        x = mean + std * z
        zs.append(z)
    return torch.stack(zs), xs


@pytest.mark.parametrize("solver", SOLVERS)
def test_noises_are_those_of_the_released_formulas(model, device, solver):
    x0, steps = pictures(2, device, torch.float64), 15
    g = torch.Generator().manual_seed(3)
    noises = [torch.randn((1, *x0.shape[1:]), generator=g).to(x0).expand_as(x0) for _ in range(steps)]
    zs, xs = literal(model, x0, noises, steps, solver)
    trajectory = invert_edit_friendly(model, x0, grid_sigmas(S, steps), NoiseSettings(solver, seed=3))
    assert float((trajectory.noises[:-1] - zs).abs().max()) < 1e-9
    for state, sigma, x in zip(trajectory.states, trajectory.sigmas, xs, strict=False):
        assert float((to_vp(state, sigma) - x).abs().max()) < 1e-12
    # The last noise is what the last prediction misses.
    last = model(trajectory.states[-2], trajectory.sigmas[-2].expand(2))
    assert float((trajectory.noises[-1] - (x0 - last)).abs().max()) < 1e-9


def test_turbo_edits_shifted_noise_is_a_lower_level_under_the_same_label(model, device):
    x0, sigmas = pictures(1, device, torch.float64), grid_sigmas(S, 4)
    plain, shifted = (invert_edit_friendly(model, x0, sigmas, NoiseSettings(noise_shift=v, seed=1)) for v in (0.0, 1.0))
    s = sigmas.tolist()
    for i in range(4):
        noise = (plain.states[i] - x0) / s[i]
        vp = math.sqrt(abar_of_sigma(sigmas[i + 1])) * (x0 + s[i + 1] * noise)
        assert float((to_vp(shifted.states[i], sigmas[i]) - vp).abs().max()) < 1e-12
        assert torch.allclose(shifted.states[i], lift(x0 + s[i + 1] * noise, s[i + 1], s[i]), atol=1e-12)
    assert float((sample_edit_friendly(model, shifted) - x0).abs().max()) < 1e-12


@pytest.mark.parametrize("solver", SOLVERS)
def test_turbo_edits_pseudo_guidance_is_guidance_away_from_the_source_prompt(model, device, solver):
    """x' = z + mu(x', src) + w (mu(x', tgt) - mu(x', src)), step by step, against one guided model."""
    x0, sigmas, w = pictures(1, device, torch.float64), grid_sigmas(S, 4), 1.5
    path, target = invert_edit_friendly(model, x0, sigmas, NoiseSettings(solver)), Other(model)

    def guided(x, sigma):
        return model(x, sigma) + w * (target(x, sigma) - model(x, sigma))

    s, x, before = sigmas.tolist(), path.states[0], (None, None)
    for i in range(4):
        seen = [m(x, sigmas[i].expand(1)) for m in (model, target)]
        (src, std), (tgt, _) = (posterior(x, s, i, d, b, solver) for d, b in zip(seen, before, strict=True))
        x, before = std * path.noises[i] + src + w * (tgt - src), seen
    assert float((sample_edit_friendly(guided, path) - x).abs().max()) < 1e-12


def test_the_last_noise_may_be_limited(model, device):
    trajectory = invert_edit_friendly(model, pictures(2, device, torch.float64), grid_sigmas(S, 4))
    full, limited, wide = (
        sample_edit_friendly(model, trajectory, EditFriendlyOptions(clip=c)) for c in (0.0, 0.01, 100.0)
    )
    kept = limited - (full - trajectory.noises[-1])
    assert torch.allclose(kept.square().mean((1, 2, 3)).sqrt(), torch.full((2,), 0.01, dtype=torch.float64), atol=1e-9)
    assert torch.equal(full, wide)


def test_seeds_give_other_edits_and_the_same_reconstruction(small, device):
    x0 = pictures(1, device)
    trajectories = [invert_edit_friendly(small, x0, grid_sigmas(S, 20), NoiseSettings(seed=k)) for k in (0, 1, 0)]
    for path in trajectories:
        assert float(psnr(sample_edit_friendly(small, path), x0)) >= 60
    one, two, again = (
        sample_edit_friendly(Other(small, 1.0), path, EditFriendlyOptions(skip=3)) for path in trajectories
    )
    assert torch.equal(one, again) and float((one - two).abs().mean()) > 1e-3


def test_higher_skip_stays_closer(small, device):
    x0 = pictures(1, device)
    trajectory = invert_edit_friendly(small, x0, grid_sigmas(S, 20))
    moved = [
        float((sample_edit_friendly(Other(small), trajectory, EditFriendlyOptions(skip=k)) - x0).square().mean())
        for k in (0, 10, 17, 19)
    ]
    assert moved == sorted(moved, reverse=True) and moved[-1] > 0


class Blur:
    """A denoiser that commutes with rolling the picture."""

    noising = "sigma"

    layers, fingerprint = ("middle",), "blur"

    def __call__(self, x, sigma):
        near = sum(torch.roll(x, k, d) for k in (-1, 1) for d in (-2, -1)) / 4
        return near / (1 + sigma.square())[:, None, None, None]


@pytest.mark.parametrize("solver", SOLVERS)
def test_shifting_moves_the_picture(device, solver):
    x0 = pictures(1, device, torch.float64)
    trajectory = invert_edit_friendly(Blur(), x0, grid_sigmas(S, 12), NoiseSettings(solver))
    for skip in (0, 4):
        moved = sample_edit_friendly(Blur(), trajectory, EditFriendlyOptions(shift=(3, -5), skip=skip))
        assert float((moved - torch.roll(x0, (3, -5), (-2, -1))).abs().max()) < 1e-12


class Pointwise:
    """A denoiser that looks at one pixel at a time: the prior of a picture whose values are spread by 0.5."""

    noising = "sigma"

    layers, fingerprint = ("middle",), "pointwise"

    def __call__(self, x, sigma):
        return x * (0.25 / (0.25 + sigma.square()))[:, None, None, None]


@pytest.mark.parametrize("solver", SOLVERS)
def test_colours_painted_into_the_noises(device, solver):
    """The literal line of the paper, a place that it does not touch, and pixels that come nearer to the colour."""
    x0, strength = pictures(2, device, torch.float64), 0.2
    trajectory = invert_edit_friendly(Pointwise(), x0, grid_sigmas(S, 20), NoiseSettings(solver))
    colour = torch.tensor([0.9, -0.9, 0.4], dtype=torch.float64, device=device)[:, None, None].expand(1, 3, 16, 24)
    mask = torch.zeros(16, 24, device=device)
    mask[:, :8], mask[:, 8:12] = 1, 0.5
    painted = recolour(trajectory, colour, mask, strength, (0.3, 0.8))
    for i, (z, new) in enumerate(zip(trajectory.noises, painted.noises, strict=True)):
        expected = z + strength * mask * colour if 6 <= i < 16 else z
        assert torch.equal(new, expected.to(z))
    assert torch.equal(painted.states, trajectory.states)
    moved = sample_edit_friendly(Pointwise(), painted) - x0
    assert torch.equal(moved[..., 12:], sample_edit_friendly(Pointwise(), trajectory)[..., 12:] - x0[..., 12:])
    assert bool((moved[..., :8] * colour[..., :8] > 1e-3).all())  # every channel towards its colour
    assert torch.allclose(
        moved[..., 8:12], moved[:1, :, :1, :1].expand(2, 3, 16, 4) / 2, atol=1e-9
    )  # half a mask is half the way
    away = sample_edit_friendly(Pointwise(), recolour(trajectory, colour, mask, -strength)) - x0
    assert torch.allclose(away, -moved, atol=1e-9)


def test_no_colour_is_no_change_and_the_last_residual_is_never_painted(device):
    trajectory = invert_edit_friendly(Pointwise(), pictures(1, device), grid_sigmas(S, 10))
    colour, mask = torch.ones(1, 3, 16, 24, device=device), torch.ones(16, 24, device=device)
    assert recolour(trajectory, colour, mask, 0.0) is trajectory
    assert torch.equal(recolour(trajectory, colour, mask, 0.5, (0.4, 0.4)).noises, trajectory.noises)
    everywhere = recolour(trajectory, colour, mask, 0.5, (0.0, 1.0)).noises != trajectory.noises
    assert bool(everywhere[:-1].all()) and not everywhere[-1].any()
    for wrong, word in (
        ({"window": (0.5, 0.4)}, "start and end"),
        ({"strength": float("nan")}, "strength"),
        ({"colour": colour[..., :8]}, "one size"),
    ):
        with pytest.raises(ValueError, match=word):
            recolour(trajectory, **{"colour": colour, "mask": mask, **wrong})
    with pytest.raises(ValueError, match="no noises"):
        recolour(invert_ddim(Pointwise(), pictures(1, device), grid_sigmas(S, 4)), colour, mask)


def test_one_source_and_several_targets_in_a_batch(model, device):
    """Row 0 keeps the source, the others share its noises."""
    x0 = pictures(1, device, torch.float64)
    path, other = invert_edit_friendly(model, x0, grid_sigmas(S, 10)), Other(model)

    def paired(x, sigma):
        return torch.cat([model(x[:1], sigma[:1]), other(x[1:], sigma[1:])])

    found = sample_edit_friendly(paired, path, EditFriendlyOptions(skip=2), rows=3)
    alone = sample_edit_friendly(other, path, EditFriendlyOptions(skip=2))
    assert float((found[0] - x0[0]).abs().max()) < 1e-9
    assert float((found[1:] - alone).abs().max()) < 1e-9
    held = sample_edit_friendly(other, path, rows=4, hold=holding(path, sources=2))
    assert (
        torch.equal(held[::2], x0.expand(2, -1, -1, -1)) and float((held[1::2] - x0).abs().amax((1, 2, 3)).min()) > 0.1
    )


def test_a_mask_holds_the_rest_exactly(model, device):
    x0 = pictures(1, device, torch.float64)
    path, mask = invert_edit_friendly(model, x0, grid_sigmas(S, 10)), torch.zeros(1, 1, 16, 24, device=device)
    mask[..., :8] = 1
    found = sample_edit_friendly(Other(model), path, hold=holding(path, lambda sigma: mask))
    assert torch.equal(found[..., 8:], x0[..., 8:]) and float((found - x0)[..., :8].abs().mean()) > 0.05
    everything = holding(path, lambda sigma: torch.ones_like(mask))
    assert torch.equal(
        sample_edit_friendly(Other(model), path, hold=everything), sample_edit_friendly(Other(model), path)
    )


@pytest.mark.parametrize(("steps", "batch"), [(20, 1), (50, 16)])
def test_the_picture_comes_back_on_the_shipped_face_model(device, steps, batch):
    model = load_denoiser(WEIGHTS, device)
    x0 = pictures(1, device, h=64, w=64)
    trajectory = rebuild(model, invert_edit_friendly(model, x0, grid_sigmas(model.schedule, steps), batch=batch))
    assert float(psnr(trajectory.rebuilt, x0)) >= 60


def test_what_is_refused(small, device):
    x0, sigmas = pictures(1, device), grid_sigmas(S, 4)
    for options, word in (({"solver": "heun"}, "solver"), ({"noise_shift": 1.5}, "noise_shift")):
        with pytest.raises(ValueError, match=word):
            invert_edit_friendly(small, x0, sigmas, NoiseSettings(**options))
    with pytest.raises(ValueError, match="batch"):
        invert_edit_friendly(small, x0, sigmas, batch=0)
    trajectory = invert_edit_friendly(small, pictures(2, device), sigmas)
    for options, word in (({"skip": 4}, "skip"), ({"clip": -1.0}, "clip")):
        with pytest.raises(ValueError, match=word):
            sample_edit_friendly(small, trajectory, EditFriendlyOptions(**options))
    with pytest.raises(ValueError, match="2 pictures"):
        sample_edit_friendly(small, trajectory, rows=3)
    with pytest.raises(ValueError, match="no noises"):
        sample_edit_friendly(small, invert_ddim(small, x0, sigmas))
