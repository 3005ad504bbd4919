"""Steering: nothing at strength 0, the right size otherwise, every option against its own definition."""

import math
from dataclasses import replace

import pytest
import torch

from core.directions import Directions
from core.edit.anchor import drift
from core.edit.directions.combine import combine, select
from core.edit.directions.steer import (
    Edit,
    Steered,
    SteerOptions,
    asymmetric_factor,
    h_shift,
    in_window,
    steer_trajectory,
)
from core.edit.protect import blend_weight
from core.edit_schedule import EditSchedule
from core.invert.ddim import invert_ddim
from core.invert.fixed_point import FixedPointOptions, invert_fixed_point
from core.masks import fit_mask
from core.sample import reconstruct, sample_ddim
from core.schedule import Schedule, grid_sigmas


@pytest.fixture(scope="module")
def model(small):
    return small


@pytest.fixture(scope="module")
def sigmas():
    return grid_sigmas(Schedule(), 8, t0=500)


@pytest.fixture(scope="module")
def path(model, sigmas, device):
    torch.manual_seed(2)
    return reconstruct(model, invert_ddim(model, (torch.rand(2, 3, 16, 16) * 2 - 1).to(device), sigmas))


def found(model, k=1, t=1, *, layer="middle", seed=0, size=(16, 16)) -> Directions:
    x = torch.zeros(1, 3, *size, device=next(model.net.parameters()).device)
    shape = model.split(x, x.new_ones(1), layer).h.shape[1:]
    v = torch.randn(t, k, *shape, generator=torch.Generator().manual_seed(seed))
    v = v / v.flatten(2).norm(dim=2)[:, :, None, None, None]
    return Directions(
        v,
        torch.logspace(0.4, -0.4, t, dtype=torch.float64),
        torch.rand(t, k),
        torch.rand(t, k),
        layer,
        model.fingerprint,
    )


def edit(model, strength=8.0, weights=(), **schedule) -> Edit:
    return Edit(found(model), EditSchedule(strength, **schedule), weights)


OFF = [{}, {"asymmetric": True}, {"eta": 0.7}, {"lagged": True}, {"protect": 1.0, "mask": torch.ones(16, 16) / 2}]


@pytest.mark.parametrize("options", OFF)
def test_strength_zero_is_the_reconstruction_bit_for_bit(model, path, options):
    for edits in ([], [edit(model, 0.0)], [Edit(found(model, 2), EditSchedule(9.0), (0.0, 0.0))]):
        assert torch.equal(steer_trajectory(model, path, edits, SteerOptions(**options)), path.reconstruction)


def test_steered_is_exactly_the_model_where_nothing_acts(model, path):
    x, rows = path.states[2], path.states.new_full((2,), float(path.sigmas[2]))
    assert torch.equal(Steered(model, [edit(model, 0.0)])(x, rows), model(x, rows))
    below = edit(model, 9.0, sigma_start=float(rows[0]) * 0.99)
    assert torch.equal(Steered(model, [below])(x, rows), model(x, rows))
    assert torch.equal(Steered(model, [below]).split(x, rows).h, model.split(x, rows).h)
    assert not torch.equal(Steered(model, [edit(model)])(x, rows), model(x, rows))


def test_the_render_loop_is_sampling_with_the_steered_model(model, path):
    edits = [edit(model, 6.0, sigma_start=3.0, sigma_end=0.2), Edit(found(model, seed=4), EditSchedule(-3.0))]
    looped = steer_trajectory(model, path, edits)
    sampled = sample_ddim(Steered(model, edits), path.noisiest, path.sigmas)
    assert torch.allclose(looped, sampled, atol=1e-6) and float((looped - path.reconstruction).abs().mean()) > 1e-3


def test_steered_rows_may_be_at_different_noise_levels(model, path):
    one = edit(model, 8.0, sigma_start=1.0)
    x, rows = path.states[3], path.states.new_tensor([2.0, 0.5])
    mixed = Steered(model, [one])(x, rows)
    assert torch.allclose(mixed[:1], model(x[:1], rows[:1]), atol=1e-5)
    assert torch.allclose(mixed[1:], Steered(model, [one])(x[1:], rows[1:]), atol=1e-5)


