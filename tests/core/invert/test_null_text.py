"""Null-text optimisation and proximal guidance against literal re-implementations and their own promises."""

import itertools
import math
from dataclasses import replace

import pytest
import torch

from core.edit.noise.proximal import MODES, OLD_NAMES, proximal, towards
from core.invert.ddim import invert_ddim
from core.invert.fixed_point import invert_fixed_point
from core.invert.null_text import NullTextSettings, optimise_null_text, windows
from core.sample import sample_ddim
from core.schedule import Schedule, grid_sigmas
from core.trajectory import ExactMethod


class Prompted:
    """A smooth denoiser conditioned on an embedding `[b n d]`; with ``cfg`` 1 it follows the prompt alone."""

    noising = "sigma"

    layers, fingerprint = ("middle",), "prompted"

    def __init__(self, seed: int = 0, dtype=torch.float64):
        g = torch.Generator().manual_seed(seed)
        self.prompt, self.empty = (torch.randn(1, 5, 8, generator=g, dtype=dtype) for _ in range(2))
        self.mix = torch.randn(8, 3 * 6 * 4, generator=g, dtype=dtype) * 0.3
        self.negatives = 0

    def at(self, x, sigma, embedding):
        s = sigma[:, None, None, None]
        drawn = torch.tanh(embedding.to(x).mean(1) @ self.mix.to(x)).view(-1, 3, 6, 4)
        return (0.3 * x + s.square() * 0.8 * drawn * torch.cos(x / (1 + s))) / (0.3 + s.square())

    def __call__(self, x, sigma):
        return self.at(x, sigma, self.prompt)

    def positive(self, x, sigma):
        return self(x, sigma)

    def negative(self, x, sigma, embedding):
        self.negatives += 1
        return self.at(x, sigma, embedding)

    def guided(self, cfg, embeddings):
        """A denoiser with a negative embedding for each step."""
        outer = self

        class Guided:
            noising = "sigma"
            layers, fingerprint, step = outer.layers, outer.fingerprint, 0

            def __call__(self, x, sigma):
                e = embeddings[min(self.step, len(embeddings) - 1)]
                self.step += 1
                u, c = outer.at(x, sigma, e), outer(x, sigma)
                return u + cfg * (c - u)

        return Guided()


@pytest.fixture
def case(device):
    model = Prompted()
    x0 = torch.rand(2, 3, 6, 4, dtype=torch.float64) - 0.5
    return model, x0, invert_ddim(model, x0, grid_sigmas(Schedule(), 12, t0=600))


def literal(model, path, embedding, cfg, steps, tolerance):
    """The released code in the paper's own variables, written out for one image; the best embedding of each step is
    kept."""
    s, n, e, found = path.sigmas, len(path.sigmas) - 1, embedding.clone(), []
    abar = 1 / (1 + s.square())
    z = path.noisiest * abar[0].sqrt()
    for i in range(n):
        e = e.clone().requires_grad_(True)
        adam = torch.optim.Adam([e], lr=1e-2 * (1 - i * (50 / n) / 100))
        a, b = abar[i], abar[i + 1]
        best = (math.inf, None, None)
        for k in range(steps + 1):
            x, rows = z / a.sqrt(), z.new_full((1,), float(s[i]))
            eps_u, eps_c = ((x - d) / s[i] for d in (model.at(x, rows, e), model(x, rows)))
            eps = eps_u + cfg * (eps_c - eps_u)
            x0 = (z - (1 - a).sqrt() * eps) / a.sqrt()
            low = b.sqrt() * x0 + (1 - b).sqrt() * eps
            loss = torch.nn.functional.mse_loss(low, path.states[i + 1] * b.sqrt())
            if float(loss.detach()) < best[0]:
                best = (float(loss.detach()), e.detach().clone(), low.detach())
            if k == steps or best[0] < tolerance + i * (50 / n) * 2e-5:
                break
            adam.zero_grad()
            loss.backward()
            adam.step()
        e, z = best[1], best[2]
        found.append(e)
    return torch.stack(found), z


@pytest.mark.parametrize("tolerance", [0.0, 1e-5])
def test_it_is_the_papers_algorithm_in_the_papers_variables(case, tolerance):
    model, _, path = case
    for index in range(2):
        one = path.image(index)
        found = optimise_null_text(model, one, model.empty, 4.0, NullTextSettings(6, tolerance=tolerance))
        embeddings, z = literal(model, one, model.empty.float(), 4.0, 6, tolerance)
        if not tolerance:
            assert torch.allclose(found.embeddings, embeddings, atol=1e-4)
        assert torch.allclose(found.image, z, atol=1e-4)


