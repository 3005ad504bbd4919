"""A whole picture at a model's size: what is left alone, what is cut, and a mask of it."""

import pytest
import torch

from core.photo.whole import fit_picture, fit_region, fit_text, is_near, plan_fit, spread_region

PHOTO = (3000, 4000)


@pytest.mark.parametrize("size", [(64, 64), (96, 96), (48, 48), (40, 96), (64, 88)])
def test_what_is_near_and_divides_is_left_alone(size):
    assert plan_fit(size, 64, 8, "crop", True) is None and plan_fit(size, 64, 8, "pad", True) is None


@pytest.mark.parametrize("size", [(512, 512), (104, 64), (40, 40), (60, 64), PHOTO])
@pytest.mark.parametrize("how", ["crop", "pad"])
def test_a_model_of_squares_gets_its_square(size, how):
    fit = plan_fit(size, 64, 8, how, True)
    left, top, right, bottom = fit.box
    assert fit.size == (64, 64) and right - left == bottom - top == (min if how == "crop" else max)(size)
    assert abs(left + right - size[1]) <= 1 and abs(top + bottom - size[0]) <= 1


def test_other_models_keep_the_aspect_in_their_number_of_pixels():
    for size, side, expected in ((PHOTO, 1024, (896, 1152)), (PHOTO, 512, (448, 576)), ((512, 4096), 512, (384, 704))):
        fit = plan_fit(size, side, 8, "crop", False)
        assert fit.size == expected and 0.9 < fit.size[0] * fit.size[1] / side**2 < 1.1
        left, top, right, bottom = fit.box
        assert abs((right - left) / (bottom - top) - expected[1] / expected[0]) < 1e-2
        assert left >= 0 and top >= 0 and right <= size[1] and bottom <= size[0]


def test_what_only_does_not_divide_is_not_scaled():
    cut, filled = (plan_fit((500, 703), 512, 8, how, False) for how in ("crop", "pad"))
    assert cut.size == (496, 696) and filled.size == (504, 704) and cut.scale == filled.scale == 1
    picture = torch.rand(1, 3, 500, 703, generator=torch.Generator().manual_seed(0))
    assert torch.equal(fit_picture(picture, cut), picture[..., 2:498, 3:699])
    assert torch.equal(fit_picture(picture, filled)[..., 2:502, 1:704], picture)


def test_shrinking_averages_and_keeps_the_limits():
    """A fine checkerboard is grey at an eighth of the size, where a filter that skips pixels would show stripes."""
    board = (torch.arange(512)[:, None] + torch.arange(512)[None]).remainder(2).float().expand(1, 3, 512, 512)
    small = fit_picture(board, plan_fit((512, 512), 64, 8, "crop", True))
    assert small.shape == (1, 3, 64, 64) and float((small - 0.5).abs().max()) < 0.02
    step = (torch.arange(600) > 300).float().expand(1, 3, 400, 600)
    small = fit_picture(step, plan_fit((400, 600), 64, 8, "pad", True))
    assert float(small.min()) >= 0 and float(small.max()) <= 1
    assert torch.allclose(small[..., 0, :], small[..., 31, :], atol=1e-6)  # the edge goes on beyond the picture


@pytest.mark.parametrize("how", ["crop", "pad"])
@pytest.mark.parametrize("shrink", [1, 4])
def test_a_mask_is_cut_as_its_picture_was(how, shrink):
    fit = plan_fit((400, 600), 64, 8, how, True)
    mask = torch.zeros(400, 600)
    mask[120:280, 200:400] = 1
    picture = fit_picture(mask.expand(1, 1, 400, 600), fit)[0, 0]
    region = fit_region(mask[::shrink, ::shrink], fit)
    assert region.shape == (64, 64) and float((region - picture).abs().mean()) < 0.03
    if how == "pad":
        assert not fit_region(torch.ones(400, 600), fit)[0].any()  # nothing beyond the picture is its region


def test_what_was_done_is_said():
    text = fit_text(plan_fit(PHOTO, 64, 8, "crop", True))
    assert "4000x3000" in text and "64x64" in text and "0.0213" in text and "the middle" in text
    assert "filled up to 4000x4000" in fit_text(plan_fit(PHOTO, 64, 8, "pad", True))
    assert is_near((96, 40), 64) and not is_near((97, 64), 64) and not is_near((42, 42), 64)


@pytest.mark.parametrize("how", ["crop", "pad"])
def test_a_mask_goes_back_to_where_it_was_taken(how):
    """A region inside of what was taken comes back where it was; nothing is marked where nothing was taken."""
    size = (300, 400)
    fit = plan_fit(size, 64, 8, how, True)
    mask = torch.zeros(size)
    mask[120:180, 150:250] = 1
    there = fit_region(mask, fit)
    back = spread_region(there, fit)
    assert back.shape == size and set(back.unique().tolist()) == {0.0, 1.0}
    assert float((back != mask).sum()) < 0.15 * float(mask.sum())  # an edge of half a pixel of the small one
    everywhere = spread_region(torch.ones(fit.size), fit)
    taken = torch.zeros(size)
    taken[:, 50:350] = 1
    assert torch.equal(everywhere, taken if how == "crop" else torch.ones(size))
