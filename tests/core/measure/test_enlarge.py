"""Small pictures are enlarged, large ones are shrunk, others are left alone."""

import pytest
import torch

from core.measure.enlarge import enlarge_small, shrink_large


@pytest.mark.parametrize("size, factor", [((64, 64), 8), ((64, 48), 8), ((100, 30), 5), ((256, 10), 2)])
def test_the_factor_is_whole_and_the_largest_that_fits(size, factor):
    image = torch.rand(2, *size, 3)
    large = enlarge_small(image, 512)
    assert large.shape == (2, factor * size[0], factor * size[1], 3)
    assert 0 <= float(large.min()) and float(large.max()) <= 1
    blocks = large.reshape(2, size[0], factor, size[1], factor, 3).mean((2, 4))
    assert float((blocks - image).abs().mean()) < 0.1


@pytest.mark.parametrize("size", [(257, 8), (512, 512), (3000, 4000)])
def test_what_is_large_comes_back_as_it_is(size):
    image = torch.rand(1, *size, 3)
    assert enlarge_small(image, 512) is image


def test_an_even_picture_stays_even():
    assert torch.allclose(enlarge_small(torch.full((1, 8, 8, 3), 0.3), 512), torch.full((1, 512, 512, 3), 0.3))


@pytest.mark.parametrize(
    "size, expected", [((3000, 4000), (768, 1024)), ((2048, 2), (1024, 1)), ((1024, 9), (1024, 9))]
)
def test_shrinking_keeps_the_aspect_and_the_mean(size, expected):
    image = torch.rand(1, *size, 3)
    small = shrink_large(image, 1024)
    assert small.shape[1:3] == expected
    assert float(small.mean() - image.mean()) == pytest.approx(0, abs=1e-3)