def test_edits_add_up_and_scale(model):
    d, h = found(model, 3), torch.zeros(2, 64, 8, 8)
    single = [Edit(d.select([i]), EditSchedule(a)) for i, a in enumerate((2.0, -1.0, 0.5))]
    together = Edit(d, EditSchedule(0.5), (4.0, -2.0, 1.0))
    assert torch.allclose(h_shift(single, 1.0, h), h_shift([together], 1.0, h), atol=1e-6)
    assert math.isclose(float(h_shift(single[:1], 1.0, h).norm()), 2.0, rel_tol=1e-5)
    assert h_shift([], 1.0, h) is None and h_shift([Edit(d.select([0]), EditSchedule(0.0))], 1.0, h) is None


def test_normalisations(model):
    d, h = found(model), torch.randn(2, 64, 8, 8)
    shift = {n: h_shift([Edit(d, EditSchedule(10.0, normalise=n))], 2.0, h) for n in ("none", "h", "sigma")}
    assert math.isclose(float(shift["none"].norm()), 10.0, rel_tol=1e-5)
    assert torch.allclose(shift["h"].flatten(1).norm(dim=1), 0.1 * h.flatten(1).norm(dim=1), rtol=1e-5)
    assert math.isclose(float(shift["sigma"].norm()), 10 * 2 / math.sqrt(5), rel_tol=1e-5)


def test_directions_a_step_are_taken_at_their_own_level(model):
    d, h = found(model, t=5), torch.zeros(1, 64, 8, 8)
    for i, s in enumerate(d.sigmas.tolist()):
        assert torch.allclose(h_shift([Edit(d, EditSchedule(1.0))], s * 1.02, h)[0], d.vectors[i, 0])


def test_window_ends_are_included_in_float32_too():
    w = EditSchedule(1.0, sigma_start=3.4, sigma_end=0.2)
    for s in (3.4, 0.2):
        assert w.covers(s) and w.covers(float(torch.tensor(s, dtype=torch.float32)))
    assert not w.covers(3.41) and not w.covers(0.199)


def test_asymmetric_and_symmetric_edits_have_about_the_same_size(model, path):
    for seed in range(3):
        e = Edit(found(model, seed=seed), EditSchedule(6.0))
        sizes = [
            float((steer_trajectory(model, path, [e], SteerOptions(asymmetric=a)) - path.reconstruction).norm())
            for a in (False, True)
        ]
        assert 0.5 < sizes[1] / sizes[0] < 2, sizes


def test_asymmetric_factor_is_the_mean_of_the_symmetric_effects(model):
    sigmas = torch.tensor([8.0, 4.0, 1.0, 0.5, 0.0], dtype=torch.float64)
    assert math.isclose(asymmetric_factor([edit(model)], sigmas), (0.5 + 0.75 + 0.5 + 1) / 4)
    assert math.isclose(asymmetric_factor([edit(model, sigma_start=4.5, sigma_end=0.9)], sigmas), (0.75 + 0.5) / 2)
    assert asymmetric_factor([edit(model, 0.0)], sigmas) == 1.0 and not in_window([edit(model, 0.0)], 1.0)


def test_asymmetric_is_the_papers_update(model, path):
    """Kwon et al. 2023, eq. 5 in variance-preserving variables, one step of the grid."""
    one_step = replace(
        path, sigmas=torch.tensor([2.0, 0.0], dtype=torch.float64), states=path.states[[1, -1]], reconstruction=None
    )
    two_steps = replace(
        path,
        sigmas=torch.tensor([2.0, 1.0, 0.0], dtype=torch.float64),
        states=path.states[[1, 3, -1]],
        reconstruction=None,
    )
    e = edit(model, 6.0, sigma_end=1.5)
    x, rows = two_steps.noisiest, path.states.new_full((2,), 2.0)
    at, s = 1 / 5, 1 / 2
    b = model.split(x, rows)
    shift = asymmetric_factor([e], two_steps.sigmas) * h_shift([e], 2.0, b.h)
    noise = (x - b.decode(b.h)) / 2.0
    edited_noise = (x - b.decode(b.h + shift)) / 2.0
    predicted = (x * math.sqrt(at) - math.sqrt(1 - at) * edited_noise) / math.sqrt(at)
    expected = (math.sqrt(s) * predicted + math.sqrt(1 - s) * noise) / math.sqrt(s)
    seen = []
    steer_trajectory(model, two_steps, [e], SteerOptions(asymmetric=True), callback=lambda d: seen.append(d["x"]))
    assert torch.allclose(seen[0], expected, atol=1e-4)
    last = steer_trajectory(model, one_step, [edit(model, 6.0)], SteerOptions(asymmetric=True))
    assert torch.allclose(
        last, steer_trajectory(model, one_step, [edit(model, 6.0)]), atol=1e-5
    )  # at sigma' = 0 both are the prediction


