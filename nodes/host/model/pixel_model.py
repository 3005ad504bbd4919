"""A pixel diffusion network as a stock MODEL, so that it goes into any sampler of the host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.conds
import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.model_sampling
import comfy.patcher_extension
import comfy.sd
import comfy.supported_models_base
import torch
from torch import Tensor, nn

from ....core.chain import Chain
from ....core.files.diffae import Autoencoder
from ....core.networks.ddpm import DDPMUNet
from ....core.networks.diffae import Coded
from ....core.networks.guided import GuidedUNet
from ....core.networks.vp import Prediction, VPDenoiser
from ..types import Model


class PixelSpace(comfy.latent_formats.LatentFormat):
    """Three channels in -1..1, no autoencoder: the latent is the picture."""

    latent_channels = 3
    spacial_downscale_ratio = 1  # the host's spelling
    latent_rgb_factors = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


class _Config(comfy.supported_models_base.BASE):
    unet_config = {"disable_unet_model_creation": True}  # noqa: RUF012 (the host's own form)
    latent_format = PixelSpace
    supported_inference_dtypes = [torch.float32]  # noqa: RUF012
    memory_usage_factor = 1.0

    def inpaint_model(self) -> bool:
        return False


class PixelUNet(nn.Module):
    """One of our networks behind the call that the host makes, firing the host's own U-Net patch points.

    ``middle_block_after_patch`` and ``output_block_patch`` see the same arguments as in the host's U-Net.
    """

    net: Any  # a network that `_given` gives with its conditioning
    prediction: Prediction

    def __init__(self, source: VPDenoiser | Autoencoder, channels: int):
        super().__init__()
        self.trained_at = source.trained_at
        self.layers = source.net.layers
        self.schedule = source.schedule
        self.prediction = source.prediction
        self.net = source.net
        self.channels = channels
        self.base_fingerprint = source.fingerprint
        self.dtype = torch.float32

    def denoiser(self, fingerprint: str) -> VPDenoiser:
        """The network without the host around it, for training it whole."""
        return VPDenoiser(self.net, self.schedule, self.prediction, fingerprint)

    def forward(
        self, x: Tensor, timesteps: Tensor, context=None, y=None, control=None, transformer_options=None, **kwargs
    ) -> Tensor:
        """Network output `[b c h w]` for ``x`` `[b c h w]` at ``timesteps`` `[b]`."""
        options = transformer_options or {}
        wrappers = comfy.patcher_extension.get_all_wrappers(comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, options)
        run = comfy.patcher_extension.WrapperExecutor.new_class_executor(self._forward, self, wrappers)
        return run.execute(x, timesteps, context, y, control, options, **kwargs)

    def _forward(
        self, x: Tensor, timesteps: Tensor, context=None, y=None, control=None, transformer_options=None, **kwargs
    ) -> Tensor:
        comfy.model_management.throw_exception_if_processing_interrupted()
        h, decode = self.split(x, timesteps, "middle", transformer_options or {}, context)
        return decode(h)

    def split(
        self, x: Tensor, timesteps: Tensor, layer: str, options: dict, context: Tensor | None = None
    ) -> tuple[Tensor, Chain]:
        """Stop at ``layer``; the patches at and above it are already in h, those below it run in the returned
        stages.
        """
        h, decode = self._given(context).split(x, timesteps, layer, tap=_tap(x, timesteps, options))
        return h, decode.then(self._pictures)

    def whole(self, timesteps: Tensor, options: dict, context: Tensor | None = None) -> Chain:
        """The network as a chain of stages from its input on; of a single one where patches run in it."""
        if _tap(timesteps, timesteps, options) is None:
            return self._given(context).whole(timesteps).then(self._pictures)

        def run(x: Tensor) -> Tensor:
            h, decode = self.split(x, timesteps.expand(len(x)), "middle", options, context)
            return decode(h)

        return Chain([run])

    def _pictures(self, out: Tensor) -> Tensor:
        return out[:, : self.channels]

    def _given(self, context: Tensor | None) -> DDPMUNet | GuidedUNet | Coded:
        """The network for the conditioning of a call; an unconditional one takes none."""
        return self.net


def _tap(x: Tensor, timesteps: Tensor, options: dict):
    patches = options.get("patches", {})
    middle = patches.get("middle_block_after_patch", ())
    output = patches.get("output_block_patch", ())
    if not middle and not output:
        return None

    def tap(layer: str, h: Tensor, skip: Tensor | None) -> tuple[Tensor, Tensor | None]:
        here = {**options, "block": ("output", 0 if layer == "middle" else int(layer[3:]) + 1)}
        if layer == "middle":
            for patch in middle:
                h = patch({"h": h, "x": x, "timesteps": timesteps, "transformer_options": here})["h"]
        if skip is not None:
            for patch in output:
                h, skip = patch(h, skip, here)
        return h, skip

    return tap


def unet_of(model: Model) -> Any:
    """The network inside of a MODEL, ours or the host's."""
    net = model.model.diffusion_model
    return net.net if isinstance(net, PixelUNet) else net


def make_model(
    source: VPDenoiser | Autoencoder,
    channels: int = 3,
    kind: Callable[..., PixelUNet] = PixelUNet,
    base=comfy.model_base.BaseModel,
):
    """Wrap a network as the host's ModelPatcher (the MODEL socket).

    Args:
        source: the network and its noise schedule.
        channels: of a picture.
        kind: what the host calls, made of ``source`` and ``channels``.
        base: the host's model around it.
    """
    # Stock patches such as FreeU find the decoder's levels by multiples of the base width.
    config = _Config({"disable_unet_model_creation": True, "model_channels": source.net.config.channels[0]})
    config.set_inference_dtype(torch.float32, None)
    predicts = comfy.model_base.ModelType.V_PREDICTION if source.prediction == "v" else comfy.model_base.ModelType.EPS
    offload = comfy.model_management.unet_offload_device()
    model = base(config, model_type=predicts, device=offload)
    net = kind(source, channels).requires_grad_(False).eval()
    model.diffusion_model = net.to(offload)  # pyright: ignore[reportAttributeAccessIssue]
    model.model_sampling.set_sigmas(source.schedule.sigmas)
    # Not the core's own class, which on some GPUs pages weights in and out: these networks are small and made of plain
    # torch layers.
    return comfy.model_patcher.ModelPatcher(
        model, load_device=comfy.model_management.get_torch_device(), offload_device=offload
    )


def pixel_vae():
    """The host's ``pixel_space`` VAE: image 0..1 <-> latent -1..1."""
    return comfy.sd.VAE(sd={"pixel_space_vae": torch.tensor(1.0)})


def no_conditioning() -> list:
    """What an unconditional model takes where a sampler asks for CONDITIONING."""
    return [[torch.zeros(1, 1, 1), {}]]


def is_velocity(model: Model) -> bool:
    """Whether the network of a MODEL predicts v."""
    return isinstance(model.get_model_object("model_sampling"), comfy.model_sampling.V_PREDICTION)
