"""The states that the engine is measured on: what is looked at, and on which network."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks._faces import held_out, karras, masks, models
from benchmarks._host import sd15
from core.denoiser import Denoiser
from core.invert.fixed_point import invert_fixed_point
from core.networks.ddpm import DDPMConfig, DDPMUNet
from core.networks.vp import VPDenoiser
from core.schedule import Schedule

MODELS = ("embedded", "celebahq", "sd15")
_LEVEL = 3.4  # sigma at which the large networks are asked about noise

Work = Callable[[int, Denoiser, Tensor, float, Tensor], None]
"""Called with the number of a state, its model, x `[1 c h w]`, sigma and mask `[h w]`."""


def each_state(name: str, device: torch.device, side: int, work: Work) -> None:
    """Look at every state of a model: eight of the embedded one, one of each large one at ``side`` pixels."""
    if name == "embedded":
        _embedded(device, work)
    elif name == "celebahq":
        _celebahq(device, side, work)
    else:
        box = mouth_box(side // 8)
        sd15(device, side // 8, lambda model, x: work(0, model, x, _LEVEL, box))


def _embedded(device: torch.device, work: Work) -> None:
    """The face model at the states where its workflow looks: four faces, mouth and eyes."""
    model, _ = models()
    factors, images = held_out(4)
    trajectory = invert_fixed_point(model, images, karras(18, 20.0))
    step = trajectory.nearest(1.6)
    model.net.to(device)
    regions = ("mouth", "eyes")
    painted = masks(factors, regions)
    for n in range(len(images) * len(regions)):
        i, region = n // len(regions), regions[n % len(regions)]
        x = trajectory.states[step][i : i + 1].to(device)
        work(n, model, x, float(trajectory.sigmas[step]), painted[region][i])


def _celebahq(device: torch.device, side: int, work: Work) -> None:
    """google/ddpm-celebahq-256's configuration, 114 M parameters, with random weights, on noise."""
    torch.manual_seed(0)
    config = DDPMConfig(3, 3, (128, 128, 256, 256, 512, 512), 2, (False, False, False, False, True, False))
    net = DDPMUNet(config).to(device).eval().requires_grad_(False)
    x = 3.5 * torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(1))
    work(0, VPDenoiser(net, Schedule("linear"), "eps"), x.to(device), _LEVEL, mouth_box(side))


def mouth_box(side: int) -> Tensor:
    """The mouth of the released RBE code, `[side side]`."""
    mask = torch.zeros(side, side)
    mask[side * 175 // 256 : side * 200 // 256, side * 95 // 256 : side * 160 // 256] = 1
    return mask
