"""A rectified denoiser (Hou et al. 2023, arXiv 2312.15707, section 3): the network corrects itself towards a picture it is shown."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from ..denoiser import Bottleneck, Denoiser
from ..networks.rectifier import Kernels, Rectifier, own_weight, rectified

_ROUNDING = 1e-5  # hosts hand sigma over in float32
WeightOf = Callable[[nn.Conv2d, Tensor], Tensor]


class Rectified:
    """``model(x, sigma)`` with the rectifier's kernels; the plain prediction is made first and shown to it.

    Args:
        model: any denoiser.
        net: the network inside of it.
        rectifier: trained for reconstruction.
        x0: the pictures `[b c h w]` that are edited, one for all samples or one each, as states of the model.
        edit: a rectifier trained for an edit, or None.
        strength: between reconstruction (0) and edit (1); beyond is more.
        amount: of the whole correction; 0 is the model itself, bit for bit.
        tops: noisiest levels at which ``rectifier`` and ``edit`` act; above, the model is itself.
        plain: what is shown to the rectifier, if that is not ``model``: a model without steering, as it was trained.
        weight_of: see :func:`core.networks.rectifier.rectified`.
    """

    def __init__(
        self, model: Denoiser, net: nn.Module, rectifier: Rectifier, x0: Tensor, edit: Rectifier | None = None, strength: float = 1.0,
        amount: float = 1.0, tops: tuple[float, float] = (math.inf, math.inf), plain: Denoiser | None = None,
        weight_of: WeightOf = own_weight,
    ):  # fmt: skip
        self.model, self.net, self.rectifier, self.x0, self.plain, self.weight_of = model, net, rectifier, x0, plain or model, weight_of
        self.edit, self.strength, self.amount = edit, strength, amount
        self.tops = tuple(top * (1 + _ROUNDING) for top in tops)
        self.layers, self.fingerprint = model.layers, model.fingerprint

    def kernels(self, x: Tensor, sigma: Tensor) -> Kernels:
        """Kernels for a state.

        Raises:
            ValueError: pictures of another size or number.
        """
        if self.x0.shape[1:] != x.shape[1:] or len(self.x0) not in (1, len(x)):
            raise ValueError(
                f"the rectifier was shown {len(self.x0)} pictures of {list(self.x0.shape[1:])}, the state has {len(x)} of "
                f"{list(x.shape[1:])}; sample the pictures of the trajectory that Apply Rectifier was given"
            )
        plain, x0, sigma = self.plain(x, sigma), self.x0.to(x).expand_as(x), sigma.to(x)
        found = self.rectifier(x0, plain, sigma)
        if self.edit is not None and float(sigma.max()) <= self.tops[1]:
            return blended(found, self.edit(x0, plain, sigma), self.strength, self.amount)
        return {name: (a, self.amount * b) for name, (a, b) in found.items()}

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Rectified denoised picture."""
        if not self._acts(sigma):
            return self.model(x, sigma)
        with self._on(self.kernels(x, sigma)):
            return self.model(x, sigma)

    def split(self, x: Tensor, sigma: Tensor, layer: str = "middle", smooth: bool = False) -> Bottleneck:
        """See :class:`core.denoiser.Denoiser`: rectified above and below the layer, so that steering and rectifier combine."""
        if not self._acts(sigma):
            return self.model.split(x, sigma, layer, smooth)
        kernels = self.kernels(x, sigma)
        with self._on(kernels):
            part = self.model.split(x, sigma, layer, smooth)

        def decode(h: Tensor) -> Tensor:
            with self._on(kernels):
                return part.decode(h)

        return Bottleneck(part.h, decode, layer)

    def _acts(self, sigma: Tensor) -> bool:
        return bool(self.amount) and float(sigma.max()) <= self.tops[0]

    def _on(self, kernels: Kernels) -> AbstractContextManager[None]:
        return rectified(self.net, kernels, self.weight_of)


def blended(rebuild: Kernels, edit: Kernels, strength: float, amount: float = 1.0) -> Kernels:
    """Offsets ``amount (K_rec + strength (K_edit - K_rec))`` of two rectifiers, term by term."""
    return {
        name: (torch.cat([a, edit[name][0]], 1), torch.cat([amount * (1 - strength) * b, amount * strength * edit[name][1]], 1))
        for name, (a, b) in rebuild.items()
    }
