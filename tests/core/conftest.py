"""Core tests run without the host: ``pytest tests/core --device cpu`` (or ``cuda``)."""

import pytest
import torch

from core.edit.sample import reconstruct
from core.invert.fixed_point import invert_fixed_point
from core.networks.ddpm import DDPMConfig, DDPMUNet
from core.networks.vp import VPDenoiser
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
    net = DDPMUNet(DDPMConfig(3, 3, (32, 64), 1, (False, True), patch=2)).to(device, torch.float64).eval().requires_grad_(False)
    return VPDenoiser(net, Schedule(), "v", "0" * 12)


@pytest.fixture(scope="session")
def small(device) -> VPDenoiser:
    """A small network of random weights in float32."""
    torch.manual_seed(1)
    net = DDPMUNet(DDPMConfig(3, 3, (32, 64), 1, (False, True))).to(device).eval().requires_grad_(False)
    net.conv_out.weight.mul_(2)
    return VPDenoiser(net, Schedule())


@pytest.fixture(scope="session")
def small_path(small, device) -> Trajectory:
    """Four pictures of noise, inverted on ``small``."""
    g = torch.Generator().manual_seed(2)
    pictures = (torch.rand(4, 3, 16, 16, generator=g) - 0.5).to(device)
    return reconstruct(small, invert_fixed_point(small, pictures, grid_sigmas(Schedule(), 8, t0=500)))
