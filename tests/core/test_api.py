"""The five calls of the library, on an embedded autoencoder; docs/library.md runs them on the pixel model."""

import pytest
import torch
from PIL import Image

import core
from core.invert.fixed_point import invert_fixed_point
from core.schedule import grid_sigmas


@pytest.fixture(scope="module")
def autoencoder():
    return core.load("face_diffae")


@pytest.fixture(scope="module")
def picture() -> torch.Tensor:
    g = torch.Generator().manual_seed(3)
    return torch.rand(1, 3, 8, 8, generator=g).repeat_interleave(8, -1).repeat_interleave(8, -2) - 0.5


def test_an_autoencoder_is_split_under_the_code_of_the_picture(autoencoder, picture):
    mask = torch.zeros(64, 64)
    mask[20:40, 20:40] = 1
    trajectory = core.invert(autoencoder, picture, steps=3, iterations=1)
    directions = core.discover(autoencoder, trajectory, mask, k=1)
    assert trajectory.states.shape == (4, 1, 3, 64, 64) and trajectory.fingerprint == autoencoder.fingerprint
    assert directions.vectors.shape[:2] == (1, 1) and torch.equal(directions.mask, mask)
    plain = core.steer(autoencoder, trajectory, directions, strength=0)
    held = core.steer(autoencoder, trajectory, directions, strength=40, protect=1.0)
    change = core.measure(plain, core.steer(autoencoder, trajectory, directions, strength=40), mask)
    assert float(change.inside) > float(change.outside) > 0
    assert torch.equal(change.leak, change.outside / change.inside)
    outside = torch.nn.functional.max_pool2d(mask[None, None], 9, 1, 4)[0] == 0
    assert torch.allclose(held[0][outside.expand(3, -1, -1)], picture[0][outside.expand(3, -1, -1)], atol=1e-3)


def test_they_are_the_functions_that_they_name(small):
    image = torch.rand(2, 3, 16, 16) - 0.5
    trajectory = core.invert(small, image, steps=4, iterations=2)
    expected = invert_fixed_point(small, image, grid_sigmas(small.schedule, 4), 2)
    assert torch.equal(trajectory.states, expected.states)
    change = core.measure(image, image)
    assert change.inside is None and change.psnr.tolist() == [120.0, 120.0] and change.ssim.shape == (2,)
    with pytest.raises(ValueError, match="one state"):
        core.discover(small, trajectory)


def test_a_picture_is_read_from_a_file(autoencoder, tmp_path):
    Image.new("RGB", (90, 70), (255, 0, 0)).save(tmp_path / "red.png")
    trajectory = core.invert(autoencoder, tmp_path / "red.png", steps=2, iterations=0)
    assert torch.equal(trajectory.x0, torch.tensor([1.0, -1.0, -1.0])[None, :, None, None].expand(1, 3, 64, 64))


def test_a_stage_stays_a_package_and_can_be_called():
    assert callable(core.discover) and core.discover.find.discover and core.measure.image.psnr
    with pytest.raises(AttributeError, match="no attribute 'paint'"):
        core.paint  # noqa: B018
