"""A direction by example: mean h of one set of images less that of another (Haas et al. 2024, arXiv 2303.11073, section 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..denoiser import Denoiser
from ..directions import Directions
from .pca import h_of
from .subspace import orthonormal


def difference(
    model: Denoiser, positive: Tensor, negative: Tensor, sigma: float, *, layer: str = "middle", without: Directions | None = None
) -> Directions:
    """The unit direction from the negative images to the positive ones.

    Args:
        model: any denoiser.
        positive, negative: states `[n c h w]` at ``sigma``; the numbers may differ (100 each in the paper).
        sigma: noise level.
        layer: where h is read.
        without: directions to keep out of it (the paper's conditional direction), of the same model and layer.

    Returns:
        One direction. ``spectrum`` holds the distance between the two means, the strength that carries one onto the other.

    Raises:
        ValueError: an empty set, or nothing left of the difference.
    """
    if not len(positive) or not len(negative):
        raise ValueError("both sets need at least one picture; connect a batch to each")
    means = [h_of(model, s, sigma, layer).mean(0) for s in (positive, negative)]
    shape, delta = means[0].shape, (means[0] - means[1]).flatten()
    distance = float(delta.norm())
    if without is not None:
        without.check_model(model.fingerprint, (layer,))
        q = orthonormal(without.vectors[0].flatten(1)).to(delta)
        delta = delta - q.T @ (q @ delta)
    if float(delta.norm()) < 1e-6 * max(distance, 1e-12) or not distance:
        raise ValueError("the two sets do not differ here; use other pictures, or take fewer directions out")
    return Directions(
        vectors=(delta / delta.norm()).float().reshape(1, 1, *shape),
        sigmas=torch.tensor([sigma], dtype=torch.float64),
        gain=torch.zeros(1, 1),
        leak=torch.zeros(1, 1),
        layer=layer,
        fingerprint=model.fingerprint.partition("+")[0],
        method=f"difference of {len(positive)} and {len(negative)}",
        spectrum=torch.tensor([float(delta.norm())]),
    )
