"""What a call buys on the face model that ships: eight held-out faces there and back."""

import pytest
import torch

from core.faces.factors import sample
from core.faces.render import render
from core.files.checkpoint import load_denoiser
from core.invert.fixed_point import FixedPointOptions, invert_fixed_point
from core.measure.image import psnr
from core.sample import reconstruct
from core.schedule import karras
from core.weights_folder import weights_folder


@pytest.fixture(scope="module")
def model(device):
    return load_denoiser(weights_folder() / "face_model.safetensors", device)


@pytest.fixture(scope="module")
def faces(device):
    factors = sample(8, torch.Generator().manual_seed(2026), held_out=True)
    return (render(factors, 64)[0] * 2 - 1).to(device)


def there_and_back(model, faces, steps: int, iterations: int, **options) -> tuple[float, int]:
    """Mean PSNR in dB, and calls of the inversion."""
    calls: list[dict] = []
    path = invert_fixed_point(
        model, faces, karras(steps, 20.0), iterations, options=FixedPointOptions(**options), callback=calls.append
    )
    return float(psnr(reconstruct(model, path).rebuilt, faces).mean()), len(calls)


@pytest.mark.parametrize(("steps", "iterations", "least"), [(10, 0, 37), (10, 1, 47), (25, 0, 50), (25, 1, 60)])
def test_faces_come_back(model, faces, steps, iterations, least):
    quality, calls = there_and_back(model, faces, steps, iterations)
    assert quality >= least and calls == steps * (1 + iterations) + 1


def test_a_warm_start_is_not_worse_than_a_cold_one_of_as_many_calls(model, faces):
    for iterations in (0, 1):
        warm, _ = there_and_back(model, faces[:2], 10, iterations)
        cold, _ = there_and_back(model, faces[:2], 10, iterations, warm=False, extrapolate=False)
        assert warm >= cold - 1
