"""Shifts of a picture that was also changed, blurred and made noisy; none where there is none."""

import pytest
import torch
from torch.nn import functional as F

from core.measure.shift import find_shift


def picture(seed=0, c=16, h=32, w=48):
    g = torch.Generator().manual_seed(seed)
    return F.avg_pool2d(torch.randn(1, c, h + 8, w + 8, generator=g), 3, 1, 1)[0]


def edited(part, device):
    """A third of it is another picture, and all of it is blurred a little and noisy."""
    g = torch.Generator().manual_seed(9)
    out = part.clone()
    out[:, 8:20, 10:26] = picture(5)[:, 8:20, 10:26]
    out = 0.7 * out + 0.3 * F.avg_pool2d(out[None], 3, 1, 1)[0]
    return (out + 0.05 * torch.randn(out.shape, generator=g)).to(device)


@pytest.mark.parametrize("shift", [(0, 0), (1, 0), (-2, 1), (3, -4), (0, 2)])
def test_a_shift_is_found_beneath_an_edit(shift, device):
    whole, (down, right) = picture(), shift
    reference = whole[:, 4:36, 4:52].to(device)
    moved = whole[:, 4 - down : 36 - down, 4 - right : 52 - right]
    assert find_shift(edited(moved, device), reference) == shift
    assert find_shift(edited(moved, device)[:, None], reference[:, None]) == shift


def test_what_is_not_shifted_is_not_called_shifted(device):
    same = picture()[:, 4:36, 4:52].to(device)
    assert find_shift(same, same) == find_shift(torch.zeros_like(same), same) == (0, 0)
    assert {find_shift(picture(k)[:, 4:36, 4:52].to(device), same) for k in range(1, 9)} == {(0, 0)}
