"""Predictions of a model and of fine-tuned ones, mixed by noise level.

DiffusionCLIP, Kim et al. 2022, arXiv 2110.02711, section 3.4.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...denoiser import Bottleneck, Denoiser, Noising
from ...edit_schedule import EditSchedule
from ...networks.weight_difference import WeightDelta


@dataclass(frozen=True)
class Share:
    """A fine-tuned model's share of the prediction.

    ``schedule.strength`` inside its window, the paper's degree of change.
    """

    weights: WeightDelta
    schedule: EditSchedule


class Mixed:
    """A mixture ``(1 - r_1 - r_2 ...) model(x, sigma) + r_1 tuned_1(x, sigma) + r_2 ...``.

    The shares depend on the noise level.

    As denoised pictures mix as noise estimates do, this is the paper's sum of epsilons, for the degree of change as for
    several attributes. Where no share acts it is the model itself, bit for bit.

    Args:
        model: any denoiser.
        net: the network inside of it, whose weights are exchanged during a call and put back.
        shares: any number.

    Raises:
        ValueError: weights for another model.
    """

    def __init__(self, model: Denoiser, net: nn.Module, shares: Sequence[Share]):
        for share in shares:
            share.weights.check_model(model.fingerprint, net)
        self.model = model
        self.net = net
        self.shares = tuple(shares)
        self.layers = model.layers
        self.fingerprint = model.fingerprint
        self.noising: Noising = model.noising

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Mix the denoised pictures `[b c h w]`; models without a share are not run."""
        rest, acting = self._at(sigma)
        total = rest * self.model(x, sigma) if rest or not acting else None
        if not acting:
            return self.model(x, sigma) if total is None else total
        for share in acting:
            with exchanged(self.net, share.weights):
                part = share.schedule.strength * self.model(x, sigma)
            total = part if total is None else total + part
        assert total is not None  # noqa: S101 (for the type checker)
        return total

    def split(self, x: Tensor, sigma: Tensor, layer: str = "middle", smooth: bool = False) -> Bottleneck:
        """See :class:`core.denoiser.Denoiser`.

        H is the model's own; what moves it moves that of the fine-tuned ones as well.
        """
        rest, acting = self._at(sigma)
        first = self.model.split(x, sigma, layer, smooth)
        if not acting:
            return first
        parts = []
        for share in acting:
            with exchanged(self.net, share.weights):
                parts.append((share, self.model.split(x, sigma, layer, smooth)))

        def decode(h: Tensor) -> Tensor:
            total = rest * first.decode(h) if rest else torch.zeros((), device=h.device, dtype=h.dtype)
            for share, part in parts:
                with exchanged(self.net, share.weights):
                    total = total + share.schedule.strength * part.decode(part.h + (h - first.h))
            return total

        return Bottleneck(first.h, decode, layer)

    def _at(self, sigma: Tensor) -> tuple[float, list[Share]]:
        """Find the model's own share, and the others that act."""
        level = float(sigma.max())
        acting = [share for share in self.shares if share.schedule.acts(level)]
        rest = 1.0 - sum(share.schedule.strength for share in acting)
        return (0.0 if abs(rest) < 1e-9 else rest), acting


@contextmanager
def exchanged(net: nn.Module, weights: WeightDelta) -> Iterator[None]:
    """Give ``net`` the fine-tuned weights inside; after, the very tensors that it had."""
    before: list[tuple[dict, str, nn.Parameter]] = []
    try:
        for prefix, module in net.named_modules():
            for name, value in module._parameters.items():
                if value is None:
                    continue
                more = weights.of(f"{prefix}.{name}" if prefix else name, value)
                if more is not None:
                    before.append((module._parameters, name, value))
                    module._parameters[name] = nn.Parameter(value.detach() + more, requires_grad=False)
        yield
    finally:
        for store, name, value in before:
            store[name] = value
