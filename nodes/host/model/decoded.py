"""A latent model seen through its autoencoder, so that a derivative ends in pixels (LOCO Edit, arXiv 2409.02374, on
Stable Diffusion).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import comfy.model_management
import torch
from torch import Tensor

from ....core.chain import Chain, Stage
from ....core.denoiser import Bottleneck, Denoiser, Noising, NotFinite, all_finite
from ....core.discover.precision import Widened
from ..memory import Room, hold_in_place
from .own_attention import fused_attention
from .pixel_model import PixelUNet
from .vae_stages import vae_stages

_GRAPH = 4  # decodings whose memory a graph with room for a few vectors takes, roughly


class Decoder:
    """Clean states -> pictures `[b 3 H W]` in about -1..1, differentiable in reverse; the identity for pixel models.

    Args:
        patcher: MODEL, loaded.
        vae: VAE of its checkpoint; pixel models ignore it.
        shape: of the states.

    Raises:
        ValueError: a latent model lacks its VAE, or the VAE does not decode such latents into pictures.
    """

    def __init__(self, patcher, vae, shape: tuple[int, ...] | torch.Size):
        self.networks: list[torch.nn.Module] = []
        self.models: list[Any] = []
        self._model = patcher.model
        if isinstance(patcher.model.diffusion_model, PixelUNet):
            return
        if vae is None:
            raise ValueError("this model works in latents; connect the VAE of its checkpoint to 'vae'")
        vae.throw_exception_if_invalid()
        if vae.latent_dim == 3:
            raise ValueError(
                "this VAE is one of video models (Qwen-Image, Wan), and derivatives do not run through it; leave 'vae'"
                " unconnected: directions are then found in latents"
            )
        if vae.latent_dim != 2 or vae.latent_channels != shape[1]:
            raise ValueError(
                f"this model needs a VAE of pictures with {shape[1]} latent channels, the one connected has"
                f" {vae.latent_channels}{'' if vae.latent_dim == 2 else ' and is not for pictures'}; connect the VAE of"
                " the same checkpoint"
            )
        decoder = hold_in_place(vae.patcher)
        room = _GRAPH * vae.memory_used_decode(tuple(shape), torch.float32)
        comfy.model_management.load_models_gpu([patcher, decoder], memory_required=room)
        self.networks = [decoder.model]
        self.models = [decoder]

    def __call__(self, x: Tensor) -> Tensor:
        """See the class."""
        return self.after(Chain(), fused=True)(x)

    def after(self, denoise: Callable[[Tensor], Tensor], fused: bool = False) -> Chain:
        """Extend what gives clean states by the stages that make pictures of them.

        Args:
            denoise: gives clean states; a chain keeps its stages.
            fused: with attention that has derivatives in reverse mode alone.
        """
        chain = Chain.of(denoise)
        if not self.networks:
            return chain
        vae: Any = self.networks[0]
        attention = _fused if fused else _written_out

        def differentiable(stage: Stage) -> Stage:
            def run(h: Tensor) -> Tensor:
                # Weights are widened for one stage, and let go with it.
                with Widened(), _with_attention(vae, attention):
                    return stage(h)

            return run

        decoder = Chain([lambda x: self._model.process_latent_out(x.float()), *vae_stages(vae)])
        return chain.then(decoder.inside(differentiable)).then(_checked)


class DecodedDenoiser:
    """A denoiser of latents whose outputs are pictures, `[b 3 H W]` in about -1..1.

    Args:
        denoiser: of latents.
        decode: what makes a picture of them.
    """

    def __init__(self, denoiser: Denoiser, decode: Decoder):
        self.layers = denoiser.layers
        self.fingerprint = denoiser.fingerprint
        self.noising: Noising = denoiser.noising
        self._denoiser = denoiser
        self._decode = decode

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Denoised picture."""
        return self._decode(self._denoiser(x, sigma))

    def split(self, x: Tensor, sigma: Tensor, layer: str = "middle", smooth: bool = False) -> Bottleneck:
        """See :class:`core.denoiser.Denoiser`."""
        part = self._denoiser.split(x, sigma, layer, smooth)
        inner = part.smooth or part.decode
        whole = self._decode.after(inner)
        fused = self._decode.after(part.fused or inner, fused=True)
        room = part.make_room.beside(*self._decode.models) if isinstance(part.make_room, Room) else part.make_room
        return Bottleneck(part.h, whole, layer, whole, fused, room)


def _checked(picture: Tensor) -> Tensor:
    if not all_finite(picture):
        raise NotFinite(
            "the VAE gave NaN or infinite values when it decoded a prediction; connect another VAE of this checkpoint"
        )
    return picture


@contextmanager
def _with_attention(net: torch.nn.Module, attention: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Iterator[None]:
    """An attention of ours in the autoencoder: the host's fused kernels have no forward mode, its sliced ones write in
    place.
    """
    blocks: list[tuple[Any, Any]] = [
        (block, block.optimized_attention) for block in net.modules() if hasattr(block, "optimized_attention")
    ]
    try:
        for block, _ in blocks:
            block.optimized_attention = attention
        yield
    finally:
        for block, before in blocks:
            block.optimized_attention = before


def _written_out(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """`[b c h w]` each: one head."""
    shape = q.shape
    q, k, v = (t.flatten(2).transpose(1, 2) for t in (q, k, v))
    out = ((q * q.shape[-1] ** -0.5) @ k.transpose(1, 2)).softmax(-1) @ v
    return out.transpose(1, 2).reshape(shape)


def _fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """As :func:`_written_out`, in reverse mode alone."""
    shape = q.shape
    q, k, v = (t.flatten(2).transpose(1, 2)[:, None].contiguous() for t in (q, k, v))
    return fused_attention(_fused, q, k, v, 1, skip_reshape=True).transpose(1, 2).reshape(shape)
