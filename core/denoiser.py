"""What every method of the pack asks of a model: a denoiser in the sigma dialect that can be split at a layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch._C._functorch import get_unwrapped, is_batchedtensor, is_functorch_wrapped_tensor

Callback = Callable[[dict], None]
"""Called once a step with ``{"i", "n", "x", "sigma", "denoised"}`` (what is known); may raise to cancel. The only side
channel."""


Noising = Literal["sigma", "flow"]
"""``sigma``: states are ``x0 + sigma n``. ``flow``: they are ``(1 - sigma) x0 + sigma n`` (rectified flow)."""


def report_step(callback: Callback | None, i: int, n: int, **state: object) -> None:
    """Call ``callback``, if there is one, with step ``i`` of ``n`` and what is known of its ``state``."""
    if callback is not None:
        callback({"i": i, "n": n, **state})


@dataclass(frozen=True)
class Bottleneck:
    """A network stopped halfway.

    Attributes:
        h: activations at ``layer``, `[b c h w]`.
        decode: the half below: h `[b c h w]` -> denoised `[b c h w]`. With one sample captured, h may hold any number.
        layer: where the network was split.
        smooth: ``decode`` with kernels that can be differentiated in every mode; None where ``decode`` has no others.
        fused: ``decode`` with kernels that can be differentiated backwards alone, and take less memory; None where
            there are no others.
        make_room: asks whoever manages memory to free so many bytes where h lives; None where nobody does.

    Where they are a :class:`core.chain.Chain`, they can be differentiated stage by stage.
    """

    h: Tensor
    decode: Callable[[Tensor], Tensor]
    layer: str
    smooth: Callable[[Tensor], Tensor] | None = None
    fused: Callable[[Tensor], Tensor] | None = None
    make_room: Callable[[int], None] | None = None


@runtime_checkable
class Denoiser(Protocol):
    """``model(x, sigma) -> denoised``, with ``eps = (x - denoised) / sigma``.

    Attributes:
        layers: names of the layers where :meth:`split` can stop; the first is ``middle``, the h-space.
        fingerprint: short hex digest of the architecture and weights, and after a "+" that of the patches on top of
            them, if any (LoRA). A trajectory refuses any other model; directions serve whatever is built on the same
            weights.
        noising: how states are noised. Euler steps are the same for both; what is scaled or noised is not.
    """

    layers: tuple[str, ...]
    fingerprint: str
    noising: Noising

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Predict the clean image `[b c h w]` of a state ``x`` `[b c h w]` at ``sigma`` `[b]`."""
        ...

    def split(self, x: Tensor, sigma: Tensor, layer: str = "middle", smooth: bool = False) -> Bottleneck:
        """Run the half above ``layer`` once. ``decode(h)`` of the result equals ``model(x, sigma)``.

        ``smooth`` asks for an h that can be differentiated with respect to x in every mode.
        Layer ``x`` is the state itself: h is x, and decode the whole model (for one sample, any number may be decoded).
        """
        ...


class NotFinite(ValueError):
    """A network gave NaN or infinite values, or was asked about some; which of the two, and at which noise level."""


def all_finite(value: Tensor) -> bool:
    """Say whether nothing in ``value`` is NaN or infinite.

    Inside of ``vmap``, where it cannot be looked at, True: what is around it is. So it is of tensors that hold nothing,
    ``meta`` ones and those that stand in for others while a pass is foreseen.
    """
    while is_functorch_wrapped_tensor(value):
        if is_batchedtensor(value):
            return True
        value = get_unwrapped(value)
    return value.is_meta or hasattr(value, "fake_mode") or bool(torch.isfinite(value).all())


def check_finite(x: Tensor, sigma: Tensor | float, denoised: Tensor) -> Tensor:
    """Return ``denoised`` `[b ...]` of a network as it is, if all of it is finite (see :func:`all_finite`).

    Args:
        x: what the network was asked about, `[b ...]`.
        sigma: at which level, `[b]` or a number.
        denoised: what it gave.

    Raises:
        NotFinite: it is not; whose fault it is: that of the network, or of the state it was given.
    """
    if all_finite(denoised):
        return denoised
    good = torch.isfinite(denoised).flatten(1).all(1).cpu()
    level = float(torch.as_tensor(sigma).detach().cpu().reshape(-1).expand(len(good))[~good][0])
    if not all_finite(x):
        raise NotFinite(
            f"the state that goes into the network at sigma {level:.4g} holds NaN or infinite values; check the latent,"
            " the noise and the edits before it"
        )
    raise NotFinite(
        f"the network gave NaN or infinite values at sigma {level:.4g}: half precision overflows there (try fp32 or"
        " bf16), or what was added to the model does it (a patch, a LoRA, a training whose learning rate is too high)"
    )


def predict(model: Callable[[Tensor, Tensor], Tensor], x: Tensor, sigma: Tensor) -> Tensor:
    """Predict ``model(x, sigma)``, `[b c h w]`, and refuse what is not finite.

    Raises:
        NotFinite: it is not.
    """
    return check_finite(x, sigma, model(x, sigma))


def to_eps(x: Tensor, sigma: Tensor | float, denoised: Tensor) -> Tensor:
    """Noise estimate ``(x - denoised) / sigma``, whatever the network was trained to predict."""
    if isinstance(sigma, Tensor) and sigma.dim():
        sigma = sigma.reshape(-1, *(1,) * (x.dim() - 1))
    return (x - denoised) / sigma
