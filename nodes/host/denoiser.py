"""The host's MODEL as a Denoiser of core: loaded by model management, every patch of the graph in place."""

from __future__ import annotations

import comfy.model_management
import torch
from torch import Tensor

from ...core.denoiser import Bottleneck
from ...core.networks.vp import state_fingerprint
from .model import PixelUNet
from .steering import EDITS, PLAIN

_SPLIT_TOLERANCE = 1e-3


class HostDenoiser:
    """``model(x, sigma)`` through the host's own call, steering switched off; ``edits`` holds what Steer nodes asked for.

    Args:
        model: a MODEL whose network has a bottleneck.

    Raises:
        ValueError: the network has none (DiT models), or its weights are quantised.
    """

    def __init__(self, model):
        net = model.model.diffusion_model
        if not isinstance(net, PixelUNet):
            raise ValueError(
                f"this node reads the bottleneck of a U-Net, but the MODEL connected is a {type(net).__name__}, which "
                "this version cannot split; connect the MODEL of Load Face Model or Load Pixel Diffusion Model"
            )
        comfy.model_management.load_models_gpu([model])
        self.patcher, self.net = model, net
        self.device = model.load_device
        self.sampling = model.get_model_object("model_sampling")
        self.options: dict = {**model.model_options.get("transformer_options", {}), PLAIN: True}
        self.edits = list(self.options.get(EDITS, ()))
        self.layers = net.layers
        # LoRA and other weight patches make another model, so the digest is taken of the weights as loaded.
        self.fingerprint = state_fingerprint(net.net.state_dict()) if model.patches else net.base_fingerprint
        self._checked: set[str] = set()

    @property
    def channels(self) -> int:
        """Image channels of the model."""
        return self.net.channels

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Denoised image, `[b c h w]`."""
        return self.patcher.model.apply_model(x, sigma, transformer_options=self._at(sigma))

    def split(self, x: Tensor, sigma: Tensor, layer: str = "middle") -> Bottleneck:
        """See :class:`core.denoiser.Denoiser`.

        Raises:
            RuntimeError: another pack's patch makes the two halves differ from the whole.
        """
        xc = self.sampling.calculate_input(sigma, x)
        h, decode_net = self.net.split(xc, self.sampling.timestep(sigma).float(), layer, self._at(sigma))

        def decode(h: Tensor) -> Tensor:
            return self.sampling.calculate_denoised(sigma, decode_net(h).float(), x)

        if layer not in self._checked:
            self._checked.add(layer)
            whole = self(x, sigma)
            error = float((decode(h) - whole).abs().max() / whole.abs().max().clamp_min(1e-6))
            if not error <= _SPLIT_TOLERANCE:
                raise RuntimeError(
                    f"the network cut at {layer!r} differs from the whole by {error:.1e} of its range; a model patch of another "
                    "node acts outside the U-Net's own patch points. Bypass model patches upstream until this passes"
                )
        return Bottleneck(h, decode, layer)

    def _at(self, sigma: Tensor) -> dict:
        return {**self.options, "sigmas": sigma, "cond_or_uncond": [0], "uuids": []}


def to_device(x: Tensor, model: HostDenoiser) -> Tensor:
    """``x`` on the model's device in fp32."""
    return x.to(device=model.device, dtype=torch.float32)


def check_size(model: HostDenoiser, x: Tensor) -> None:
    """Refuse a picture that the network cannot halve often enough.

    Raises:
        ValueError: a side is not a multiple of the network's, or the number of channels differs.
    """
    unit, (channels, height, width) = model.net.net.multiple, x.shape[1:]
    if channels != model.channels:
        raise ValueError(f"this model takes {model.channels} channels, got {channels}")
    if height % unit or width % unit or not height or not width:
        raise ValueError(
            f"width and height must be multiples of {unit} for this model, got {width}x{height}; put an Upscale Image node "
            "(64x64 for the face model) before this one"
        )
