"""Edits that make one denoiser of another (rectifier, fine-tuned weights), as a patch of a MODEL around its guided
prediction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import comfy.ops
from comfy.patcher_extension import WrappersMP
from torch import Tensor, nn

from ....core.denoiser import Bottleneck, Denoiser, Noising, predict
from ....core.edit.weights.diffusionclip import Mixed, Share
from ....core.edit.weights.rectifier import Rectified, RectifierOptions
from ....core.edit_schedule import EditSchedule
from ....core.files.rectifier import TrainedRectifier
from ..model.coded_model import CodedUNet
from ..model.fingerprint import model_fingerprint
from ..model.pixel_model import PixelUNet, unet_of
from ..model.traits import noising_of
from ..types import Model
from .caches import resting
from .steering import MODELS, PLAIN, RAW, check_first


class ModelEdit(Protocol):
    """Makes an edited denoiser."""

    @property
    def schedules(self) -> tuple[EditSchedule, ...]:
        """How far, and at which noise levels; a part that acts for each."""
        ...

    def check_model(self, fingerprint: str, net: nn.Module) -> None:
        """Refuse a model that it was not made for."""
        ...

    def __call__(self, model: Denoiser, net: nn.Module, plain: Denoiser) -> Denoiser:
        """Edit ``model``, whose network is ``net``; ``plain`` is the same without steering."""
        ...


@dataclass(frozen=True)
class RectifierEdit:
    """See :class:`core.edit.weights.rectifier.Rectified`. ``x0`` `[b c h w]`."""

    rectifier: TrainedRectifier
    x0: Tensor
    edit: TrainedRectifier | None
    strength: float
    amount: float

    @property
    def schedules(self) -> tuple[EditSchedule, ...]:
        """See :class:`ModelEdit`."""
        rectified = EditSchedule(self.amount, self.rectifier.sigma_start)
        if self.edit is None:
            return (rectified,)
        top = min(self.rectifier.sigma_start, self.edit.sigma_start)
        return rectified, EditSchedule(self.amount * self.strength, top)

    def check_model(self, fingerprint: str, net: nn.Module) -> None:
        """See :meth:`core.files.rectifier.TrainedRectifier.check_model`."""
        for trained in filter(None, (self.rectifier, self.edit)):
            trained.check_model(fingerprint)

    def __call__(self, model: Denoiser, net: nn.Module, plain: Denoiser) -> Denoiser:
        """See the class."""
        device = next(net.parameters()).device if self.x0.device.type == "cpu" else self.x0.device
        rectifier = self.rectifier.rectifier.to(device)
        edit = self.edit and self.edit.rectifier.to(device)
        tops = self.rectifier.sigma_start, self.edit.sigma_start if self.edit else 0.0
        options = RectifierOptions(self.strength, self.amount, tops)
        return Rectified(model, net, rectifier, self.x0.to(device), edit, options, plain=plain, weight_of=cast_weight)


@dataclass(frozen=True)
class MixEdit:
    """See :class:`core.edit.weights.diffusionclip.Mixed`."""

    share: Share

    @property
    def schedules(self) -> tuple[EditSchedule, ...]:
        """See :class:`ModelEdit`."""
        return (self.share.schedule,)

    def check_model(self, fingerprint: str, net: nn.Module) -> None:
        """See :meth:`core.networks.weight_difference.WeightDelta.check_model`."""
        self.share.weights.check_model(fingerprint, net)

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


def edited(denoiser: Denoiser, model: Model) -> Denoiser:
    """A denoiser of the MODEL with the edits that the MODEL carries."""
    plain = denoiser
    net = unet_of(model)
    for edit in model_edits_of(model.model_options):
        denoiser = edit(denoiser, net, plain)
    return denoiser


def model_edits_of(model_options: dict[str, Any]) -> Sequence[ModelEdit]:
    """The edits that the options of a MODEL carry."""
    return model_options.get("transformer_options", {}).get(MODELS, ())


def schedules_of(model_options: dict[str, Any]) -> list[EditSchedule]:
    """How far, and at which noise levels, the edits that the options of a MODEL carry act."""
    return [schedule for edit in model_edits_of(model_options) for schedule in edit.schedules]


def edited_at(model_options: dict[str, Any]) -> Callable[[float], bool] | None:
    """Whether the edits that the options of a MODEL carry act at a noise level; None if there are none."""
    parts = schedules_of(model_options)
    return (lambda sigma: any(part.acts(sigma) for part in parts)) if parts else None


def add_model_edit(model: Model, edit: ModelEdit):
    """A clone of MODEL that also carries ``edit``."""
    clone = model.clone()
    options = clone.model_options["transformer_options"]
    before: Sequence[ModelEdit] = options.get(MODELS, ())
    if not before:
        clone.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, MODELS, _predict)
    options[MODELS] = [*before, edit]
    return clone


def _predict(executor, x: Tensor, sigma: Tensor, model_options: dict[str, Any], seed=None) -> Tensor:
    """In place of a sampler's guided prediction."""
    options = model_options.get("transformer_options", {})
    edits = model_edits_of(model_options)
    if not edits or options.get(RAW):
        return executor(x, sigma, model_options, seed)
    patcher = executor.class_obj.model_patcher
    net = unet_of(patcher)

    def check(fingerprint: str) -> None:
        for edit in edits:
            edit.check_model(fingerprint, net)

    check_first(schedules_of(model_options), check, "our edit", sigma, options, patcher)
    denoiser: Denoiser = _Call(executor, model_options, seed, patcher, {})
    plain = _Call(executor, model_options, seed, patcher, {PLAIN: True})
    for edit in edits:
        denoiser = edit(denoiser, net, plain)
    return predict(denoiser, x, sigma)


class _Call:
    """The sampler's own prediction as a denoiser, for edits that need no more than its value."""

    def __init__(self, executor, options: dict[str, Any], seed, patcher, flags: dict[str, bool]):
        self._run = executor
        self._seed = seed
        # An edit asks several times a step, each time another network: a step cache would answer one with the other.
        self._options = {**options, "transformer_options": {**resting(options.get("transformer_options", {})), **flags}}
        self.layers: tuple[str, ...] = ()
        self.fingerprint = model_fingerprint(patcher)
        self.noising: Noising = noising_of(patcher)

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Guided prediction."""
        return self._run(x, sigma, self._options, self._seed)

    def split(self, x: Tensor, sigma: Tensor, layer: str = "middle", smooth: bool = False) -> Bottleneck:
        """Not here: a sampler's call has no halves."""
        raise RuntimeError("a sampler's prediction cannot be split; use Render Trajectory")


def check_pixels(model: Model, what: str) -> PixelUNet:
    """The pixel network inside of a MODEL.

    Raises:
        ValueError: another one.
    """
    net = model.model.diffusion_model
    if isinstance(net, CodedUNet):
        raise ValueError(
            f"{what} works on networks that draw from noise alone, but the MODEL connected is a diffusion autoencoder;"
            " change its code with Manipulate Code or Delta Edit by Text instead"
        )
    if not isinstance(net, PixelUNet):
        raise ValueError(
            f"{what} works on whole pixel networks, but the MODEL connected is a {type(net).__name__}; connect Load"
            " Face Model or Load Pixel Diffusion Model. For Stable Diffusion there are Train Asyrp and Train"
            " Rectifier, and the stock LoRA nodes"
        )
    return net
