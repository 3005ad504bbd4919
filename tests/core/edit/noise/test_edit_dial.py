"""The Edit Dial against VeloEdit's velocities, its ends, what decides, and frames."""

import pytest
import torch

from core.edit.noise.edit_dial import DECIDED_PER, dial_edit, flow_state, keep_share


def pictures(device, *shape):
    g = torch.Generator().manual_seed(1)
    draw = lambda: torch.randn(*shape, generator=g, dtype=torch.float64).to(device)  # noqa: E731
    source = draw()
    return source + 0.3 * draw() ** 3, draw(), source


def test_the_paper_in_velocities(device):
    denoised, x, source = pictures(device, 2, 4, 8, 8)
    sigma, mixed, threshold = 0.6, 0.4, 0.8
    v, back = (x - denoised) / sigma, (x - source) / sigma
    similar = back.abs() / (back.abs() + (v - back).abs())
    expected = x - sigma * torch.where(similar >= threshold, back, mixed * back + (1 - mixed) * v)
    found, kept = dial_edit(denoised, x, source, 1 - mixed, keep_share(threshold))
    assert torch.equal(kept, similar >= threshold) and 0.2 < float(kept.double().mean()) < 0.8
    assert float((found - expected).abs().max()) < 1e-12


def test_with_nothing_kept_it_is_the_controlled_guidance_of_rf_inversion(device):
    denoised, x, source = pictures(device, 2, 4, 8, 8)
    sigma, eta = 0.7, 0.9
    u = (x - denoised) / sigma
    guided = u + eta * ((x - source) / sigma - u)
    found, _ = dial_edit(denoised, x, source, 1 - eta, 0.0)
    assert float(((x - found) / sigma - guided).abs().max()) < 1e-12


def test_the_same_is_kept_however_states_are_noised(device):
    """A flow state and one of x0 + sigma n with the same picture, noise and ratio of the two."""
    denoised, noise, source = pictures(device, 2, 4, 8, 8)
    share = torch.tensor([0.9, 0.3], dtype=torch.float64, device=device)
    sigma = share / (1 - share)
    wide = share[:, None, None, None]
    flow = (1 - wide) * source + wide * noise
    other = source + sigma[:, None, None, None] * noise
    assert float((flow_state(other, sigma, "sigma") - flow).abs().max()) < 1e-12
    assert flow_state(flow, share, "flow") is flow
    kept = [dial_edit(denoised, x, source, 1.0, 0.25)[1] for x in (flow, flow_state(other, sigma, "sigma"))]
    assert torch.equal(*kept) and not bool(kept[0].all())


@pytest.mark.parametrize("decided_per", DECIDED_PER)
@pytest.mark.parametrize("shape", [(2, 4, 8, 8), (2, 4, 1, 8, 8)])
def test_its_ends(device, shape, decided_per):
    denoised, x, source = pictures(device, *shape)
    assert torch.equal(dial_edit(denoised, x, source, 0.0, 0.25, decided_per)[0], source)
    assert torch.equal(dial_edit(denoised, x, source, 0.0, 0.0, decided_per)[0], source)
    assert dial_edit(denoised, x, source, 1.0, 0.0, decided_per)[0] is denoised
    moved = [float((dial_edit(denoised, x, source, s, 0.25, decided_per)[0] - source).norm()) for s in (0.2, 0.6, 1.0)]
    assert moved == sorted(moved) and moved[0] > 0


def test_a_cell_decides_for_all_its_channels_and_nine_cells_for_a_patch(device):
    source = torch.zeros(1, 2, 6, 6, device=device)
    x = torch.ones_like(source)
    denoised = torch.zeros_like(source)
    denoised[0, 0, 2, 2] = 0.4  # 0.2 of the mean distance in its cell, 0.022 over nine cells
    kept = {how: dial_edit(denoised, x, source, 1.0, 0.1, how)[1].expand_as(x) for how in DECIDED_PER}
    assert [int((~kept[how]).sum()) for how in DECIDED_PER] == [1, 2, 0]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((1.5, 0.2), "strength"),
        ((0.5, -0.1), "keep"),
        ((0.5, float("nan")), "keep"),
        ((0.5, 0.2, "row"), "decided_per"),
    ],
)
def test_bad_options(device, options, says):
    with pytest.raises(ValueError, match=says):
        dial_edit(*pictures(device, 1, 1, 4, 4), *options)
