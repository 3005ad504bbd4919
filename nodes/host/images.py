"""Between the host's pictures and core's states: IMAGE `[b h w c]` 0..1 <-> `[b c h w]` in -1..1, or a VAE's latents."""

from __future__ import annotations

import torch
from torch import Tensor

from .denoiser import is_latent
from .model import unet_of


def from_image(image: Tensor, name: str = "image") -> Tensor:
    """IMAGE `[b h w c]` in 0..1 -> `[b 3 h w]` in -1..1 (alpha dropped).

    Raises:
        ValueError: wrong shape, NaN or values outside 0..1.
    """
    if image.dim() != 4 or image.shape[-1] not in (3, 4):
        raise ValueError(f"{name} must be an IMAGE [batch height width 3], got {list(image.shape)}; connect a Load Image node")
    if not torch.isfinite(image).all():
        raise ValueError(f"{name} holds NaN or infinite values; check the node that made it")
    low, high = float(image.min()), float(image.max())
    if low < -0.01 or high > 1.01:
        raise ValueError(f"{name} must have values in 0..1, got {low:.2f}..{high:.2f}; normalise it first")
    return image[..., :3].movedim(-1, 1).float() * 2 - 1  # BHWC -> BCHW


def to_image(x: Tensor) -> Tensor:
    """`[b 3 h w]` in -1..1 -> IMAGE `[b h w 3]` in 0..1 on the CPU."""
    return ((x.detach().float().cpu() + 1) / 2).clamp(0, 1).movedim(1, -1)


def one_mask(mask: Tensor | None, height: int, width: int) -> Tensor | None:
    """The first MASK of a batch as `[h w]`; the size must have the image's aspect.

    Raises:
        ValueError: several different masks, or another aspect. (Its values are checked where it is used.)
    """
    if mask is None:
        return None
    mask = mask.reshape(-1, *mask.shape[-2:])
    if mask.shape[0] > 1 and not torch.equal(mask, mask[:1].expand_as(mask)):
        raise ValueError(f"mask must be one mask, got a batch of {mask.shape[0]}; pick one, or combine them into one")
    h, w = mask.shape[-2:]
    if abs(h * width - w * height) > max(h * height, w * width) * 0.02:
        raise ValueError(f"mask must have the aspect of the image ({width}x{height}), got {w}x{h}; make the mask from the same picture")
    return mask[0].float().cpu()


def encode(model, vae, image: Tensor, name: str = "image") -> Tensor:
    """IMAGE as a clean state of the model, `[b c h w]` on its device: pixels in -1..1, or scaled latents.

    Raises:
        ValueError: the picture is refused, its size does not fit the model, or a latent model lacks its VAE.
    """
    if is_latent(model):
        from_image(image, name)
        x = model.model.process_latent_in(_vae(vae).encode(image[..., :3]))
    else:
        x = pixels(model, image, name)
    return x.to(device=model.load_device, dtype=torch.float32)


def pixels(model, image: Tensor, name: str = "image") -> Tensor:
    """IMAGE as clean states of a pixel model, `[b 3 h w]` in -1..1, where it is: a large batch need not fit the model's device.

    Raises:
        ValueError: the picture is refused, or its size does not fit the model.
    """
    x = from_image(image, name)
    _check_size(unet_of(model).multiple, x)
    return x


def decode(model, vae, x: Tensor) -> Tensor:
    """A clean state as IMAGE on the CPU; the inverse of :func:`encode`.

    Raises:
        ValueError: a latent model lacks its VAE.
    """
    if not is_latent(model):
        return to_image(x)
    picture = _vae(vae).decode(model.model.process_latent_out(x.float()))
    return picture.reshape(-1, *picture.shape[-3:]).float().clamp(0, 1).cpu()


def _vae(vae):
    if vae is None:
        raise ValueError("this model works in latents; connect the VAE of its checkpoint to 'vae'")
    return vae


def _check_size(unit: int, x: Tensor) -> None:
    height, width = x.shape[-2:]
    if height % unit or width % unit or not height or not width:
        raise ValueError(
            f"width and height must be multiples of {unit} for this model, got {width}x{height}; put an Upscale Image node "
            "(64x64 for the face model) before this one"
        )
