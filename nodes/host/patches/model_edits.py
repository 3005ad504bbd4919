"""Edits that make one denoiser of another (rectifier, fine-tuned weights), as a patch of a MODEL around its guided prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import comfy.ops
from comfy.patcher_extension import WrappersMP
from torch import Tensor, nn

from ...core.denoiser import Bottleneck, Denoiser
from ...core.edit.mix import Mixed, Share
from ...core.edit.rectifier_io import TrainedRectifier
from ...core.edit.rectify import Rectified
from .coded_model import CodedUNet
from .fingerprint import model_fingerprint
from .model import PixelUNet, unet_of
from .steering import PLAIN, RAW

_KEY = "hspace_models"


class ModelEdit(Protocol):
    """Makes an edited denoiser."""

    def __call__(self, model: Denoiser, net: nn.Module, plain: Denoiser) -> Denoiser:
        """Edit ``model``, whose network is ``net``; ``plain`` is the same without steering."""
        ...


@dataclass(frozen=True)
class RectifierEdit:
    """See :class:`core.edit.rectify.Rectified`. ``x0`` `[b c h w]`."""

    rectifier: TrainedRectifier
    x0: Tensor
    edit: TrainedRectifier | None
    strength: float
    amount: float

    def __call__(self, model: Denoiser, net: nn.Module, plain: Denoiser) -> Denoiser:
        """See the class."""
        device = next(net.parameters()).device if self.x0.device.type == "cpu" else self.x0.device
        one, two = self.rectifier.rectifier.to(device), self.edit and self.edit.rectifier.to(device)
        tops = self.rectifier.sigma_start, self.edit.sigma_start if self.edit else 0.0
        return Rectified(model, net, one, self.x0.to(device), two, self.strength, self.amount, tops, plain, cast_weight)


@dataclass(frozen=True)
class MixEdit:
    """See :class:`core.edit.mix.Mixed`."""

    share: Share

    def __call__(self, model: Denoiser, net: nn.Module, plain: Denoiser) -> Denoiser:
        """See the class. Neighbours in a row are one mixture, so that their shares add up as they are."""
        if isinstance(model, Mixed):
            return Mixed(model.model, net, [*model.shares, self.share])
        return Mixed(model, net, [self.share])


def cast_weight(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """The kernel as the host uses it on ``x``: cast, moved and patched on the way where it must be."""
    if isinstance(conv, comfy.ops.CastWeightBiasOp):
        return comfy.ops.cast_bias_weight(conv, x)[0]
    return conv.weight


def edited(denoiser: Denoiser, model) -> Denoiser:
    """A denoiser of the MODEL with the edits that the MODEL carries."""
    made, net = denoiser, unet_of(model)
    for edit in model.model_options.get("transformer_options", {}).get(_KEY, ()):
        made = edit(made, net, denoiser)
    return made


def add_model_edit(model, edit: ModelEdit):
    """A clone of MODEL that also carries ``edit``."""
    clone = model.clone()
    options = clone.model_options["transformer_options"]
    before: Sequence[ModelEdit] = options.get(_KEY, ())
    if not before:
        clone.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, _KEY, _predict)
    options[_KEY] = [*before, edit]
    return clone


def _predict(executor, x: Tensor, sigma: Tensor, model_options: dict[str, Any], seed=None) -> Tensor:
    """In place of a sampler's guided prediction."""
    options = model_options.get("transformer_options", {})
    edits: Sequence[ModelEdit] = options.get(_KEY, ())
    if not edits or options.get(RAW):
        return executor(x, sigma, model_options, seed)
    patcher = executor.class_obj.model_patcher
    made: Denoiser = _Call(executor, model_options, seed, patcher, {})
    net, plain = unet_of(patcher), _Call(executor, model_options, seed, patcher, {PLAIN: True})
    for edit in edits:
        made = edit(made, net, plain)
    return made(x, sigma)


class _Call:
    """The sampler's own prediction as a denoiser, for edits that need no more than its value."""

    def __init__(self, executor, options: dict[str, Any], seed, patcher, flags: dict[str, bool]):
        self._run, self._seed = executor, seed
        self._options = {**options, "transformer_options": {**options.get("transformer_options", {}), **flags}}
        self.layers: tuple[str, ...] = ()
        self.fingerprint = model_fingerprint(patcher)

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Guided prediction."""
        return self._run(x, sigma, self._options, self._seed)

    def split(self, x: Tensor, sigma: Tensor, layer: str = "middle", smooth: bool = False) -> Bottleneck:
        """Not here: a sampler's call has no halves."""
        raise RuntimeError("a sampler's prediction cannot be split; use Render Trajectory")


def check_pixels(model, what: str) -> PixelUNet:
    """The pixel network inside of a MODEL.

    Raises:
        ValueError: another one.
    """
    net = model.model.diffusion_model
    if isinstance(net, CodedUNet):
        raise ValueError(
            f"{what} works on networks that draw from noise alone, but the MODEL connected is a diffusion autoencoder; change its code with "
            "Manipulate Code or Delta Edit instead"
        )
    if not isinstance(net, PixelUNet):
        raise ValueError(
            f"{what} works on whole pixel networks, but the MODEL connected is a {type(net).__name__}; connect Load Face Model or Load Pixel "
            "Diffusion Model. For Stable Diffusion there are Train Asyrp and Train Rectifier, and the stock LoRA nodes"
        )
    return net
