"""A latent model seen through its autoencoder, so that a derivative ends in pixels (LOCO Edit, arXiv 2409.02374, on Stable Diffusion)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import comfy.model_management
import torch
from torch import Tensor

from ...core.denoiser import Bottleneck, Denoiser
from ...core.discover.precision import Widened
from .memory import held_in_place
from .model import PixelUNet

_GRAPH = 4  # decodings whose memory a graph with room for a few vectors takes, roughly


class Decoder:
    """Clean states -> pictures `[b 3 H W]` in about -1..1, differentiable in every mode; the identity for pixel models.

    Args:
        patcher: MODEL, loaded.
        vae: VAE of its checkpoint; pixel models ignore it.
        shape: of the states.

    Raises:
        ValueError: a latent model lacks its VAE, or the VAE does not decode such latents into pictures.
    """

    def __init__(self, patcher, vae, shape: tuple[int, ...] | torch.Size):
        self.networks: list[torch.nn.Module] = []
        self._model = patcher.model
        if isinstance(patcher.model.diffusion_model, PixelUNet):
            return
        if vae is None:
            raise ValueError("this model works in latents; connect the VAE of its checkpoint to 'vae'")
        vae.throw_exception_if_invalid()
        if vae.latent_dim != 2 or vae.latent_channels != shape[1]:
            raise ValueError(
                f"this model needs a VAE of pictures with {shape[1]} latent channels, the one connected has {vae.latent_channels}"
                f"{'' if vae.latent_dim == 2 else ' and is not for pictures'}; connect the VAE of the same checkpoint"
            )
        held = held_in_place(vae.patcher)
        room = _GRAPH * vae.memory_used_decode(tuple(shape), torch.float32)
        comfy.model_management.load_models_gpu([patcher, held], memory_required=room)
        self.networks, self._wide = [held.model], Widened()

    def __call__(self, x: Tensor) -> Tensor:
        """See the class."""
        if not self.networks:
            return x
        vae: Any = self.networks[0]
        with self._wide, _plain_attention(vae):
            return vae.decode(self._model.process_latent_out(x.float()))


class Pictures:
    """A denoiser of latents whose outputs are pictures, `[b 3 H W]` in about -1..1.

    Args:
        denoiser: of latents.
        decode: what makes a picture of them.
    """

    def __init__(self, denoiser: Denoiser, decode: Decoder):
        self.layers, self.fingerprint = denoiser.layers, denoiser.fingerprint
        self._denoiser, self._decode = denoiser, decode

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Denoised picture."""
        return self._decode(self._denoiser(x, sigma))

    def split(self, x: Tensor, sigma: Tensor, layer: str = "middle", smooth: bool = False) -> Bottleneck:
        """See :class:`core.denoiser.Denoiser`."""
        part = self._denoiser.split(x, sigma, layer, smooth)
        inner = part.smooth or part.decode
        return Bottleneck(part.h, lambda h: self._decode(inner(h)), layer)


@contextmanager
def _plain_attention(net: torch.nn.Module) -> Iterator[None]:
    """The autoencoder's attention written out: fused kernels have no forward mode, sliced ones write in place."""
    blocks: list[tuple[Any, Any]] = [(block, block.optimized_attention) for block in net.modules() if hasattr(block, "optimized_attention")]
    try:
        for block, _ in blocks:
            block.optimized_attention = _attention
        yield
    finally:
        for block, before in blocks:
            block.optimized_attention = before


def _attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """`[b c h w]` each: one head."""
    shape = q.shape
    q, k, v = (t.flatten(2).transpose(1, 2) for t in (q, k, v))
    out = ((q * q.shape[-1] ** -0.5) @ k.transpose(1, 2)).softmax(-1) @ v
    return out.transpose(1, 2).reshape(shape)
