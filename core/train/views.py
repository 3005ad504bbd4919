"""Random views of a picture and its edit for an embedder (augmentation as in CLIPstyler, Kwon and Ye 2022, arXiv 2112.00374).

A network that is trained against an embedder finds fine patterns that please it and that nobody wants to see. Shifted by some pixels,
blurred and with a little noise, only what people see is left to move it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

SHIFT, BLUR, NOISE = 1 / 16, 1 / 48, 0.1
"""Of the picture's side: largest shift, and standard deviation of the blur. Of the range -1..1: that of the noise."""


class View:
    """One random view: ``view(pictures)`` is the same for every batch of that shape.

    Args:
        shape: of the pictures, `[b c h w]`.
        generator: on the CPU; what the view is drawn from.
    """

    def __init__(self, shape: torch.Size, generator: torch.Generator):
        side = min(shape[-2:])
        self.reach = max(1, round(SHIFT * side))
        self.shift = tuple(int(v) for v in torch.randint(0, 2 * self.reach + 1, (2,), generator=generator))
        self.noise = NOISE * torch.randn(shape[-3:], generator=generator)
        width = BLUR * side
        radius = max(1, round(2.5 * width))
        places = torch.arange(-radius, radius + 1, dtype=torch.float32)
        kernel = torch.exp(-places.square() / (2 * max(width, 0.1) ** 2))
        self.kernel, self.radius = kernel / kernel.sum(), radius

    def __call__(self, pictures: Tensor) -> Tensor:
        """Pictures `[b c h w]` as seen, of the same size; differentiable."""
        channels, (height, width) = pictures.shape[1], pictures.shape[-2:]
        kernel = self.kernel.to(pictures)
        x = F.pad(pictures, (self.radius,) * 4, "replicate")
        x = F.conv2d(x, kernel[None, None, :, None].expand(channels, 1, -1, 1), groups=channels)
        x = F.conv2d(x, kernel[None, None, None].expand(channels, 1, 1, -1), groups=channels)
        x = F.pad(x, (self.reach,) * 4, "replicate")
        top, left = self.shift
        return x[..., top : top + height, left : left + width] + self.noise.to(pictures)
