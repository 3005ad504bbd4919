"""The size of picture that a MODEL works at."""

from __future__ import annotations

import comfy.model_base
import comfy.supported_models

from ..types import Model
from .pixel_model import unet_of
from .traits import is_latent

_SMALL, _MEDIUM, _LARGE = 512, 768, 1024


def working_size(model: Model) -> int | None:
    """Side in pixels of the square pictures that a MODEL was trained on; None where neither it nor its file tells."""
    if not is_latent(model):
        size, known = getattr(model.model.diffusion_model, "trained_at", None) or (0, False)
        return size if known else None
    config = model.model.model_config
    if isinstance(config, comfy.supported_models.SD20):
        velocity = model.model.model_type == comfy.model_base.ModelType.V_PREDICTION
        return _MEDIUM if velocity else _SMALL
    if isinstance(config, comfy.supported_models.SD15):
        return _SMALL
    return _LARGE


def size_unit(model: Model) -> int:
    """What width and height of a picture must be multiples of."""
    return pixels_per_cell(model) if is_latent(model) else unet_of(model).multiple


def pixels_per_cell(model: Model) -> int:
    """Width in pixels of what one number of a state stands for: 1 of pixel models, 8 of most latents, 16 of Flux.2."""
    return int(model.get_model_object("latent_format").spacial_downscale_ratio) if is_latent(model) else 1
