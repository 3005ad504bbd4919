"""The pictures of results: sizes, colours in place, and what is refused."""

import pytest
import torch

from core.measure.drawing import GAIN, LEAK
from core.measure.plots import spectrum_plot
from core.measure.sheet import strip


def count(picture, colour) -> int:
    return int(((picture[0] - torch.tensor(colour) / 255).abs().amax(-1) < 0.02).sum())


def test_strip_places_every_picture_at_its_scale():
    reds = [torch.tensor([v, -1.0, -1.0])[:, None, None].expand(3, 16, 24) for v in (1.0, 0.0, -0.5)]
    sheet = strip([("mouth #1", reds), ("eyes #1", reds[:2])], ["-15", "0", "+15"], scale=4)
    assert sheet.shape[0] == 1 and sheet.shape[-1] == 3 and 0 <= float(sheet.min()) and float(sheet.max()) <= 1
    assert count(sheet, (255, 0, 0)) == 2 * 64 * 96 and count(sheet, (64, 0, 0)) == 64 * 96
    bare = strip([("", reds)], scale=4)
    assert bare.shape[1] < sheet.shape[1] and bare.shape[2] < sheet.shape[2]


def test_strip_fits_small_and_large_pictures(device):
    small = strip([("", [torch.zeros(3, 64, 64, device=device)] * 5)], ["a"] * 5)
    assert 700 < small.shape[2] < 1200
    large = strip(
        [
            (
                "a label that is much too long to be written in full beside a row of pictures",
                [torch.zeros(1, 512, 256)] * 12,
            )
        ]
    )
    assert large.shape[2] < 2900 and strip([("x", [torch.zeros(3, 4, 4)])]).shape[2] > 100


@pytest.mark.parametrize(("k", "n"), [(1, 0), (5, 32), (64, 400), (3, 1)])
def test_spectrum_draws_bars_in_proportion(k, n):
    gain = torch.linspace(1.0, 0.5, k)
    picture = spectrum_plot(torch.linspace(3, 0, n) if n else torch.zeros(0), gain, gain / 4, "generalized tau 0.1")
    assert picture.shape[-1] == 3 and picture.dim() == 4 and picture.dtype == torch.float32
    bars = picture[:, 80:]  # below the legend
    assert count(bars, GAIN) > 2.5 * count(bars, LEAK) > 0


def test_spectrum_takes_zeros_and_extreme_values():
    for value in (0.0, 1e-9, 1e9):
        assert torch.isfinite(spectrum_plot(torch.full((4,), value), torch.full((3,), value), torch.zeros(3), "")).all()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: strip([]), "no picture"),
        (lambda: strip([("", [torch.zeros(3, 4, 4), torch.zeros(3, 4, 5)])]), "one size"),
        (lambda: strip([("", [torch.zeros(3, 4, 4)])], scale=0), "scale"),
        (lambda: spectrum_plot(torch.zeros(3), torch.zeros(2), torch.zeros(3)), "one length"),
        (lambda: spectrum_plot(torch.zeros(3), torch.tensor([float("nan")]), torch.zeros(1)), "finite"),
    ],
)
def test_refusals(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_strip_writes_several_lines_beside_a_row():
    row = [torch.zeros(3, 64, 64)] * 2
    one, many = (
        strip([("mouth #1", row)]),
        strip([("mouth #1\ngain 0.1, leak 0.01\n+ smile +0.42\n- mouth_open +0.10", row)]),
    )
    assert many.shape[1] == one.shape[1] and many.shape[2] > one.shape[2]
    assert strip([("", row)]).shape[2] < one.shape[2]