def test_lagged_replacement_is_the_released_codes_recurrence(model, path):
    """Its loop written out: h of the step before plus the direction, into the decoder of this step; h kept for the
    next."""
    e = edit(model, 5.0)
    s = path.sigmas.tolist()
    x, lag = path.noisiest, model.split(path.states[1], path.states.new_full((2,), s[1])).h
    for i in range(len(s) - 1):
        b = model.split(x, x.new_full((2,), s[i]))
        denoised = b.decode(lag + 5.0 * e.directions.vectors[0].to(x))
        x = x + (s[i + 1] - s[i]) * (x - denoised) / s[i]
        lag = b.h
    assert torch.allclose(steer_trajectory(model, path, [e], SteerOptions(lagged=True)), x, atol=1e-4)


def test_eta_is_seeded_and_confined_to_the_window(model, path):
    e = edit(model, 4.0, sigma_start=1.0)
    a, b, c = (steer_trajectory(model, path, [e], SteerOptions(eta=0.5, seed=s)) for s in (3, 3, 4))
    assert torch.equal(a, b) and not torch.equal(a, c)
    states: dict[float, list] = {0.0: [], 0.5: []}
    for eta, kept in states.items():
        steer_trajectory(
            model, path, [e], SteerOptions(eta=eta), callback=lambda d, kept=kept: kept.append((d["sigma"], d["x"]))
        )
    for (sigma, x), (_, y) in zip(*states.values(), strict=True):
        assert torch.equal(x, y) == (sigma > 1.0)


def test_protection_holds_everything_outside_the_mask(model, path):
    mask = torch.zeros(32, 32)
    mask[8:16, 8:16] = 1  # 4..8 in the picture's pixels
    e = edit(model, 8.0)
    held = steer_trajectory(model, path, [e], SteerOptions(protect=1.0, mask=mask, dilate=1))
    outside = torch.ones(16, 16, dtype=torch.bool)
    outside[3:9, 3:9] = False
    assert torch.equal(held[..., outside], path.x0[..., outside])
    assert float((held - path.x0)[..., 4:8, 4:8].abs().mean()) > 1e-3
    free, half = (steer_trajectory(model, path, [e], SteerOptions(protect=p, mask=mask)) for p in (0.0, 0.5))
    change = [float((y - path.x0)[..., outside].abs().mean()) for y in (held, half, free)]
    assert change[0] < change[1] < change[2]


def test_masks_are_fitted_to_the_states():
    m = fit_mask(torch.tensor([[1.0, 0.0], [0.0, 0.0]]), 8, 8)
    assert (
        m.shape == (8, 8) and m[0, 0] == 1 and m[-1, -1] == 0 and fit_mask(torch.rand(64, 48), 16, 12).shape == (16, 12)
    )
    assert float(blend_weight(torch.ones(4, 4), torch.zeros(1, 3, 8, 8), 1.0).max()) == 0
    for bad, said in (
        (torch.full((4, 4), 2.0), "0..1"),
        (torch.full((4, 4), float("nan")), "0..1"),
        (torch.zeros(1, 4, 4), "one picture"),
    ):
        with pytest.raises(ValueError, match=said):
            fit_mask(bad, 8, 8)


def test_the_anchor_takes_the_inversions_error_out(model, path):
    offsets = drift(model, path)
    assert float((path.reconstruction - path.x0).abs().max()) > 1e-3  # plain DDIM at 8 steps is not exact
    assert torch.allclose(steer_trajectory(model, path, [], anchor=offsets), path.x0, atol=1e-4)
    assert float((steer_trajectory(model, path, [edit(model)], anchor=offsets) - path.x0).abs().mean()) > 1e-3


def test_start_at_the_window_saves_calls_and_agrees_on_a_consistent_trajectory(model, sigmas, path):
    exact = invert_fixed_point(model, path.x0, sigmas, iterations=30, options=FixedPointOptions(tol=1e-6))
    e = edit(model, 8.0, sigma_start=float(sigmas[4]))
    calls: list[list[dict]] = [[], []]
    pictures = [
        steer_trajectory(model, exact, [e], SteerOptions(start=s), callback=c.append)
        for s, c in zip(("top", "window"), calls, strict=True)
    ]
    assert torch.allclose(*pictures, atol=2e-3) and len(calls[0]) == 8 and len(calls[1]) == 4


