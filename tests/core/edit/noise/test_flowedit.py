"""FlowEdit between prompts whose denoisers are known exactly: how far it moves, its dial, regions, batches, refusals."""

from itertools import pairwise

import pytest
import torch

from core.edit.noise.flowedit import FlowEditOptions, Prompted, edit_by_difference, first_step, noised_as
from core.noise import fresh_noise

SPREAD = 0.5
LEVELS = {
    "flow": torch.linspace(1, 0, 29, dtype=torch.float64),
    "sigma": torch.cat([torch.exp(torch.linspace(2.5, -3.5, 28, dtype=torch.float64)), torch.zeros(1).double()]),
}


def gaussian(mean, noising):
    """The exact denoiser of pictures around ``mean`` with one spread."""

    def ask(x, sigma):
        scale = 1 - sigma if noising == "flow" else 1.0
        variance = (scale * SPREAD) ** 2 + sigma**2
        return mean + scale * SPREAD**2 / variance * (x - scale * mean)

    return ask


def curved(sign):
    """A denoiser that is no straight line of its state."""
    return lambda x, sigma: torch.tanh(x * (1 + 0.3 * sign) + 0.4 * sign) / (1 + sigma)


def world(noising, device, copies=1):
    """Pictures `[64 4 1 1]`, and prompts one unit apart in the first channel."""
    g = torch.Generator().manual_seed(0)
    mean = torch.randn(1, 4, 1, 1, generator=g, dtype=torch.float64) * 1.5
    x = (mean + SPREAD * torch.randn(64, 4, 1, 1, generator=g, dtype=torch.float64)).to(device)
    mean = mean.to(device)
    apart = torch.zeros_like(mean)
    apart[:, 0] = 1
    return x, Prompted(gaussian(mean, noising), gaussian(mean + apart, noising), noised_as(noising), copies)


@pytest.mark.parametrize(
    ("noising", "skip", "expected"),
    [
        ("flow", 0, 1.0),
        ("flow", 4, 0.9212),
        ("flow", 14, 0.5722),
        ("sigma", 0, 0.9613),
        ("sigma", 4, 0.9061),
        ("sigma", 14, 0.3436),
    ],
)
@pytest.mark.parametrize("strength", [0.5, 1.0, 1.5])
def test_pictures_move_from_one_gaussian_to_the_other(noising, skip, expected, strength, device):
    x, model = world(noising, device)
    move = edit_by_difference(model, x, LEVELS[noising][skip:], FlowEditOptions(strength, seed=3)) - x
    assert abs(float(move[:, 0].mean()) - strength * expected) < 6e-5 * max(strength, 1)
    assert float(move.std(0).max()) < 1e-12  # whatever the noise
    assert float(move[:, 1:].abs().max()) < 1e-12


def test_strength_0_is_the_source_bit_for_bit_and_asks_nothing(device):
    def never(x, sigma):
        raise AssertionError("asked")

    x = torch.randn(2, 3, 8, 8, device=device)
    model = Prompted(never, never, noised_as("flow"), copies=2)
    options = FlowEditOptions(0.0, refine=3)
    assert torch.equal(edit_by_difference(model, x, LEVELS["flow"], options), x.repeat_interleave(2, 0))


@pytest.mark.parametrize("refine", [0, 5, 28])
@pytest.mark.parametrize("noising", ["flow", "sigma"])
def test_the_dial_is_plain_flowedit_at_1_and_grows_with_strength(noising, refine, device):
    x = torch.randn(2, 3, 8, 8, device=device, dtype=torch.float64)
    model = Prompted(curved(-1), curved(1), noised_as(noising))

    def at(strength):
        return edit_by_difference(model, x, LEVELS[noising], FlowEditOptions(strength, refine=refine))

    plain, near = at(1.0), at(1.0 + 1e-9)
    assert float((plain - near).abs().max()) < 1e-6
    moved = [float((at(s) - x).mean()) for s in (0.25, 0.5, 1.0, 1.5)]
    assert moved == sorted(moved)


