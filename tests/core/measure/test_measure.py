"""Measures against an oracle library and against faces whose factors are known."""

import json
import math

import pytest
import torch
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from core.faces.embedder import load_embedder
from core.faces.factors import BY_NAME, NAMES, Factors, sample
from core.faces.measure import measure_edit
from core.faces.names import name_factors
from core.faces.regressor import Regressor, encode, load_regressor
from core.faces.render import render
from core.faces.words import face_phrases
from core.measure.heatmap import colorize, heat_limit, heatmap, scale_bar
from core.measure.image import PSNR_CAP, leak_ratio, middle, psnr, region_change, ssim
from core.measure.names import likely_words


def pair(b=3, h=32, w=45, *, noise=0.1, device="cpu"):
    a = torch.nn.functional.interpolate(torch.rand(b, 3, 8, 9), (h, w), mode="bilinear") * 2 - 1
    return a.to(device), (a + noise * torch.randn(b, 3, h, w)).clamp(-1, 1).to(device)


@pytest.mark.parametrize("noise", [0.01, 0.3])
def test_psnr_and_ssim_agree_with_torchmetrics(noise, device):
    a, b = pair(noise=noise, device=device)
    for i in range(len(a)):
        x, y = a[i : i + 1], b[i : i + 1]
        assert math.isclose(float(psnr(x, y)), float(peak_signal_noise_ratio(y, x, data_range=2.0)), abs_tol=1e-4)
        _, full = structural_similarity_index_measure(
            y.double(), x.double(), data_range=2.0, sigma=1.5, return_full_image=True
        )
        valid = full[
            ..., 5:-5, 5:-5
        ]  # the paper has no padding; the library averages over a reflected border, or not, by version
        assert math.isclose(float(ssim(x, y)), float(valid.mean()), abs_tol=1e-4)
    assert psnr(a, b).shape == ssim(a, b).shape == (3,)


def test_identical_pictures_give_finite_figures():
    a, _ = pair()
    assert float(psnr(a, a).min()) == PSNR_CAP and torch.allclose(ssim(a, a), torch.ones(3))


