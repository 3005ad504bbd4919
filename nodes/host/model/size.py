"""The size of picture that a MODEL works at."""

from __future__ import annotations

import comfy.model_base
import comfy.supported_models
from torch import Tensor

from ....core.photo.whole import FACTOR, fit_picture, fit_text, plan_fit
from ....core.picture_facts import PictureFit
from ..progress import say
from ..socket_checks import check_image
from ..types import Model
from .pixel_model import unet_of
from .traits import is_latent

CROP, PAD, REFUSE, ANY = "crop", "pad", "refuse", "any size"
_SMALL, _MEDIUM, _LARGE = 512, 768, 1024


def working_size(model: Model) -> int | None:
    """Side in pixels of the square pictures that a MODEL was trained on; None where neither it nor its file tells."""
    net = model.model.diffusion_model
    if not is_latent(model) or hasattr(net, "trained_at"):  # a network that tells is believed before its family
        size, known = getattr(net, "trained_at", None) or (0, False)
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


def fit_to_model(model: Model, image: Tensor, how: str, name: str = "image") -> tuple[Tensor, PictureFit | None]:
    """Bring an IMAGE to the size that a MODEL works at, before the network is asked; the node says what was done.

    Args:
        model: MODEL.
        image: `[b h w c]`.
        how: :data:`CROP`, :data:`PAD`, :data:`REFUSE` or :data:`ANY`.
        name: of the input.

    Returns:
        The picture and what was done, or the same picture and None where it fits, where the size of the model is
        unknown, or with :data:`ANY`.

    Raises:
        ValueError: it does not fit and is to be refused, or ``how`` needs a size that is unknown.
    """
    side = working_size(model)
    if how == ANY or (side is None and how == CROP):
        return image, None
    if side is None:
        raise ValueError(
            f"'fit' is '{how}', but this model's file does not say what size it was trained at; set it to '{ANY}', or cut"
            f" '{name}' with Fit Photo"
        )
    check_image(image, name)
    size = (image.shape[1], image.shape[2])
    square = not is_latent(model)
    if how == REFUSE:
        if plan_fit(size, side, size_unit(model), CROP, square) is not None:
            raise ValueError(_misfit(size, side, size_unit(model), name))
        return image, None
    plan = plan_fit(size, side, size_unit(model), PAD if how == PAD else CROP, square)
    if plan is None:
        return image, None
    say(f"{name} is {fit_text(plan)}: this model works at {side}x{side}. For a part of it at full size use Fit Photo")
    pictures = fit_picture(image[..., :3].movedim(-1, 1).float(), plan)
    return pictures.movedim(1, -1), plan


def _misfit(size: tuple[int, int], side: int, unit: int, name: str) -> str:
    """Why a picture is refused, and what to do."""
    height, width = size
    return (
        f"'{name}' is {width}x{height}, and this model works at {side}x{side}: the longer side may be up to {FACTOR:g}"
        f" times that or its part, and both must be multiples of {unit}; put Fit Photo (or Upscale Image) before this"
        f" node, or set 'fit' to '{CROP}'"
    )


def pixels_per_cell(model: Model) -> int:
    """Width in pixels of what one number of a state stands for: 1 of pixel models, 8 of most latents, 16 of Flux.2."""
    return int(model.get_model_object("latent_format").spacial_downscale_ratio) if is_latent(model) else 1