def test_finer_layers_and_sequential_windows(model, path):
    fine = Edit(found(model, layer="up.1"), EditSchedule(8.0, sigma_start=0.9))
    coarse = edit(model, 8.0, sigma_end=1.0)
    both = steer_trajectory(model, path, [coarse, fine])
    assert not torch.equal(both, steer_trajectory(model, path, [coarse])) and not torch.equal(
        both, steer_trajectory(model, path, [fine])
    )
    with pytest.raises(ValueError, match="share a layer"):
        steer_trajectory(model, path, [edit(model), fine])
    x, rows = path.states[-2], path.states.new_full((2,), 0.1)
    with pytest.raises(ValueError, match="split there only"):
        Steered(model, [fine]).split(x, rows, "middle")


def test_non_square_pictures(model, sigmas, device):
    wide = invert_ddim(model, torch.zeros(1, 3, 16, 32, device=device), sigmas)
    e = Edit(found(model, size=(16, 32)), EditSchedule(5.0))
    assert steer_trajectory(model, wide, [e]).shape == (1, 3, 16, 32)
    with pytest.raises(ValueError, match="size at which they were found"):
        steer_trajectory(model, wide, [edit(model)])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"eta": 2.0}, "eta"),
        ({"protect": 0.5}, "mask"),
        ({"protect": -1.0, "mask": torch.ones(16, 16)}, "protect"),
        ({"start": "middle"}, "start"),
    ],
)
def test_bad_options_are_refused(model, path, options, said):
    with pytest.raises(ValueError, match=said):
        steer_trajectory(model, path, [edit(model)], SteerOptions(**options))


def test_other_refusals(model, path):
    with pytest.raises(ValueError, match="none of them in that window"):
        steer_trajectory(model, path, [edit(model, sigma_start=1e-4)])
    with pytest.raises(ValueError, match="the same MODEL"):
        steer_trajectory(model, replace(path, fingerprint="abcdef123456"), [])
    other = replace(found(model), fingerprint="abcdef123456")
    with pytest.raises(ValueError, match="found on model abcdef123456"):
        Steered(model, [Edit(other, EditSchedule(1.0))])
    for bad in (
        {"strength": float("nan")},
        {"strength": 1.0, "sigma_start": 0.1, "sigma_end": 1.0},
        {"strength": 1.0, "normalise": "l2"},
    ):
        with pytest.raises(ValueError):
            EditSchedule(**bad)
    with pytest.raises(ValueError, match="needs 2 weights"):
        Edit(found(model, 2), EditSchedule(1.0))


def test_select_and_combine(model):
    d = replace(found(model, 3), labels=("a", "b", "c"))
    turned = select(d, 1, flip=True, label="smile")
    assert torch.equal(turned.vectors, -d.vectors[:, 1:2]) and turned.labels == ("smile",)
    assert select(d, 1, 2, label="x").labels == ("x 1", "x 2") and select(d, 0, 2).labels == ("a", "b")
    with pytest.raises(ValueError, match="between 1 and 3"):
        select(d, 2, 2)
    other = found(model, 2, seed=9)
    joined = combine([d, other])
    assert len(joined) == 5 and joined.labels == ("a", "b", "c", "#4", "#5")
    assert torch.equal(joined.vectors, torch.cat([d.vectors, other.vectors], 1))
    added = combine([d, other], "add", [1.0, -2.0])
    expected = d.vectors[0, 0] - 2 * other.vectors[0, 0]
    assert torch.allclose(added.vectors[0, 0], expected / expected.norm(), atol=1e-6) and len(added) == 1
    per_step = combine([found(model, t=4), d])
    assert per_step.vectors.shape[:2] == (4, 4) and per_step.gain.shape == (4, 4)
    with pytest.raises(ValueError, match="cancel"):
        combine([d, d], "add", [1.0, -1.0])
    with pytest.raises(ValueError, match="found on model"):
        combine([d, replace(other, fingerprint="abcdef123456")])
    with pytest.raises(ValueError, match="weights"):
        combine([d, d], "add", [1.0])
    with pytest.raises(ValueError, match="how"):
        combine([d, d], "multiply")
