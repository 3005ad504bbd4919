"""The measuring instrument: good enough on faces it never saw, and its change has the right sign and scale."""

import pytest
import torch

from core.faces.factors import BY_NAME, neutral, sample
from core.faces.regressor import (
    FOREIGN,
    OUTPUTS,
    SLICES,
    encode,
    factor_change,
    load_regressor,
    measure,
    measure_scores,
    misfit,
    own_error,
)
from core.faces.render import render

WEIGHTS = "weights/face_regressor.safetensors"


@pytest.fixture(scope="module")
def regressor(device):
    return load_regressor(WEIGHTS, device)


def test_it_reads_held_out_faces(regressor, device):
    faces = sample(600, torch.Generator().manual_seed(123), held_out=True)
    error = own_error(regressor, faces, render(faces, device=device)[0])
    for name in ("smile", "mouth_open", "eye_open", "hair_length", "glasses", "hair_color", "eye_color"):
        assert error[name] >= 0.9, (name, error[name])
    assert min(error.values()) >= 0.8
    # What reports quote is what is measured here.
    assert all(abs(error[n] - stated) < 0.05 for n, stated in regressor.error.items())


@pytest.mark.parametrize("name", ["smile", "mouth_open", "eye_open", "hair_length", "glasses", "yaw"])
def test_change_has_the_sign_and_size_of_the_factor(regressor, device, name):
    f = BY_NAME[name]
    low, high = (render(neutral(1, **{name: v}), device=device)[0] for v in (f.low, f.high))
    change = factor_change(regressor, low, high)
    assert float(change[name]) == pytest.approx(1.0, abs=0.15)
    assert float(factor_change(regressor, high, low)[name]) == pytest.approx(-float(change[name]), abs=1e-5)
    others = [float(v.abs()) for n, v in change.items() if n != name and n not in ("gaze", "shirt_hue")]
    assert max(others) < 0.35


def test_opacity_of_glasses_is_read_linearly(regressor, device):
    faces = neutral(5, glasses=torch.linspace(0, 1, 5))
    read = measure_scores(regressor, render(faces, device=device)[0])["glasses"].cpu()
    torch.testing.assert_close(read, torch.linspace(0, 1, 5), atol=0.2, rtol=0)
    assert (read.diff() > 0).all()


def test_hues_turn_the_short_way_round(regressor, device):
    a, b = (render(neutral(1, bg_hue=h), device=device)[0] for h in (0.95, 0.05))
    assert float(factor_change(regressor, a, b)["bg_hue"]) == pytest.approx(0.2, abs=0.06)


def test_readings_stay_in_range_on_noise(regressor, device):
    read = measure(regressor, torch.rand(8, 3, 64, 64, device=device) * 3 - 1)
    for name, f in BY_NAME.items():
        assert float(read[name].min()) >= f.low - 1e-6
        assert float(read[name].max()) <= f.high + 1e-6


def test_pictures_of_another_world_are_told_from_faces(regressor, device):
    g = torch.Generator().manual_seed(77)
    faces = render(sample(200, g, held_out=True), device=device)[0]
    rough = (faces + 0.05 * torch.randn(faces.shape, generator=g).to(device)).clamp(0, 1)
    soft = torch.nn.functional.avg_pool2d(faces, 3, 1, 1, count_include_pad=False)
    for kind in (faces, rough, soft):
        assert float(misfit(regressor, kind).max()) <= FOREIGN
    ys, xs = torch.meshgrid(torch.linspace(-1, 1, 64), torch.linspace(-1, 1, 64), indexing="ij")
    head = ((xs / 0.45) ** 2 + (ys / 0.6) ** 2 < 1).float()
    spectrum = (
        torch.randn(200, 3, 64, 33, generator=g)
        / (torch.fft.fftfreq(64)[:, None] ** 2 + torch.fft.rfftfreq(64) ** 2).clamp_min(2e-4).sqrt()
    )
    photos = torch.fft.irfft2(torch.complex(spectrum, spectrum.roll(1, 0)), s=(64, 64))
    photos = (0.5 + 0.2 * (photos - photos.mean((2, 3), True)) / photos.std((2, 3), keepdim=True)).clamp(0, 1)
    portraits = photos * (1 - head) + head * (torch.tensor([0.8, 0.6, 0.5])[:, None, None] + 0.1 * (photos - 0.5))
    for kind in (photos, portraits, faces.flip(2)):
        assert float(misfit(regressor, kind.to(device)).min()) > FOREIGN


def test_no_change_is_zero_exactly(regressor, device):
    x = render(sample(3, torch.Generator().manual_seed(1)), device=device)[0]
    assert all(float(v.abs().max()) == 0 for v in factor_change(regressor, x, x).values())


def test_wrong_size_and_wrong_file_are_refused(regressor, device, tmp_path):
    with pytest.raises(ValueError, match=r"reads pictures .*64.*got \[1, 3, 32, 32\]"):
        measure(regressor, torch.zeros(1, 3, 32, 32, device=device))
    bad = tmp_path / "x.safetensors"
    bad.write_bytes(b"not a file")
    with pytest.raises(ValueError, match="is not the face regressor"):
        load_regressor(bad)
    assert encode(sample(2, torch.Generator())).shape == (2, OUTPUTS)
    assert sum(s.stop - s.start for s in SLICES.values()) == OUTPUTS
