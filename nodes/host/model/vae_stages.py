"""The decoder of the host's picture autoencoder, block by block."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from comfy.ldm.models.autoencoder import AutoencoderKL, AutoencodingEngineLegacy
from comfy.ldm.modules.diffusionmodules.model import Decoder, nonlinearity
from torch import Tensor

from ....core.chain import Stage


def vae_stages(vae: Any) -> list[Stage]:
    """Stages from latents to pictures; a single one of an autoencoder that is built in another way."""
    decoder: Any = getattr(vae, "decoder", None)
    if not _is_stock(vae, decoder) or vae.bn is not None or vae.max_batch_size is not None:
        return [vae.decode]
    stages: list[Stage] = [partial(_begin, vae)]
    levels: list[Any] = list(decoder.up)
    for i, level in reversed(list(enumerate(levels))):
        for j in range(decoder.num_res_blocks + 1):
            stages.append(partial(_run_block, level, j))
        if i:
            stages.append(level.upsample)
    return [*stages, partial(_finish, decoder)]


def _is_stock(vae: Any, decoder: Any) -> bool:
    """Tell whether a decoder is the host's, and nobody else has put another way of running on it.

    Tiling packs replace ``decode`` or ``forward`` of the instance, others hook the whole of it.
    """
    if type(vae) not in (AutoencoderKL, AutoencodingEngineLegacy) or type(decoder) is not Decoder:
        return False
    replaced = "decode" in vars(vae) or "forward" in vars(decoder) or getattr(decoder, "carried", False)
    return not (replaced or decoder._forward_hooks or decoder._forward_pre_hooks)


def _begin(vae: Any, z: Tensor) -> Tensor:
    mid = vae.decoder.mid
    h = mid.block_1(vae.decoder.conv_in(vae.post_quant_conv(z)), None)
    return mid.block_2(mid.attn_1(h), None)


def _run_block(level: Any, j: int, h: Tensor) -> Tensor:
    h = level.block[j](h, None)
    return level.attn[j](h) if len(level.attn) else h


def _finish(decoder: Any, h: Tensor) -> Tensor:
    picture = decoder.conv_out(nonlinearity(decoder.norm_out(h)))
    return torch.tanh(picture) if decoder.tanh_out else picture
