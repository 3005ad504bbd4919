"""Between the host's pictures and core's states: IMAGE `[b h w c]` 0..1 <-> `[b c h w]` in -1..1, or a VAE's
latents.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..progress import say
from ..socket_checks import check_image, check_mask
from .latents import latents_in, latents_out
from .pixel_model import unet_of
from .traits import is_latent

# how many times the size of its training pictures a model may be given
_KNOWN = 2
_GUESSED = 4
_FP32 = (
    "half precision overflows in it: use its fp32 version (start ComfyUI with --fp32-vae), or for SDXL the VAE"
    " 'fp16-fix'"
)


def from_image(image: Tensor, name: str = "image") -> Tensor:
    """IMAGE `[b h w c]` in 0..1 -> `[b 3 h w]` in -1..1 (alpha dropped; what a filter overshot is cut off).

    Raises:
        ValueError: wrong shape, NaN or values outside 0..1.
    """
    check_image(image, name)
    return image[..., :3].movedim(-1, 1).float().clamp(0, 1) * 2 - 1  # BHWC -> BCHW


def to_image(x: Tensor) -> Tensor:
    """`[b 3 h w]` in -1..1 -> IMAGE `[b h w 3]` in 0..1 on the CPU."""
    return ((x.detach().float().cpu() + 1) / 2).clamp(0, 1).movedim(1, -1)


def one_mask(mask: Tensor | None, height: int, width: int, picture: str = "the image") -> Tensor | None:
    """The first MASK of a batch as `[h w]`; the size must have the image's aspect.

    Raises:
        ValueError: several different masks, or another aspect, or no MASK.
    """
    if mask is None:
        return None
    check_mask(mask, "mask")
    masks: Tensor = mask.reshape(-1, *mask.shape[-2:])
    if masks.shape[0] > 1 and not torch.equal(masks, masks[:1].expand_as(masks)):
        raise ValueError(f"mask must be one mask, got a batch of {masks.shape[0]}; pick one, or combine them into one")
    check_aspect(masks, height, width, "mask", picture)
    return masks[0].float().clamp(0, 1).cpu()


def check_aspect(masks: Tensor, height: int, width: int, name: str, picture: str = "the image") -> None:
    """Refuse masks `[b h w]` that were not made from a picture of this size.

    Raises:
        ValueError: they have another aspect.
    """
    if not has_aspect(masks, height, width):
        h, w = masks.shape[-2:]
        raise ValueError(
            f"{name} must have the aspect of {picture} ({width}x{height}), got {w}x{h}; make the mask from the same"
            " picture"
        )


def has_aspect(masks: Tensor, height: int, width: int) -> bool:
    """Whether masks `[... h w]` have the aspect of a picture of this size, to 2 %."""
    h, w = masks.shape[-2:]
    return abs(h * width - w * height) <= max(h * height, w * width) * 0.02


def encode(model, vae, image: Tensor, name: str = "image") -> Tensor:
    """IMAGE as a clean state of the model, `[b c h w]` on its device: pixels in -1..1, or scaled latents.

    Raises:
        ValueError: the picture is refused, its size does not fit the model, a latent model lacks its VAE, or the VAE
            gave NaN.
    """
    if is_latent(model):
        from_image(image, name)
        check_pictures(model)
        coder = _vae(vae)
        _tell_crop(coder, image, name)
        latent = _encoded(coder, image[..., :3])
        if not bool(torch.isfinite(latent).all()):
            raise ValueError(f"the VAE gave NaN or infinite values for '{name}'; {_FP32}")
        x = latents_in(model, latent)
    else:
        x = pixels(model, image, name)
    return x.to(device=model.load_device, dtype=torch.float32)


def pixels(model, image: Tensor, name: str = "image") -> Tensor:
    """IMAGE as clean states of a pixel model, `[b 3 h w]` in -1..1, where it is: a large batch need not fit the model's
    device.

    Raises:
        ValueError: the picture is refused, or its size does not fit the model.
    """
    x = from_image(image, name)
    check_size(model, image, name)
    return x


def decode(model, vae, x: Tensor) -> Tensor:
    """A clean state as IMAGE on the CPU; the inverse of :func:`encode`.

    Raises:
        ValueError: a latent model lacks its VAE, or the VAE gave NaN.
    """
    if not is_latent(model):
        return to_image(x)
    picture = _vae(vae).decode(latents_out(model, x.float()))
    if not bool(torch.isfinite(picture).all()):
        raise ValueError(f"the VAE gave NaN or infinite values when it decoded this picture; {_FP32}")
    return picture.reshape(-1, *picture.shape[-3:]).float().clamp(0, 1).cpu()


def check_vae(model, vae) -> None:
    """Refuse a latent model without its VAE.

    Raises:
        ValueError: there is none.
    """
    if is_latent(model):
        _vae(vae)


def _encoded(vae, image: Tensor) -> Tensor:
    """Latents of pictures `[b h w 3]`; a VAE of videos would make one video of them all."""
    if getattr(vae, "latent_dim", 2) != 3:
        return vae.encode(image)
    return torch.cat([vae.encode(one) for one in image.split(1)])


def _vae(vae):
    if vae is None:
        raise ValueError("this model works in latents; connect the VAE of its checkpoint to 'vae'")
    return vae


def check_size(model, image: Tensor, name: str = "image") -> None:
    """Refuse an IMAGE `[b h w c]` of a size that a pixel model cannot take, and say on the node what it was not trained
    for.

    What the network cannot halve is refused, and what is more than twice the size it was trained at (the picture falls
    apart, and a network of few pixels takes minutes). Most foreign files do not hold that size: it is then guessed from
    the levels that have attention, and only what is more than four times the guess is refused.

    Raises:
        ValueError: such a size.
    """
    net = unet_of(model)
    (height, width), unit = image.shape[1:3], net.multiple
    size, known = getattr(model.model.diffusion_model, "trained_at", None) or (0, False)
    scale = (
        f"put an Upscale Image node ({size}x{size} for this model) before this one"
        if size
        else "put an Upscale Image node before this one"
    )
    if height % unit or width % unit or not height or not width:
        raise ValueError(
            f"'{name}': width and height must be multiples of {unit} for this model, got {width}x{height}; {scale}"
        )
    if size and max(height, width) > (_KNOWN if known else _GUESSED) * size:
        origin = "was trained at" if known else "seems to be trained at (its file does not say)"
        raise ValueError(
            f"'{name}' is {width}x{height}, far beyond the {size}x{size} that this model {origin}; {scale}"
        )
    if size and (height, width) != (size, size):
        say(
            f"{name} is {width}x{height}; this model {'was' if known else 'seems to be'} trained at {size}x{size}:"
            " expect weaker results"
        )


def check_pictures(model) -> None:
    """Refuse a MODEL whose latents are no pictures.

    Raises:
        ValueError: they are sound, or shapes.
    """
    if getattr(model.get_model_object("latent_format"), "latent_dimensions", 2) == 1:
        raise ValueError(
            f"this MODEL is a {type(model.model).__name__}, whose latents are no pictures; connect a model of pictures,"
            " such as Stable Diffusion, SDXL, Flux or Qwen-Image"
        )


def _tell_crop(vae, image: Tensor, name: str) -> None:
    """Say on the node that the VAE will crop the picture."""
    height, width = image.shape[1:3]
    ratio = vae.spacial_compression_encode() if hasattr(vae, "spacial_compression_encode") else 8
    if vae.crop_input and (height % ratio or width % ratio):
        say(
            f"{name} is {width}x{height}; the VAE crops it to {width // ratio * ratio}x{height // ratio * ratio}"
            f" (multiples of {ratio})"
        )
