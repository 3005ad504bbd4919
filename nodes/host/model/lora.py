"""LORA_MODEL as low-rank layers and back, in the names that the host maps, and what fitting one to a picture asks of
the host.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import comfy.lora
import comfy.lora_convert
import comfy.weight_adapter
import torch
from comfy.ldm.models.autoencoder import DiagonalGaussianRegularizer
from comfy.ldm.modules.attention import attention_pytorch
from torch import Tensor, nn

from ....core.files.diffusionclip import LoraWeights
from ....core.networks.low_rank import Pair
from ....core.text import quoted
from .images import encode
from .latents import latents_in
from .own_attention import OVERRIDE

PREFIX = "diffusion_model."
# of the logarithm of a posterior's variance, as in the host
_SHORTEST = -30.0
_LONGEST = 20.0


def lora_model(pairs: Mapping[str, Pair], facts: dict[str, Any]) -> LoraWeights:
    """A LORA_MODEL, by the names of layers in the network; without an alpha, so strength 1 is what was trained."""
    tensors = {}
    for name, (up, down) in pairs.items():
        tensors[f"{PREFIX}{name}.lora_up.weight"] = up
        tensors[f"{PREFIX}{name}.lora_down.weight"] = down
    return LoraWeights(tensors, facts)


def low_rank(model, lora: Mapping[str, Tensor], name: str) -> dict[str, Pair]:
    """The differences in a LORA_MODEL or LoRA file by the names of layers in ``model.model``, on its device.

    Raises:
        ValueError: nothing in it belongs to this model, or it changes more than linear layers.
    """
    known = comfy.lora.model_lora_keys_unet(model.model, {})
    loaded = comfy.lora.load_lora(comfy.lora_convert.convert_lora(dict(lora)), known, log_missing=False)
    if not loaded:
        raise ValueError(
            f"{name}: no weight in it belongs to this model; connect the LORA_MODEL that Fit Image LoRA made with this"
            " MODEL"
        )
    pairs: dict[str, Pair] = {}
    for key, adapter in loaded.items():
        layer = str(key).removesuffix(".weight")
        parts = adapter.weights if isinstance(adapter, comfy.weight_adapter.LoRAAdapter) else (None,) * 6
        up, down, alpha = parts[:3]
        linear = str(key).endswith(".weight") and isinstance(model.model.get_submodule(layer), nn.Linear)
        if not linear or up is None or down is None or any(p is not None for p in parts[3:6]) or up.dim() != 2:
            raise ValueError(
                f"{name}: {quoted(layer, 80)} is not a plain low-rank difference of a linear layer, which is all that"
                " can differ from frame to frame; use Fit Image LoRA, or put this LoRA on the MODEL for all frames"
            )
        scale = 1.0 if alpha is None else float(alpha) / down.shape[0]
        pairs[layer] = (up.to(model.load_device, torch.float32) * scale, down.to(model.load_device, torch.float32))
    return pairs


def with_fused_attention(model):
    """A clone of MODEL whose attention has a gradient at a fraction of the memory of one written out."""
    clone = model.clone()
    clone.model_options["transformer_options"][OVERRIDE] = lambda _, *args, **kwargs: attention_pytorch(*args, **kwargs)
    return clone


def posterior(model, vae, image: Tensor) -> tuple[Tensor, Callable[[torch.Generator], Tensor], bool]:
    """The clean state of a picture, a function that draws it anew from the VAE's posterior, and whether there is such a
    posterior.

    Raises:
        ValueError: see :func:`.images.encode`.
    """
    network = getattr(vae, "first_stage_model", None)
    regularizer = getattr(network, "regularization", None)
    moments: list[Tensor] = []
    handle = None
    if isinstance(regularizer, DiagonalGaussianRegularizer) and getattr(network, "bn", None) is None:
        handle = regularizer.register_forward_hook(lambda _, args, __: moments.append(args[0].detach().float()))
    try:
        x0 = encode(model, vae, image)
    finally:
        if handle is not None:
            handle.remove()
    mean, logvar = moments[0].chunk(2, 1) if len(moments) == 1 else (None, None)
    if mean is None or logvar is None or mean.shape != x0.shape:  # no posterior, or the host encoded in tiles
        return x0, lambda _: x0, False
    deviation = (0.5 * logvar.clamp(_SHORTEST, _LONGEST)).exp()

    def draw(generator: torch.Generator) -> Tensor:
        fresh = mean + deviation * torch.randn(mean.shape, generator=generator).to(mean)
        return latents_in(model, fresh).to(x0)

    return x0, draw, True
