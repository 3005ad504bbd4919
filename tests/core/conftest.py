"""Core tests run without the host: ``pytest tests/core --device cpu`` (or ``cuda``)."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from core.faces.factors import sample
from core.faces.render import render
from core.invert.fixed_point import invert_fixed_point
from core.networks.ddpm import DDPMConfig, DDPMUNet
from core.networks.vp import VPDenoiser
from core.sample import reconstruct
from core.schedule import Schedule, grid_sigmas
from core.trajectory import Trajectory


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def device(request) -> torch.device:
    """Where tensors of this run live."""
    return torch.device(request.config.getoption("--device"))


@pytest.fixture(scope="session")
def model(device) -> VPDenoiser:
    """A small network of random weights in float64."""
    torch.manual_seed(1)
    net = (
        DDPMUNet(DDPMConfig(3, 3, (32, 64), 1, (False, True), patch=2))
        .to(device, torch.float64)
        .eval()
        .requires_grad_(False)
    )
    return VPDenoiser(net, Schedule(), "v", "0" * 12)


@pytest.fixture(scope="session")
def small(device) -> VPDenoiser:
    """A small network of random weights in float32."""
    torch.manual_seed(1)
    net = DDPMUNet(DDPMConfig(3, 3, (32, 64), 1, (False, True))).to(device).eval().requires_grad_(False)
    net.conv_out.weight.mul_(2)
    return VPDenoiser(net, Schedule())


@pytest.fixture(scope="session")
def small_trajectory(small, device) -> Trajectory:
    """Four pictures of noise, inverted on ``small``."""
    g = torch.Generator().manual_seed(2)
    pictures = (torch.rand(4, 3, 16, 16, generator=g) - 0.5).to(device)
    return reconstruct(small, invert_fixed_point(small, pictures, grid_sigmas(Schedule(), 8, t0=500)))


@pytest.fixture(scope="session")
def faces() -> torch.Tensor:
    """16 rendered faces `[16 3 64 64]` in -1..1."""
    return render(sample(16, torch.Generator().manual_seed(7)), 64)[0] * 2 - 1


@pytest.fixture(scope="module")
def folder(faces, tmp_path_factory) -> Path:
    """The same as files."""
    where = tmp_path_factory.mktemp("faces")
    for i, face in enumerate(faces):
        Image.fromarray(((face.movedim(0, -1) + 1) * 127.5).round().byte().numpy()).save(where / f"{i:02d}.png")
    return where
