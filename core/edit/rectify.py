"""A rectified denoiser (Hou et al. 2023, arXiv 2312.15707, section 3): the network corrects itself towards a picture it is shown."""

from __future__ import annotations

import torch
from torch import Tensor

from ..denoiser import Bottleneck
from ..networks.rectifier import Kernels, Rectifier, rectified
from ..networks.vp import VPDenoiser


class Rectified:
    """``model(x, sigma)`` with the rectifier's kernels; the plain prediction is made first and shown to it.

    Args:
        model: any of our denoisers.
        rectifier: trained for reconstruction.
        x0: the pictures `[b c h w]` that are edited, one for all samples or one each.
        edit: a rectifier trained for an edit, or None.
        strength: between reconstruction (0) and edit (1); beyond is more.
        amount: of the whole correction; 0 is the model itself, bit for bit.
    """

    def __init__(
        self, model: VPDenoiser, rectifier: Rectifier, x0: Tensor, edit: Rectifier | None = None, strength: float = 1.0, amount: float = 1.0
    ):
        self.model, self.rectifier, self.x0 = model, rectifier, x0
        self.edit, self.strength, self.amount = edit, strength, amount
        self.layers, self.fingerprint = model.layers, model.fingerprint

    def kernels(self, x: Tensor, sigma: Tensor) -> Kernels:
        """Kernels for a state."""
        plain = self.model(x, sigma)
        x0 = self.x0.expand_as(x) if len(self.x0) == 1 else self.x0
        found = self.rectifier(x0, plain, sigma)
        if self.edit is not None:
            return blended(found, self.edit(x0, plain, sigma), self.strength, self.amount)
        return {name: (a, self.amount * b) for name, (a, b) in found.items()}

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Rectified denoised picture."""
        if not self.amount:
            return self.model(x, sigma)
        with rectified(self.model.net, self.kernels(x, sigma)):
            return self.model(x, sigma)

    def split(self, x: Tensor, sigma: Tensor, layer: str = "middle", smooth: bool = False) -> Bottleneck:
        """See :class:`core.denoiser.Denoiser`: rectified above and below the layer, so that steering and rectifier combine."""
        if not self.amount:
            return self.model.split(x, sigma, layer, smooth)
        kernels, net = self.kernels(x, sigma), self.model.net
        with rectified(net, kernels):
            part = self.model.split(x, sigma, layer, smooth)

        def decode(h: Tensor) -> Tensor:
            with rectified(net, kernels):
                return part.decode(h)

        return Bottleneck(part.h, decode, layer)


def blended(rebuild: Kernels, edit: Kernels, strength: float, amount: float = 1.0) -> Kernels:
    """Offsets ``amount (K_rec + strength (K_edit - K_rec))`` of two rectifiers, term by term."""
    return {
        name: (torch.cat([a, edit[name][0]], 1), torch.cat([amount * (1 - strength) * b, amount * strength * edit[name][1]], 1))
        for name, (a, b) in rebuild.items()
    }
