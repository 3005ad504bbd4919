"""Pictures blurred before an embedder sees them (Gaussian; no paper).

Nothing is then trained to draw fine patterns that please it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def blurred(pictures: Tensor, share: float) -> Tensor:
    """Blur by a Gaussian with a standard deviation of ``share`` of the smaller side; 0 leaves them as they are.

    Args:
        pictures: `[b c h w]`.
        share: 0..0.2; 1/48 hides patterns of up to four pixels of a 64-pixel picture.

    Raises:
        ValueError: a share outside 0..0.2.
    """
    if not 0 <= share <= 0.2:
        raise ValueError(f"blur must lie in 0..0.2, a share of the picture's side, got {share}")
    width = share * min(pictures.shape[-2:])
    if not width:
        return pictures
    most = min(pictures.shape[-2:]) - 1
    radius = max(1, min(round(2.5 * width), most))
    places = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-places.square() / (2 * width * width))
    kernel = kernel / kernel.sum()
    kernel = kernel.to(pictures)
    channels = pictures.shape[1]
    down = kernel[None, None, :, None].expand(channels, 1, -1, 1)
    across = kernel[None, None, None].expand(channels, 1, 1, -1)
    x = F.pad(pictures, (radius,) * 4, "replicate")
    x = F.conv2d(x, down, groups=channels)
    return F.conv2d(x, across, groups=channels)
