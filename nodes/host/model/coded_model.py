"""A diffusion autoencoder as a stock MODEL: its CONDITIONING is the semantic code, so that any sampler of the host decodes it."""

from __future__ import annotations

from typing import Any

import comfy.conds
import comfy.model_base
import comfy.model_management
import torch
from torch import Tensor

from ...core.codes import CodeSpace
from ...core.networks.diffae import Coded, DiffAENet
from ...core.networks.diffae_io import Autoencoder
from .codes import KEY
from .model import PixelUNet, make_model


class CodedUNet(PixelUNet):
    """The U-Net of a DiffAE or HDAE; the host's ``context`` `[b l z]` is the code."""

    net: DiffAENet

    def __init__(self, source: Autoencoder, channels: int):
        super().__init__(source, channels)
        self.space, self.latent, self.image_size = source.space, source.latent, source.image_size

    def _given(self, context: Tensor | None) -> Coded:
        if context is None or context.shape[1:] != (self.space.levels, self.space.shape[-1]):
            raise ValueError(f"expected a semantic code {['b', self.space.levels, self.space.shape[-1]]}, got {_shape(context)}; {_REMEDY}")
        return Coded(self.net, context.reshape(len(context), *self.space.shape))


class CodedModel(comfy.model_base.BaseModel):
    """The host's model around it, which looks at a CONDITIONING before anything is sampled."""

    def extra_conds(self, **kwargs) -> dict[str, Any]:
        """The code, if it is one of this model and none of a batch is left over."""
        code, facts, noise = kwargs.get("cross_attn"), kwargs.get(KEY), kwargs.get("noise")
        net: Any = self.diffusion_model
        if not isinstance(facts, dict) or code is None:
            raise ValueError(f"this model draws from a semantic code, the CONDITIONING connected is a text prompt or empty; {_REMEDY}")
        if facts.get("fingerprint") != net.space.fingerprint:
            raise ValueError(
                f"the semantic code was made by another model ({facts.get('fingerprint')!s:.12}) than this one ({net.space.fingerprint}); "
                f"{_REMEDY}, with this MODEL"
            )
        if noise is not None and len(code) > len(noise):  # the host would drop the others without a word
            raise ValueError(
                f"{len(code)} semantic codes need as many latents, got {len(noise)}; give the sampler a batch of {len(code)}: the noise latents "
                "of the same pictures, Vary Noise with as many variants, or Repeat Latent Batch"
            )
        return {"c_crossattn": comfy.conds.CONDCrossAttn(code)}


_REMEDY = "connect Encode Semantic Code to positive and negative (cfg 1 uses the positive alone)"


def _shape(context: Tensor | None) -> str:
    return "none" if context is None else str(list(context.shape))


def make_autoencoder(source: Autoencoder):
    """Wrap a DiffAE or HDAE as the host's ModelPatcher (the MODEL socket)."""
    return make_model(source, kind=CodedUNet, base=CodedModel)


def check_coded(model) -> CodedUNet:
    """The network of a MODEL that draws from semantic codes.

    Raises:
        ValueError: it is another one.
    """
    net = model.model.diffusion_model
    if not isinstance(net, CodedUNet):
        raise ValueError(
            f"this node needs a diffusion autoencoder, but the MODEL connected is a {type(net).__name__}; connect Load Face DiffAE or Load DiffAE"
        )
    return net


def space_of(model) -> CodeSpace:
    """The codes of a MODEL.

    Raises:
        ValueError: it is no diffusion autoencoder.
    """
    return check_coded(model).space


def encode_pictures(model, pictures: Tensor, batch: int = 64) -> Tensor:
    """Codes of pictures.

    Args:
        model: MODEL.
        pictures: `[b 3 h w]` in -1..1; only ``batch`` of them at a time go to the model's device.
        batch: how many at once.

    Returns:
        `[b z]` or `[b l z]` on the CPU.
    """
    net = check_coded(model)
    comfy.model_management.load_models_gpu([model], memory_required=model.memory_required([min(batch, len(pictures)), *pictures.shape[1:]]))
    parts = []
    for part in pictures.split(batch):
        comfy.model_management.throw_exception_if_processing_interrupted()
        parts.append(net.net.encoder(part.to(model.load_device, torch.float32)).float().cpu())
    return torch.cat(parts)