@pytest.mark.parametrize("cfg", [3.0, 7.5])
def test_the_loss_falls_at_every_inner_iteration(case, cfg):
    """The losses themselves, as Adam meets them, not the best so far."""
    model, _, path = case
    seen: list[list[float]] = [[] for _ in range(12)]
    optimise_null_text(
        model,
        path.image(0),
        model.empty,
        cfg,
        NullTextSettings(tolerance=0.0),
        callback=lambda s: seen[s["i"]].append(s["loss"]),
    )
    assert all(len(losses) == 11 for losses in seen)
    assert all(b < a for losses in seen for a, b in itertools.pairwise(losses)), seen


def test_the_embeddings_have_the_losses_that_are_reported_and_the_picture_comes_back(case):
    model, x0, path = case
    cfg, s = 5.0, path.sigmas
    few, many = (optimise_null_text(model, path, model.empty, cfg, NullTextSettings(k, tolerance=0.0)) for k in (0, 20))
    assert torch.equal(few.embeddings, model.empty.float().expand(12, 2, -1, -1))
    x = path.noisiest
    begun = [model.empty.float().expand(2, -1, -1), *many.embeddings]
    for i in range(12):
        rows, ends = s[i].expand(2), []
        for embedding in (begun[i], many.embeddings[i]):
            u, c = model.at(x, rows, embedding), model(x, rows)
            d = u + cfg * (c - u)
            ends.append(d + s[i + 1] / s[i] * (x - d))
        losses = [(e - path.states[i + 1]).square().mean((1, 2, 3)) / (1 + s[i + 1] ** 2) for e in ends]
        for found, loss in zip((many.before[i], many.after[i]), losses, strict=True):
            assert torch.allclose(found, loss, rtol=1e-5, atol=1e-12)
        x = ends[1]
    assert torch.allclose(x, many.image, atol=1e-10)
    errors = [float((found.image - x0).norm()) for found in (few, many)]
    assert errors[1] < 0.2 * errors[0], errors
    again = sample_ddim(model.guided(cfg, many.embeddings), path.noisiest, path.sigmas)
    assert torch.allclose(again, many.image, atol=1e-10)


def test_states_that_sampling_passes_leave_less_to_fit(case):
    model, x0, path = case
    trajectories = path, invert_fixed_point(model, x0, path.sigmas, iterations=8)
    errors = [
        float((optimise_null_text(model, one, model.empty, 5.0, NullTextSettings(tolerance=0.0)).image - x0).norm())
        for one in trajectories
    ]
    assert errors[1] < 0.9 * errors[0], errors


def test_it_stops_early_and_a_batch_is_its_images(case):
    model, _, path = case
    model.negatives = 0
    optimise_null_text(model, path, model.empty, 3.0, NullTextSettings(tolerance=1e9))
    assert model.negatives == 12
    both = optimise_null_text(model, path, model.empty, 3.0, NullTextSettings(5, tolerance=0.0))
    one = optimise_null_text(model, path.image(1), model.empty, 3.0, NullTextSettings(5, tolerance=0.0))
    assert torch.allclose(both.embeddings[:, 1:], one.embeddings, atol=1e-5) and torch.allclose(
        both.image[1:], one.image, atol=1e-6
    )


def test_windows_cover_every_level_once(case):
    _, _, path = case
    bounds = windows(path)
    assert bounds[0][0] == math.inf and bounds[-1][1] == 0 and all(a[1] == b[0] for a, b in itertools.pairwise(bounds))
    for i, sigma in enumerate(path.sigmas[:-1].tolist()):
        assert [k for k, (high, low) in enumerate(bounds) if low <= sigma <= high] == [i]


def test_refusals(case):
    model, _, path = case
    with pytest.raises(ValueError, match="cfg must be above 1"):
        optimise_null_text(model, path, model.empty, 1.0)
    with pytest.raises(ValueError, match="not flow models"):
        optimise_null_text(model, replace(path, noising="flow"), model.empty, 3.0)
    with pytest.raises(ValueError, match="invert with the fixed point"):
        optimise_null_text(model, replace(path, exact=ExactMethod("edict", 0.93)), model.empty, 3.0)
    with pytest.raises(ValueError, match="embedding must be"):
        optimise_null_text(model, path, model.empty.expand(3, -1, -1), 3.0)
    with pytest.raises(ValueError, match="lr above 0"):
        optimise_null_text(model, path, model.empty, 3.0, NullTextSettings(lr=0.0))
    with pytest.raises(ValueError, match="connect the same MODEL"):
        optimise_null_text(model, replace(path, fingerprint="another"), model.empty, 3.0)


@pytest.mark.parametrize("mode", MODES)
def test_proximal_is_the_minimiser_that_names_it(mode):
    """hard: argmin |z - d|^2 / 2 + t^2/2 |z|_0; soft: argmin |z - d|^2 / 2 + t |z|_1, by brute force at each entry."""
    d = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    found, large = proximal(d, 0.6, mode)
    grid = torch.linspace(-4, 4, 40001, dtype=torch.float64)
    for row, got in zip(d, found, strict=True):
        t = float(torch.quantile(row.abs().flatten().float(), 0.6))
        for value, z in zip(row.flatten(), got.flatten(), strict=True):
            near = (grid - value).square() / 2
            near += t * grid.abs() if mode == "soft" else t * t / 2 * (grid.abs() > 1e-9)
            best = grid[near.argmin()]
            assert abs(float(best - z)) < 3e-4
    assert abs(float(large.double().mean()) - 0.4) < 0.03 and bool(((found != 0) <= large).all())


