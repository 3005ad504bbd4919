"""What a MODEL is, and what it can do: flow or diffusion, latents or pixels, a bottleneck, derivatives."""

from __future__ import annotations

import comfy.model_sampling
import torch

from ....core.denoiser import Noising
from ....core.discover.quantised import check_dequantisable, is_quantised
from .pixel_model import PixelSpace
from .unet import layers_of


def check_ends(model) -> None:
    """Refuse a sampling that makes something else of the picture at the end of a sampler's run than the picture.

    Raises:
        ValueError: it does.
    """
    picture = torch.tensor([-0.5, 0.25, 1.0])
    sampling = model.get_model_object("model_sampling")
    if not torch.allclose(sampling.inverse_noise_scaling(torch.zeros(()), picture.clone()), picture):
        raise ValueError(
            "the sampling of this MODEL is that of no diffusion or flow model: it turns the picture at the end of a run"
            " (ModelSamplingDiscrete with img_to_img_flow does), so that nothing comes back; connect the MODEL from"
            " before it"
        )


def check_network(model) -> tuple[str, ...]:
    """Layers of a MODEL whose network can be cut: a U-Net, or a transformer of a class that is known.

    Raises:
        ValueError: it is neither; the class is named.
    """
    net = model.model.diffusion_model
    layers = layers_of(net)
    if layers is None:
        raise ValueError(
            "this node reads the bottleneck of a U-Net or the blocks of a transformer, but the MODEL connected is a"
            f" {type(net).__name__}, which is no U-Net and has no table of blocks; connect a Stable Diffusion, SDXL,"
            " Flux, Z-Image or Qwen-Image checkpoint, or the MODEL of Load Face Model or Load Pixel Diffusion Model"
        )
    return layers


def check_unet(model) -> tuple[str, ...]:
    """Layers of a MODEL whose network is a U-Net.

    Raises:
        ValueError: it is another one.
    """
    layers = check_network(model)
    if layers[0] != "middle":
        net = type(model.model.diffusion_model).__name__
        raise ValueError(
            f"this node needs the bottleneck of a U-Net, but the MODEL connected is a {net}, a transformer, which has"
            " none; connect a Stable Diffusion 1.x, 2.x or SDXL checkpoint, or the MODEL of Load Face Model or Load"
            " Pixel Diffusion Model"
        )
    return layers


def check_weights(model) -> None:
    """Refuse quantised weights that cannot be dequantised, as derivatives need it.

    Raises:
        ValueError: some cannot; the layer is named.
    """
    check_dequantisable(model.model.diffusion_model)


def check_trainable(model) -> None:
    """Refuse quantised weights where something is trained through them.

    Raises:
        ValueError: they are.
    """
    if is_quantised(model.model.diffusion_model):
        raise ValueError(
            "the weights of this model are quantised, and nothing is trained through quantised layers; load the fp16 or"
            " fp8 release"
        )


def is_flow(model) -> bool:
    """Whether the states of a MODEL are ``(1 - sigma) x0 + sigma n`` (Stable Diffusion 3, Flux)."""
    return isinstance(model.get_model_object("model_sampling"), comfy.model_sampling.CONST)


def is_latent(model) -> bool:
    """Whether the model works in an autoencoder's latents rather than in pixels."""
    return not isinstance(model.get_model_object("latent_format"), PixelSpace)


def noising_of(model) -> Noising:
    """Say how the states of a MODEL are noised, see :data:`core.denoiser.Noising`."""
    return "flow" if is_flow(model) else "sigma"
