"""A direction by example: mean h of one set of images less that of another (Haas et al. 2024, arXiv 2303.11073, section 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..directions import Directions
from .subspace import orthonormal


def difference(
    positive: Tensor, negative: Tensor, sigma: float, fingerprint: str, *, layer: str = "middle", without: Directions | None = None
) -> Directions:
    """The unit direction from the negative images to the positive ones.

    Args:
        positive, negative: h of each image, `[n c h w]`, from ``core.discover.pca.h_of``; the numbers may differ (100 each in the paper).
        sigma: noise level at which they were read.
        fingerprint: of the model.
        layer: where they were read.
        without: directions to keep out of it (the paper's conditional direction), of the same model and layer.

    Returns:
        One direction. ``spectrum`` holds the distance between the two means, the strength that carries one onto the other.

    Raises:
        ValueError: an empty set, sets or directions of different size, or nothing left of the difference.
    """
    if not len(positive) or not len(negative):
        raise ValueError("both sets need at least one picture; connect a batch to each")
    if positive.shape[1:] != negative.shape[1:]:
        raise ValueError(f"both sets must have one picture size; their h is {list(positive.shape[1:])} and {list(negative.shape[1:])}")
    delta = (positive.double().mean(0) - negative.double().mean(0)).flatten()
    distance = float(delta.norm())
    if without is not None:
        without.check_model(fingerprint, (layer,))
        if without.vectors.shape[2:] != positive.shape[1:] or len(without.sigmas) > 1:
            raise ValueError("'without' takes directions that all steps share, found at this picture size; select such a set")
        q = orthonormal(without.vectors[0].flatten(1)).to(delta)
        delta = delta - q.T @ (q @ delta)
    if float(delta.norm()) < 1e-6 * max(distance, 1e-12) or not distance:
        raise ValueError("the two sets do not differ here; use other pictures, or take fewer directions out")
    return Directions(
        vectors=(delta / delta.norm()).float().reshape(1, 1, *positive.shape[1:]),
        sigmas=torch.tensor([sigma], dtype=torch.float64),
        gain=torch.zeros(1, 1),
        leak=torch.zeros(1, 1),
        layer=layer,
        fingerprint=fingerprint.partition("+")[0],
        method=f"difference of {len(positive)} and {len(negative)}",
        spectrum=torch.tensor([float(delta.norm())]),
    )
