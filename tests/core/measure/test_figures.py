"""Figures are written beneath a picture, which stays as it is."""

import pytest
import torch

from core.measure.figures import add_figures


def test_the_picture_stays_and_every_figure_leaves_ink_in_its_place():
    picture = torch.rand(1, 50, 400, 3)
    page = add_figures(picture, [[("inside", "0.12"), ("outside", "0.01")], [("smile", "+0.30")]])
    assert torch.equal(page[:, :50], picture)
    below = page[0, 50:]
    assert below.shape[1:] == (400, 3) and 0 <= float(below.min()) and float(below.max()) <= 1
    ink = (below.mean(2) < 0.6).float()
    first, second = ink[:18], ink[18:36]
    assert first[:, :200].sum() > 20 and first[:, 200:].sum() > 20 and second[:, :200].sum() > 20
    assert second[:, 200:].sum() == 0, "the second column has one line"


@pytest.mark.parametrize("width", [828, 2100])
def test_letters_grow_with_the_picture(width):
    page = add_figures(torch.ones(1, 10, width, 3), [[("inside", "0.12")]])
    assert abs((page.shape[1] - 10) / width - 0.057) < 0.005


def test_without_figures_nothing_is_added():
    picture = torch.rand(1, 8, 8, 3)
    assert add_figures(picture, [[], []]) is picture
