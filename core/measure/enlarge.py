"""Pictures at a size to be looked at."""

import torch.nn.functional as F
from torch import Tensor


def enlarge_small(image: Tensor, side: int) -> Tensor:
    """Enlarge pictures by the largest whole factor that keeps their longer side within ``side`` pixels.

    Args:
        image: `[b h w c]` in 0..1.
        side: in pixels. Pictures of more than half of it come back as they are.

    Returns:
        `[b fh fw c]`, bicubic, in 0..1.
    """
    factor = side // max(image.shape[1:3])
    if factor < 2:
        return image
    large = F.interpolate(image.movedim(-1, 1).float(), scale_factor=factor, mode="bicubic", align_corners=False)
    return large.clamp(0, 1).movedim(1, -1)


def shrink_large(image: Tensor, side: int) -> Tensor:
    """Shrink pictures whose longer side is above ``side`` pixels, averaging over areas.

    Args:
        image: `[b h w c]` in 0..1.
        side: in pixels.

    Returns:
        `[b h' w' c]` of the same aspect, to a pixel.
    """
    height, width = image.shape[1:3]
    scale = side / max(height, width)
    if scale >= 1:
        return image
    size = max(1, round(height * scale)), max(1, round(width * scale))
    return F.interpolate(image.movedim(-1, 1).float(), size, mode="area").movedim(1, -1)