def test_proximal_at_the_ends_and_alone():
    d = torch.randn(3, 4, 6, 5)
    assert proximal(d, 0.0)[0] is d and bool(proximal(d, 0.0)[1].all())
    assert not proximal(d, 1.0)[0].any()
    assert torch.equal(proximal(3 * d, 0.7)[1], proximal(d, 0.7)[1])
    assert torch.equal(proximal(d, 0.7, "soft")[0][1:2], proximal(d[1:2], 0.7, "soft")[0])
    for options in ({"quantile": 1.5}, {"quantile": 0.5, "mode": "l2"}):
        with pytest.raises(ValueError, match="must"):
            proximal(d, **options)


def released_prox(delta, prox, quantile):
    """The released code's lines: proximal_guidance_diffusion_step, both names."""
    threshold = delta.abs().quantile(quantile)
    delta = delta - delta.clamp(-threshold, threshold)
    if prox == "l1":
        delta = torch.where(delta > 0, delta - threshold, delta)
        delta = torch.where(delta < 0, delta + threshold, delta)
    return delta, delta.abs() > threshold


def test_modes_of_proximal_guidance_and_the_names_of_paper_and_code():
    """The figures of the help page: soft is the code's "l0"; hard, the paper's l0, is another; what the code calls "l1"
    is neither."""
    g = torch.Generator().manual_seed(0)
    d = torch.randn(1, 4, 64, 64, generator=g, dtype=torch.float64)
    hard, soft = (proximal(d, 0.7, mode)[0] for mode in MODES)
    code, certain = released_prox(d, "l0", 0.7)
    assert float((soft - code).abs().max()) < 1e-6  # the threshold is taken in float32
    for old, new in (("l0", hard), ("l1", soft)):
        assert torch.equal(proximal(d, 0.7, old)[0], new) and OLD_NAMES[old] in MODES
    apart = float((hard - code).norm() / hard.norm())
    cosine = float(torch.cosine_similarity(hard.flatten(), code.flatten(), 0))
    assert abs(apart - 0.64) < 0.01 and abs(cosine - 0.91) < 0.01, (apart, cosine)
    twice, _ = released_prox(d, "l1", 0.7)
    assert float((twice * d < 0).double().mean()) > 0.1  # signs turned
    assert (
        abs(float(proximal(d, 0.7, "soft")[1].double().mean()) - 0.30) < 0.01
        and abs(float(certain.double().mean()) - 0.038) < 0.005
    )
    # The threshold is each row's own, the code's that of the whole batch: a source row with small differences lowers
    # it.
    rows = torch.cat([0.1 * d, d])
    assert torch.equal(proximal(rows, 0.7, "soft")[0][1:], soft)
    assert float((released_prox(rows, "l0", 0.7)[0][1:] - soft).norm() / soft.norm()) > 0.3


def test_inversion_guidance_moves_the_next_state_as_the_paper_says(case):
    model, _, path = case
    i, s = 4, path.sigmas.tolist()
    x, large = path.states[i] + 0.3, torch.zeros(2, 3, 6, 4, dtype=torch.bool)
    large[:, :, 2, 1] = True
    denoised = model(x, x.new_full((2,), s[i]))
    step = lambda d, nxt: d + nxt / s[i] * (x - d)  # noqa: E731
    for nxt, target in ((s[i + 1], path.states[i + 1]), (0.0, path.x0)):
        plain, moved = step(denoised, nxt), step(towards(denoised, x, s[i], nxt, path, large, 0.7, 1), nxt)
        mask = torch.zeros(2, 3, 6, 4, dtype=torch.float64)
        mask[:, :, 1:4, 0:3] = 1
        assert torch.allclose(moved, plain - 0.7 * (1 - mask) * (plain - target), atol=1e-12)
    assert torch.equal(towards(denoised, x, s[i], s[i + 1], path, ~large | large, 1.0, 0), denoised)
    with pytest.raises(ValueError, match="same size"):
        towards(denoised[..., :2], x[..., :2], s[i], s[i + 1], path, large[..., :2], 1.0, 0)


def test_states_between_the_grid(case):
    _, _, path = case
    s = path.sigmas.tolist()
    assert torch.equal(path.at(s[3]), path.states[3]) and torch.equal(path.at(0.0), path.x0)
    assert torch.equal(path.at(99.0), path.states[0])
    assert torch.allclose(path.at((s[3] + s[4]) / 2), (path.states[3] + path.states[4]) / 2)
