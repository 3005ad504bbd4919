"""A diffusion autoencoder as a stock MODEL: its CONDITIONING is the semantic code, so that any sampler of the host
decodes it.
"""

from __future__ import annotations

from typing import Any

import comfy.conds
import comfy.model_base
import comfy.model_management
import torch
from torch import Tensor

from ....core.codes import CodeSpace
from ....core.denoiser import NotFinite, all_finite
from ....core.files.diffae import Autoencoder
from ....core.networks.diffae import Coded, DiffAENet
from ..types import Model
from .codes import KEY
from .pixel_model import PixelUNet, make_model


class CodedUNet(PixelUNet):
    """The U-Net of a DiffAE or HDAE; the host's ``context`` `[b l z]` is the code."""

    net: DiffAENet

    def __init__(self, source: Autoencoder, channels: int):
        super().__init__(source, channels)
        self.space = source.space
        self.latent = source.latent
        self.image_size = source.image_size

    def _given(self, context: Tensor | None) -> Coded:
        if context is None or context.shape[1:] != (self.space.levels, self.space.shape[-1]):
            raise ValueError(
                f"expected a semantic code {['b', self.space.levels, self.space.shape[-1]]}, got {_shape(context)};"
                f" {_REMEDY}"
            )
        return Coded(self.net, context.reshape(len(context), *self.space.shape))


class CodedModel(comfy.model_base.BaseModel):
    """The host's model around it, which looks at a CONDITIONING before anything is sampled."""

    def extra_conds(self, **kwargs) -> dict[str, Any]:
        """The code, if it is one of this model and none of a batch is left over."""
        code = kwargs.get("cross_attn")
        facts = kwargs.get(KEY)
        noise = kwargs.get("noise")
        net: Any = self.diffusion_model
        if not isinstance(facts, dict) or code is None:
            raise ValueError(
                "this model draws from a semantic code, the CONDITIONING connected is a text prompt or empty;"
                f" {_REMEDY}"
            )
        if facts.get("fingerprint") != net.space.fingerprint:
            raise ValueError(
                f"the semantic code was made by another model ({facts.get('fingerprint')!s:.12}) than this one"
                f" ({net.space.fingerprint}); {_REMEDY}, with this MODEL"
            )
        if noise is not None and len(code) > len(noise):  # the host would drop the others without a word
            raise ValueError(
                f"{len(code)} semantic codes need as many latents, got {len(noise)}; give the sampler a batch of"
                f" {len(code)}: the noise latents of the same pictures, Vary Noise with as many variants, or Repeat"
                " Latent Batch"
            )
        return {"c_crossattn": comfy.conds.CONDCrossAttn(code)}


_REMEDY = "connect Encode Semantic Code to positive and negative (cfg 1 uses the positive alone)"


def _shape(context: Tensor | None) -> str:
    return "none" if context is None else str(list(context.shape))


def make_autoencoder(source: Autoencoder):
    """Wrap a DiffAE or HDAE as the host's ModelPatcher (the MODEL socket)."""
    return make_model(source, kind=CodedUNet, base=CodedModel)


def check_coded(model: Model) -> CodedUNet:
    """The network of a MODEL that draws from semantic codes.

    Raises:
        ValueError: it is another one.
    """
    net = model.model.diffusion_model
    if not isinstance(net, CodedUNet):
        raise ValueError(
            f"this node needs a diffusion autoencoder, but the MODEL connected is a {type(net).__name__}; connect Load"
            " Face DiffAE or Load DiffAE"
        )
    return net


def space_of(model: Model) -> CodeSpace:
    """The codes of a MODEL.

    Raises:
        ValueError: it is no diffusion autoencoder.
    """
    return check_coded(model).space


def encode_pictures(model: Model, pictures: Tensor, batch: int = 64) -> Tensor:
    """Codes of pictures.

    Args:
        model: MODEL.
        pictures: `[b 3 h w]` in -1..1; only ``batch`` of them at a time go to the model's device.
        batch: how many at once.

    Returns:
        `[b z]` or `[b l z]` on the CPU.
    """
    net = check_coded(model)
    comfy.model_management.load_models_gpu(
        [model], memory_required=model.memory_required([min(batch, len(pictures)), *pictures.shape[1:]])
    )
    parts = []
    for part in pictures.split(batch):
        comfy.model_management.throw_exception_if_processing_interrupted()
        parts.append(net.net.encoder(part.to(model.load_device, torch.float32)).float().cpu())
        if not all_finite(parts[-1]):
            raise NotFinite(
                "the encoder of this model gave NaN or infinite values for a picture; its file may be damaged, load it"
                " again"
            )
    return torch.cat(parts)
