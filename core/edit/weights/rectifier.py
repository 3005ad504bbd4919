"""A denoiser corrects itself towards a picture it is shown (Hou et al. 2023, arXiv 2312.15707, section 3)."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...chain import Chain, Stage
from ...denoiser import Bottleneck, Denoiser, Noising
from ...networks.rectifier import Kernels, RectifierNet, own_weight, rectified

_ROUNDING = 1e-5  # hosts hand sigma over in float32
WeightOf = Callable[[nn.Conv2d, Tensor], Tensor]


@dataclass(frozen=True)
class RectifierOptions:
    """How strongly, and where in the noise, rectifiers act.

    Attributes:
        strength: between reconstruction (0) and edit (1); beyond is more.
        amount: of the whole correction; 0 is the model itself, bit for bit.
        tops: noisiest levels at which the rectifier and its edit act; above, the model is itself.
    """

    strength: float = 1.0
    amount: float = 1.0
    tops: tuple[float, float] = (math.inf, math.inf)


class Rectified:
    """``model(x, sigma)`` with the rectifier's kernels; the plain prediction is made first and shown to it.

    Args:
        model: any denoiser.
        net: the network inside of it.
        rectifier: trained for reconstruction.
        x0: the pictures `[b c h w]` that are edited, one for all samples or one each, as states of the model.
        edit: a rectifier trained for an edit, or None.
        options: how strongly they act, and where.
        plain: what is shown to the rectifier, if that is not ``model``: a model without steering, as it was trained.
        weight_of: see :func:`core.networks.rectifier.rectified`.
    """

    def __init__(
        self,
        model: Denoiser,
        net: nn.Module,
        rectifier: RectifierNet,
        x0: Tensor,
        edit: RectifierNet | None = None,
        options: RectifierOptions | None = None,
        *,
        plain: Denoiser | None = None,
        weight_of: WeightOf = own_weight,
    ):
        self.model = model
        self.net = net
        self.rectifier = rectifier
        self.x0 = x0
        self.plain = plain or model
        self.weight_of = weight_of
        self.edit = edit
        self.options = options = options or RectifierOptions()
        self.tops = tuple(top * (1 + _ROUNDING) for top in options.tops)
        self.layers = model.layers
        self.fingerprint = model.fingerprint
        self.noising: Noising = model.noising

    def kernels(self, x: Tensor, sigma: Tensor) -> Kernels:
        """Ask the rectifiers for the kernels of a state.

        Raises:
            ValueError: pictures of another size or number.
        """
        if self.x0.shape[1:] != x.shape[1:] or len(self.x0) not in (1, len(x)):
            raise ValueError(
                f"the rectifier was shown {len(self.x0)} pictures of {list(self.x0.shape[1:])}, the state has {len(x)}"
                f" of {list(x.shape[1:])}; sample the pictures of the trajectory that Apply Rectifier was given"
            )
        plain = self.plain(x, sigma)
        x0 = self.x0.to(x).expand_as(x)
        sigma = sigma.to(x)
        kernels = self.rectifier(x0, plain, sigma)
        strength = self.options.strength
        amount = self.options.amount
        if self.edit is not None and float(sigma.max()) <= self.tops[1]:
            return blended(kernels, self.edit(x0, plain, sigma), strength, amount)
        return {name: (a, amount * b) for name, (a, b) in kernels.items()}

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Predict the rectified denoised picture."""
        if not self._acts(sigma):
            return self.model(x, sigma)
        with self._on(self.kernels(x, sigma)):
            return self.model(x, sigma)

    def split(self, x: Tensor, sigma: Tensor, layer: str = "middle", smooth: bool = False) -> Bottleneck:
        """See :class:`core.denoiser.Denoiser`.

        It is rectified above and below the layer, so that steering and rectifier combine.
        """
        if not self._acts(sigma):
            return self.model.split(x, sigma, layer, smooth)
        kernels = self.kernels(x, sigma)
        with self._on(kernels):
            part = self.model.split(x, sigma, layer, smooth)

        def rectify(stage: Stage) -> Stage:
            def run(h: Any) -> Any:
                with self._on(kernels):
                    return stage(h)

            return run

        return Bottleneck(part.h, Chain.of(part.decode).inside(rectify), layer)

    def _acts(self, sigma: Tensor) -> bool:
        return bool(self.options.amount) and float(sigma.max()) <= self.tops[0]

    def _on(self, kernels: Kernels) -> AbstractContextManager[None]:
        return rectified(self.net, kernels, self.weight_of)


def blended(rebuild: Kernels, edit: Kernels, strength: float, amount: float = 1.0) -> Kernels:
    """Blend the offsets of two rectifiers term by term: ``amount (K_rec + strength (K_edit - K_rec))``."""
    return {
        name: (
            torch.cat([a, edit[name][0]], 1),
            torch.cat([amount * (1 - strength) * b, amount * strength * edit[name][1]], 1),
        )
        for name, (a, b) in rebuild.items()
    }
