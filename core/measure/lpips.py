"""LPIPS on SqueezeNet 1.1 from a local file.

The Unreasonable Effectiveness of Deep Features, arXiv 1801.03924, equation 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_FIRES = {
    3: (64, 16, 64),
    4: (128, 16, 64),
    6: (128, 32, 128),
    7: (256, 32, 128),
    9: (256, 48, 192),
    10: (384, 48, 192),
    11: (384, 64, 256),
    12: (512, 64, 256),
}

_POOLS = (2, 5, 8)
_TAPS = (1, 4, 7, 9, 10, 11, 12)
_WIDTHS = (64, 128, 256, 384, 384, 512, 512)

_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)


class _Fire(nn.Module):
    def __init__(self, inp: int, middle: int, out: int):
        super().__init__()
        self.squeeze = nn.Conv2d(inp, middle, 1)
        self.expand1x1 = nn.Conv2d(middle, out, 1)
        self.expand3x3 = nn.Conv2d(middle, out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(x).relu(), self.expand3x3(x).relu()], 1)


class LPIPS(nn.Module):
    """Perceptual distance of pictures `[b 3 h w]` in -1..1, `[b]`."""

    def __init__(self) -> None:
        super().__init__()
        layers: dict[str, nn.Module] = {"0": nn.Conv2d(3, 64, 3, 2), "1": nn.ReLU()}
        layers |= {str(i): nn.MaxPool2d(3, 2, ceil_mode=True) for i in _POOLS}
        layers |= {str(i): _Fire(*sizes) for i, sizes in _FIRES.items()}
        self.net = nn.ModuleDict({str(i): layers[str(i)] for i in range(13)})
        self.lin = nn.ParameterList(torch.zeros(1, width, 1, 1) for width in _WIDTHS)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Measure the distance of each pair."""
        weight = self.lin[0]
        shift, scale = (weight.new_tensor(v)[:, None, None] for v in (_SHIFT, _SCALE))
        x = (torch.cat([a, b]).to(weight) - shift) / scale
        total = torch.zeros((), device=weight.device)
        taps = iter(self.lin)
        for i, layer in enumerate(self.net.values()):
            x = layer(x)
            if i in _TAPS:
                first, second = (x / (x.square().sum(1, keepdim=True) + 1e-8).sqrt()).chunk(2)
                total = total + F.conv2d((first - second).square(), next(taps)).mean((1, 2, 3))
        return total
