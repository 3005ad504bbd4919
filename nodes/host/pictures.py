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

_GRAPH = 4  # decodings whose memory a graph with room for a few vectors takes, roughly


class Pictures:
    """A denoiser of latents whose outputs are pictures, `[b 3 8h 8w]` in about -1..1.

    Args:
        denoiser: of latents.
        patcher: its ModelPatcher as loaded.
        vae: VAE of its checkpoint.
        shape: of the latents.

    Raises:
        ValueError: the VAE does not decode latents of these channels into pictures.
    """

    def __init__(self, denoiser: Denoiser, patcher, vae, shape: tuple[int, ...] | torch.Size):
        vae.throw_exception_if_invalid()
        if vae.latent_dim != 2 or vae.latent_channels != shape[1]:
            raise ValueError(
                f"this model needs a VAE of pictures with {shape[1]} latent channels, the one connected has {vae.latent_channels}"
                f"{'' if vae.latent_dim == 2 else ' and is not for pictures'}; connect the VAE of the same checkpoint"
            )
        self.layers, self.fingerprint = denoiser.layers, denoiser.fingerprint
        self._denoiser, self._model = denoiser, patcher.model
        held = held_in_place(vae.patcher)
        room = _GRAPH * vae.memory_used_decode(tuple(shape), torch.float32)
        comfy.model_management.load_models_gpu([patcher, held], memory_required=room)
        self._vae, self._wide = held.model, Widened()

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Denoised picture."""
        return self._decoded(self._denoiser(x, sigma))

    def split(self, x: Tensor, sigma: Tensor, layer: str = "middle", smooth: bool = False) -> Bottleneck:
        """See :class:`core.denoiser.Denoiser`."""
        part = self._denoiser.split(x, sigma, layer, smooth)
        inner = part.smooth or part.decode
        return Bottleneck(part.h, lambda h: self._decoded(inner(h)), layer)

    def _decoded(self, latent: Tensor) -> Tensor:
        with self._wide, _plain_attention(self._vae):
            return self._vae.decode(self._model.process_latent_out(latent.float()))


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
