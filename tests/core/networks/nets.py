"""Small networks of both families, with weights that all matter, and inputs for them."""

import torch
from torch import nn

from core.networks.ddpm import DDPMConfig, DDPMUNet
from core.networks.guided import GuidedConfig, GuidedUNet

DDPM = DDPMConfig(3, 3, (32, 64), 1, (False, True))


PATCHED = DDPMConfig(3, 3, (32, 64), 1, (False, True), patch=2)


P2 = GuidedConfig(3, 6, 32, 32, (32, 64), 1, (False, True), head_channels=32)


OPENAI = GuidedConfig(3, 6, 32, 32, (32, 32, 64), 2, (False, True, True), head_channels=16)


ILVR_PLAIN = GuidedConfig(
    3, 3, 32, 64, (64, 32), 1, (True, False), scale_shift=False, resblock_updown=False, head_channels=32
)


def randomise(net: nn.Module, scale: float = 0.3) -> nn.Module:
    """Weights that all matter: no unit scales, no zero biases."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in net.parameters():
            noise = torch.randn(p.shape, generator=generator)
            p.copy_(noise / p[0].numel() ** 0.5 if p.dim() > 1 else scale * noise)
        for m in net.modules():
            if isinstance(m, nn.GroupNorm):
                m.weight.add_(1)
    return net


def make(config, device, dtype=torch.float64) -> nn.Module:
    net = DDPMUNet(config) if isinstance(config, DDPMConfig) else GuidedUNet(config)
    return randomise(net).to(device, dtype).eval().requires_grad_(False)


def sample(device, b=1, size=8, dtype=torch.float64):
    g = torch.Generator().manual_seed(2)
    return torch.randn(b, 3, size, size, generator=g, dtype=dtype).to(device), torch.linspace(37, 700, b).round().to(
        device
    )
