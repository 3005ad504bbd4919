"""What the dials of sampling back do for every kind of edit, and where in the noise they act."""

import math
from dataclasses import replace

import pytest
import torch

from core.directions import Directions
from core.edit.directions.state import edit_state
from core.edit.directions.steer import SteerOptions, noise_shares, steer_trajectory
from core.edit_schedule import EditSchedule
from core.invert.ddim import invert_ddim
from core.sample import reconstruct
from core.schedule import Schedule, grid_sigmas

from .test_steer import edit


@pytest.fixture(scope="module")
def model(small):
    return small


@pytest.fixture(scope="module")
def path(model, device):
    torch.manual_seed(2)
    return reconstruct(
        model, invert_ddim(model, (torch.rand(2, 3, 16, 16) * 2 - 1).to(device), grid_sigmas(Schedule(), 8, t0=500))
    )


def counted(model, path, **options) -> list[int]:
    """Steps that draw noise: where two seeds part, and where they go on apart with noise of their own."""
    sizes = []
    for seed in (0, 1):
        drawn: list[torch.Tensor] = []
        steer_trajectory(
            model,
            path,
            [edit(model, 1e-6)],
            SteerOptions(seed=seed, **options),
            callback=lambda d, drawn=drawn: drawn.append(d["x"]),
        )
        sizes.append(drawn)
    first = next((i for i, (a, b) in enumerate(zip(*sizes, strict=True)) if not torch.equal(a, b)), len(sizes[0]))
    return list(range(first, len(sizes[0]) - 1))


@pytest.mark.parametrize("i", [0, 2, 5])
def test_boost_at_a_level_of_the_grid_begins_in_the_step_below_it(model, path, i):
    """The released rule is t < t_addnoise. Levels travel through float widgets of three digits."""
    level = float(path.sigmas[i])
    for boost in (level, round(level, 3), float(torch.tensor(level, dtype=torch.float32))):
        assert counted(model, path, boost=boost)[0] == i + 1
    assert counted(model, path, boost=level * 1.01)[0] == i
    assert counted(model, path, boost=0.0) == []


def test_shares_of_noise_are_those_of_the_rule():
    sigmas = [4.0, 2.0, 1.0, 0.5, 0.0]
    assert noise_shares(sigmas, [False, True, True, False], 0.3) == [0.0, 0.3, 0.3, 0.0]
    assert noise_shares(sigmas, [True] * 4, 0.3, 2.0) == [0.3, 0.3, 1.0, 1.0]
    assert noise_shares(sigmas, [False] * 4, 0.3, 2.0) == [0.0] * 4
    with pytest.raises(ValueError, match="boost"):
        noise_shares(sigmas, [True] * 4, 0.0, float("nan"))


class Brighter:
    """A model that is edited itself, within a window."""

    def __init__(self, model, start=math.inf):
        self.model, self.start, self.fingerprint, self.layers = model, start, model.fingerprint, model.layers
        self.noising = model.noising

    def acts(self, sigma: float) -> bool:
        return sigma <= self.start

    def __call__(self, x, sigma):
        return self.model(x, sigma) + (0.2 if self.acts(float(sigma.max())) else 0.0)


def test_protection_and_noise_act_for_a_model_that_is_edited_itself(model, path):
    mask = torch.zeros(16, 16)
    mask[4:8, 4:8] = 1
    whole = Brighter(model)
    acts = whole.acts
    held = steer_trajectory(whole, path, [], SteerOptions(protect=1.0, mask=mask, dilate=0), edited=acts)
    assert (
        torch.equal(held[..., mask == 0], path.x0[..., mask == 0])
        and float((held - path.x0)[..., 4:8, 4:8].mean()) > 0.05
    )
    plain = steer_trajectory(whole, path, [], edited=acts)
    for dial in ({"eta": 0.5}, {"boost": 1.0}):
        one, same, other = (
            steer_trajectory(whole, path, [], SteerOptions(seed=s, **dial), edited=acts) for s in (3, 3, 4)
        )
        assert torch.equal(one, same) and not torch.equal(one, other) and not torch.equal(one, plain)
    # Nobody has said that it is edited: to this loop it is a model like any other.
    assert torch.equal(steer_trajectory(whole, path, [], SteerOptions(eta=0.5, boost=1.0)), plain)


def test_eta_keeps_to_the_window_of_a_model_edit(model, path):
    late = Brighter(model, start=1.0)
    states: dict[float, list] = {0.0: [], 0.5: []}
    for eta, kept in states.items():
        steer_trajectory(
            late,
            path,
            [],
            SteerOptions(eta=eta),
            edited=late.acts,
            callback=lambda d, kept=kept: kept.append((d["sigma"], d["x"])),
        )
    for (sigma, x), (_, y) in zip(*states.values(), strict=True):
        assert torch.equal(x, y) == (sigma > 1.0)


def test_a_moved_trajectory_is_an_edit_in_every_step(model, path):
    v = torch.randn(1, 1, *path.x0.shape[1:], generator=torch.Generator().manual_seed(5))
    along = Directions(v / v.norm(), path.sigmas[:1], torch.ones(1, 1), torch.ones(1, 1), "x", model.fingerprint)
    moved, still = (edit_state(model, path, along, strength) for strength in (9.0, 0.0))
    assert moved.moved and not still.moved and moved.image(0).moved
    mask = torch.zeros(16, 16)
    mask[4:8, 4:8] = 1
    held = steer_trajectory(model, moved, [], SteerOptions(protect=1.0, mask=mask, dilate=0))
    assert torch.equal(held[..., mask == 0], path.x0[..., mask == 0])
    plain = steer_trajectory(model, moved, [])
    for dial in ({"eta": 0.5}, {"boost": 1.0}):
        one, same, other = (steer_trajectory(model, moved, [], SteerOptions(seed=s, **dial)) for s in (3, 3, 4))
        assert torch.equal(one, same) and not torch.equal(one, other) and not torch.equal(one, plain)
        assert torch.equal(steer_trajectory(model, still, [], SteerOptions(**dial)), path.reconstruction)


def test_a_window_is_held_against_the_levels_of_a_run():
    grid, edit = [4.0, 2.0, 1.0, 0.0], EditSchedule(1.0, sigma_start=8.0, sigma_end=5.0)
    for window, sigmas, earlier, fine in (
        (edit, grid, False, False),
        (edit, grid, True, True),
        (replace(edit, strength=0.0), grid, False, True),
        (EditSchedule(1.0, 1.9, 1.1), grid, True, False),
        (EditSchedule(1.0, 0.5, 0.1), grid, False, False),
        (EditSchedule(1.0, 0.5, 0.1), [4.0, 2.0, 1.0], False, True),
        (EditSchedule(1.0, 2.0, 2.0), grid, False, True),
    ):
        if fine:
            window.check_levels(sigmas, earlier)
            continue
        with pytest.raises(ValueError, match="none of them in that window") as error:
            window.check_levels(sigmas, earlier)
        assert all(f"{number:g}" in str(error.value) for number in (window.sigma_start, window.sigma_end, *sigmas[:-1]))