def test_region_change_by_hand():
    before, after, mask = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4), torch.zeros(4, 4)
    mask[:2] = 1
    after[0, :, :2] = 0.5
    after[1, :, 2:] = -0.25
    inside, outside = region_change(before, after, mask)
    assert inside.tolist() == [0.5, 0.0] and outside.tolist() == [0.0, 0.25]
    ratio = leak_ratio(inside, outside)
    assert float(ratio[0]) == 0 and math.isnan(float(ratio[1]))
    soft_in, soft_out = region_change(before[:1], after[:1], 0.5 * mask + 0.25)
    assert math.isclose(float(soft_in), 0.5 * 0.75, rel_tol=1e-6) and math.isclose(
        float(soft_out), 0.5 * 0.25, rel_tol=1e-6
    )
    assert math.isnan(float(region_change(before, after, torch.ones(4, 4))[1][0]))
    per_image = region_change(before, after, torch.stack([mask, 1 - mask]))
    assert per_image[0].tolist() == [0.5, 0.25]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: psnr(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 5)), "one size"),
        (lambda: ssim(torch.zeros(1, 3, 8, 40), torch.zeros(1, 3, 8, 40)), "at least 11x11"),
        (lambda: region_change(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4), torch.zeros(4, 4)), "empty"),
        (lambda: region_change(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4), torch.ones(8, 8)), "resize"),
        (
            lambda: region_change(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4), torch.full((4, 4), float("nan"))),
            "0..1",
        ),
        (lambda: heatmap(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 5)), "one size"),
        (lambda: heatmap(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4), limit=0.0), "limit"),
        (lambda: measure_edit(torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16), target="smile"), "regressor"),
    ],
)
def test_refusals(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_heatmap_gets_lighter_with_change_and_does_not_stretch_noise(device):
    grey = colorize(torch.linspace(0, 1, 64, device=device)).mean(0)
    assert bool((grey.diff() > 0).all()) and colorize(torch.tensor([-1.0, 2.0])).shape == (3, 2)
    before = torch.zeros(2, 3, 8, 8, device=device)
    after = before.clone()
    after[0, :, 2, 2] = 1.0
    heat = heatmap(before, after)
    assert heat.shape == (2, 3, 8, 8) and float(heat.min()) >= -1 and float(heat.max()) <= 1
    assert heat[0, :, 2, 2].mean() > heat[0, :, 0, 0].mean()
    assert float((heatmap(before, before + 1e-6) - heatmap(before, before)).abs().max()) < 1e-3


def test_heat_maps_share_a_few_scales_and_the_bar_shows_their_colours(device):
    before = torch.zeros(1, 3, 20, 20, device=device)
    assert heat_limit(before, before) == 0.02
    assert heat_limit(before, before + 0.02) == 0.02 and heat_limit(before, before + 0.021) == 0.05
    assert heat_limit(before, before + 0.6) == 1.0 and heat_limit(before - 1, before + 1) == 2.0
    assert torch.equal(heatmap(before, before + 0.03), heatmap(before, before + 0.03, limit=0.05))
    bar = scale_bar(400, 0.5) * 2 - 1
    assert bar.shape == (1, 400, 96, 3)
    brightest, darkest = (heatmap(before, before + change)[0, :, 0, 0].cpu() for change in (0.5, 0.0))
    assert torch.allclose(bar[0, 57, 20], brightest, atol=0.05) and torch.allclose(bar[0, 365, 20], darkest, atol=0.05)
    assert float(bar[0, :, 40:].min()) < 0 and not torch.equal(bar, scale_bar(400, 0.2) * 2 - 1)  # its numbers


def test_the_middle_is_what_a_vae_leaves():
    x = torch.arange(131.0)[:, None] + 1000 * torch.arange(145.0)
    assert torch.equal(middle(x, 128, 144), x[1:129, 0:144])


class Known(Regressor):
    """Reads factors written into the pixels of a picture instead of drawn: an instrument without error."""

    def forward(self, x):
        rows = x[:, 0, 0, : len(NAMES)] * 4 - 1
        factors: Factors = {}
        for i, name in enumerate(NAMES):
            f = BY_NAME[name]
            value = f.low + rows[:, i] * (f.high - f.low)
            factors[name] = value.round().clamp(f.low, f.high) if f.classes else value
        return encode(factors)


def written(**units: float) -> torch.Tensor:
    """A 64x64 picture whose factors are the given fractions of their range (others 0.5); in -1..1."""
    picture = torch.zeros(1, 3, 64, 64)
    for i, name in enumerate(NAMES):
        picture[0, :, 0, i] = (units.get(name, 0.5) + 1) / 4 * 2 - 1
    return picture


def test_report_of_a_known_edit():
    instrument = Known()
    instrument.error = {"smile": 0.98, "glasses": 0.99}
    mask = torch.zeros(64, 64)
    mask[0, :32] = 1
    report = measure_edit(written(smile=0.5), written(smile=0.9, yaw=0.45), mask, instrument)
    assert report.target == "smile" and report.largest_other == "yaw"
    assert math.isclose(report.moved, 0.4, abs_tol=1e-4) and math.isclose(report.factors["yaw"], -0.05, abs_tol=1e-4)
    assert math.isclose(report.leaked, 0.05 / (len(NAMES) - 1), abs_tol=1e-4) and math.isclose(
        report.identity, 1 - report.leaked
    )
    assert report.outside == 0 and report.leak_ratio == 0 and report.inside > 0
    facts = json.loads(report.to_json())
    assert facts == report.to_dict() and set(facts["factors"]) == set(NAMES)
    table = report.table()
    assert "**smile** | +0.400" in table and "0.9800" in table and table.count("|---") > 3
    assert measure_edit(written(), written(yaw=0.9), mask, instrument, target="smile").moved == pytest.approx(
        0, abs=1e-4
    )
    with pytest.raises(ValueError, match="unknown factor"):
        measure_edit(written(), written(), mask, instrument, target="ears")


def test_report_without_mask_or_regressor_and_without_any_change():
    a, b = pair(2)
    report = measure_edit(a, b)
    assert report.inside is None and report.target is None and report.images == 2 and "factor" not in report.table()
    same = measure_edit(a, a, torch.ones(32, 45))
    assert (
        same.leak_ratio is None
        and same.outside is None
        and same.inside == 0
        and json.loads(same.to_json())["psnr"] == PSNR_CAP
    )
    assert measure_edit(a[..., :8, :8], b[..., :8, :8]).ssim is None


def test_directions_are_named_after_what_their_ends_show(device):
    """Ends rendered with known factors are read back."""
    regressor = load_regressor("weights/face_regressor.safetensors").to(device)
    face = sample(1, torch.Generator().manual_seed(3), held_out=True)
    plain = {**face, "smile": torch.zeros(1), "hair_length": torch.full((1,), 0.5)}
    ends = [{**plain, "smile": torch.ones(1)}, {**plain, "hair_length": torch.zeros(1)}, plain]
    pictures = [render(f, 64)[0][0].to(device) for f in (plain, *ends)]
    smile, hair, nothing = name_factors(regressor, pictures[0], torch.stack(pictures[1:]))
    assert smile.startswith("smile +") and hair.startswith("hair_length -") and nothing == "no known factor"


def test_words_of_an_image_text_space(device):
    space = load_embedder("weights/face_embedder.safetensors", device)
    factors = {
        **sample(1, torch.Generator().manual_seed(4)),
        "smile": torch.tensor([-0.3]),
        "glasses": torch.tensor([0.0]),
        "mouth_open": torch.tensor([0.0]),
    }
    ways = ({}, {"smile": torch.tensor([0.9])}, {"glasses": torch.tensor([1.0])})
    plain, smiling, glasses = (render({**factors, **change}, 64, device=device)[0][0] * 2 - 1 for change in ways)
    a, b, none = likely_words(space, plain, torch.stack([smiling, glasses, plain]), face_phrases())
    assert a.startswith("smiling") and b.startswith("glasses") and none == "no word"
    assert likely_words(space, plain, smiling[None], ["a frowning person", "a smiling person"])[0].startswith(
        "a smiling person"
    )
    with pytest.raises(ValueError, match="at least two"):
        likely_words(space, plain, smiling[None], ["smiling"])
