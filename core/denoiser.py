"""What every method of the pack asks of a model: a denoiser in the sigma dialect that can be split at a layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

Callback = Callable[[dict], None]
"""Called once a step with ``{"i", "n", "x", "sigma", "denoised"}`` (what is known); may raise to cancel. The only side channel."""


@dataclass(frozen=True)
class Bottleneck:
    """A network stopped halfway.

    Attributes:
        h: activations at ``layer``, `[b c h w]`.
        decode: the half below: h `[b c h w]` -> denoised `[b c h w]`. With one sample captured, h may hold any number.
        layer: where the network was split.
        smooth: ``decode`` with kernels that can be differentiated in every mode; None where ``decode`` has no others.
    """

    h: Tensor
    decode: Callable[[Tensor], Tensor]
    layer: str
    smooth: Callable[[Tensor], Tensor] | None = None


@runtime_checkable
class Denoiser(Protocol):
    """``model(x, sigma) -> denoised``, with ``eps = (x - denoised) / sigma``.

    Attributes:
        layers: names of the layers where :meth:`split` can stop; the first is ``middle``, the h-space.
        fingerprint: short hex digest of the architecture and weights, and after a "+" that of the patches on top of them, if any
            (LoRA). A trajectory refuses any other model; directions serve whatever is built on the same weights.
    """

    layers: tuple[str, ...]
    fingerprint: str

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Expected clean image. ``x`` `[b c h w]`, ``sigma`` `[b]` -> `[b c h w]`."""
        ...

    def split(self, x: Tensor, sigma: Tensor, layer: str = "middle", smooth: bool = False) -> Bottleneck:
        """Run the half above ``layer`` once. ``decode(h)`` of the result equals ``model(x, sigma)``.

        ``smooth`` asks for an h that can be differentiated with respect to x in every mode.
        Layer ``x`` is the state itself: h is x, and decode the whole model (for one sample, any number may be decoded).
        """
        ...


def is_flow(model: object) -> bool:
    """Whether the states of ``model`` are ``(1 - sigma) x0 + sigma n`` (rectified flow) and not ``x0 + sigma n``.

    A denoiser of such a model has an attribute ``flow``. Euler steps are the same for both; what is scaled or noised is not.
    """
    return bool(getattr(model, "flow", False))


def to_eps(x: Tensor, sigma: Tensor | float, denoised: Tensor) -> Tensor:
    """Noise estimate ``(x - denoised) / sigma``, whatever the network was trained to predict."""
    if isinstance(sigma, Tensor) and sigma.dim():
        sigma = sigma.reshape(-1, *(1,) * (x.dim() - 1))
    return (x - denoised) / sigma
