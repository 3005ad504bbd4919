"""The strength of a printed grid: 1 without one, and it grows with what is printed."""

import pytest
import torch

from core.measure.pixel_grid import grid_strength


def noise(seed: int = 0) -> torch.Tensor:
    return torch.randn(16, 3, 64, 64, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def printed(period: int) -> torch.Tensor:
    """One bright pixel in each block."""
    grid = torch.zeros(64, 64, dtype=torch.float64)
    grid[::period, ::period] = 1
    return grid


def test_white_noise_has_none():
    assert float(grid_strength(noise()).mean()) == pytest.approx(1, abs=0.15)


def test_it_grows_with_what_is_printed():
    weak, strong = (float(grid_strength(noise() + height * printed(4)).mean()) for height in (0.5, 2))
    assert 1.3 < weak < strong / 2


def test_it_is_of_one_period_only():
    doubled = grid_strength(noise() + 2 * printed(8), 4)  # every second line of that grid is one of these
    assert float(doubled.mean()) > 2
    assert float(grid_strength(noise() + 2 * printed(4), 8).mean()) == pytest.approx(1, abs=0.2)


def test_it_does_not_know_the_scale():
    x = noise() + printed(4)
    torch.testing.assert_close(grid_strength(5 * x + 3), grid_strength(x))


def test_transposed_pictures_have_the_same():
    x = noise() + printed(4)
    torch.testing.assert_close(grid_strength(x.mT).mean(), grid_strength(x).mean(), rtol=0.1, atol=0)


@pytest.mark.parametrize("size", [(62, 64), (16, 64)])
def test_sides_that_do_not_fit_are_refused(size):
    with pytest.raises(ValueError, match="multiples of it"):
        grid_strength(torch.zeros(1, 3, *size))
