"""Structure of faces without DINO: features of the attribute regressor (stand-in for arXiv 2104.14294)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .regressor import SIZE, Regressor


class FaceFeatures:
    """The stand-in in the face world: what the attribute regressor sees, at 16x16 places.

    Unlike DINO it sees colours as much as shapes.

    Args:
        regressor: of the face world.
    """

    name = "face regressor, layer 2 (stand-in for DINO)"

    def __init__(self, regressor: Regressor):
        self.layers = regressor.features[
            :5
        ]  # two convolutions; the second before its activation, as keys of a transformer are

    def __call__(self, images: Tensor) -> Tensor:
        """See :class:`Features`."""
        if images.shape[-2:] != (SIZE, SIZE):
            images = F.interpolate(images, (SIZE, SIZE), mode="bilinear", antialias=True)
        device = next(self.layers.parameters()).device
        return self.layers(images.to(device, torch.float32) * 2 - 1).flatten(2).mT