def test_the_paper_in_velocities(device):
    """Algorithm 1 as it stands there, with refining steps: V averaged over draws, Euler on Z."""
    levels = LEVELS["flow"][4:]
    x = torch.randn(1, 3, 8, 8, device=device, dtype=torch.float64)
    source, target = curved(-1), curved(1)
    g, z = torch.Generator().manual_seed(7), x.clone()
    grid = levels.tolist()
    for a, b in list(pairwise(grid))[:-3]:
        v = torch.zeros_like(x)
        for _ in range(2):
            zs = (1 - a) * x + a * fresh_noise(x, g)
            zt = z + zs - x
            v = v + ((zt - target(zt, a)) / a - (zs - source(zs, a)) / a) / 2
        z = z + (b - a) * v
    z = (1 - grid[-4]) * x + grid[-4] * fresh_noise(x, g) + z - x
    for a, b in list(pairwise(grid))[-3:]:
        z = z + (b - a) * (z - target(z, a)) / a
    model = Prompted(source, target, noised_as("flow"))
    found = edit_by_difference(model, x, levels, FlowEditOptions(refine=3, average=2, seed=7))
    assert float((found - z).abs().max()) < 1e-12


@pytest.mark.parametrize("strength", [1.0, 0.6])
def test_a_picture_and_a_target_do_not_depend_on_the_others(strength, device):
    x = torch.randn(3, 3, 8, 8, device=device, dtype=torch.float64)
    options = FlowEditOptions(strength, refine=2, average=2, seed=5)

    def three(z, sigma):  # targets of a picture side by side
        offset = torch.tensor([0.2, 0.4, 0.8], device=device).repeat(len(z) // 3)[:, None, None, None]
        return torch.tanh(z + offset)

    many = Prompted(curved(-1), three, noised_as("flow"), copies=3)
    found = edit_by_difference(many, x, LEVELS["flow"], options)
    alone = Prompted(curved(-1), lambda z, sigma: torch.tanh(z + 0.4), noised_as("flow"))
    one = edit_by_difference(alone, x[1:2], LEVELS["flow"], options)
    assert float((found[4:5] - one).abs().max()) < 1e-7
    assert float((found[3] - found[4]).abs().max()) > 1e-2


@pytest.mark.parametrize("refine", [0, 4])
def test_outside_of_a_region_the_source_stays_bit_for_bit(refine, device):
    x = torch.randn(2, 3, 8, 8, device=device)
    area = (torch.arange(8, device=device) < 4).float().expand(2, 1, 8, 8)
    model = Prompted(curved(-1), curved(1), noised_as("flow"))
    run = {"region": lambda level: area, "callback": (seen := []).append}
    found = edit_by_difference(model, x, LEVELS["flow"], FlowEditOptions(refine=refine), **run)
    assert torch.equal(found[..., 4:], x[..., 4:])
    assert float((found - x)[..., :4].abs().mean()) > 0.1
    assert [event["i"] for event in seen] == list(range(28)) and torch.equal(seen[-1]["denoised"], found)


def test_pictures_with_a_frame_axis(device):
    x = torch.randn(1, 3, 1, 8, 8, device=device)
    model = Prompted(curved(-1), curved(1), noised_as("flow"))
    found = edit_by_difference(model, x, LEVELS["flow"])
    assert torch.equal(found, edit_by_difference(model, x.squeeze(2), LEVELS["flow"]).unsqueeze(2))


def test_where_an_edit_begins():
    levels = LEVELS["flow"]
    assert first_step(levels) == 4 and first_step(levels[:21]) == 3
    assert first_step(levels, float(levels[6])) == 6 and first_step(levels, 1000.0) == 0
    assert first_step(levels, float(levels[-2])) == 27
    with pytest.raises(ValueError, match=r"sigma_start is 0\.01, but the last of the 28 steps begins at 0\.0357"):
        first_step(levels, 0.01)


@pytest.mark.parametrize(
    ("options", "says"),
    [({"strength": -1.0}, "strength"), ({"average": 0}, "average"), ({"refine": -1}, "refine")],
)
def test_bad_options(options, says):
    with pytest.raises(ValueError, match=says):
        FlowEditOptions(**options)


def test_more_refining_steps_than_there_are(device):
    x, model = world("flow", device)
    with pytest.raises(ValueError, match="refine is 29, but the run has 28 steps"):
        edit_by_difference(model, x, LEVELS["flow"], FlowEditOptions(refine=29))
