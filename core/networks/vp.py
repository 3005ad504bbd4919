"""A VP-trained network as a Denoiser.

The preconditioning of Karras et al. 2022, arXiv 2206.00364, table 1, columns VP and v.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from ..chain import Chain
from ..denoiser import Bottleneck, Noising, check_finite
from ..schedule import Schedule, denoised_of_v, to_vp
from .ddpm import DDPMUNet
from .diffae import Coded
from .guided import GuidedUNet

Prediction = Literal["eps", "v"]


class VPDenoiser:
    """Wraps ``net(x_vp, t)``; the step is the integer nearest in log sigma, as in the host.

    Args:
        net: a network with ``layers`` and ``split(x, t, layer)``, such as ``DDPMUNet``, ``GuidedUNet`` or ``Coded``.
        schedule: its noise schedule.
        prediction: what the network returns, ``eps`` or ``v``. If it returns twice the image channels (learned sigma),
            the first half is used.
        fingerprint: digest of the weights; computed if not given.
        trained_at: side in pixels of its training pictures, and whether the file says so or it is a guess; None if
            unknown.
    """

    noising: Noising = "sigma"

    def __init__(
        self,
        net: DDPMUNet | GuidedUNet | Coded,
        schedule: Schedule,
        prediction: Prediction = "eps",
        fingerprint: str | None = None,
        trained_at: tuple[int, bool] | None = None,
    ):
        if prediction not in ("eps", "v"):
            raise ValueError(f"prediction must be 'eps' or 'v', got {prediction!r}")
        self.net = net
        self.schedule = schedule
        self.trained_at = trained_at
        self.prediction: Prediction = prediction
        self.layers: tuple[str, ...] = net.layers
        self.fingerprint = fingerprint or state_fingerprint(net.state_dict())

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Denoise ``x`` `[b c h w]` at ``sigma`` `[b]`."""
        bottleneck = self.split(x, sigma)
        return bottleneck.decode(bottleneck.h)

    def split(self, x: Tensor, sigma: Tensor, layer: str = "middle", smooth: bool = False) -> Bottleneck:
        """See :class:`core.denoiser.Denoiser`."""
        if sigma.shape != (x.shape[0],):
            raise ValueError(f"sigma must be [{x.shape[0]}], one value a sample; got {list(sigma.shape)}")
        t = self.schedule.t(sigma).round().to(x.device)
        if layer == "x":
            net = self.net.whole(t)
            scale = Chain([lambda y: to_vp(y, sigma)])
            chain = scale.then(net).beside_input()
            return Bottleneck(x, chain.then(lambda pair: self._denoised(pair[0], pair[1], sigma)), layer)
        h, decode = self.net.split(to_vp(x, sigma), t, layer)
        return Bottleneck(h, decode.then(lambda out: self._denoised(x, out, sigma)), layer)

    def _denoised(self, x: Tensor, out: Tensor, sigma: Tensor) -> Tensor:
        """What the network's output for the states ``x`` says of the clean pictures."""
        out = out[:, : x.shape[1]]
        s = sigma.to(x.dtype).reshape(-1, 1, 1, 1)
        if self.prediction == "eps":
            denoised = x - s * out
        else:
            denoised = denoised_of_v(x, out, sigma)
        return check_finite(x, sigma, denoised)


def state_fingerprint(state: Mapping[str, Tensor]) -> str:
    """Hash names, shapes and a sample of the values to twelve hex digits, independent of device and key order."""
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name]
        digest.update(f"{name}{tuple(value.shape)}".encode())
        flat = value.detach().reshape(-1)
        pick = flat[:: max(1, flat.numel() // 64)].to("cpu", torch.float16)
        digest.update(pick.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]
