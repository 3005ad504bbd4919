"""A direction by example: mean h of one set of images less that of another.

Haas et al. 2024, arXiv 2303.11073, section 3.3.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..directions import Directions
from ..fingerprint import without_patches
from ..trajectory import Trajectory
from .subspace import orthonormal

_SAME_LEVEL = 1e-3  # relative


def check_comparable(positive: Trajectory, negative: Trajectory) -> None:
    """Refuse two sets of pictures of different sizes.

    Raises:
        ValueError: they are.
    """
    sizes = [list(one.states.shape[-2:]) for one in (positive, negative)]
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"'positive' and 'negative' must be of one picture size, their states are {sizes[0]} and {sizes[1]}; scale"
            " them first"
        )


def check_levels(levels: Sequence[float]) -> None:
    """Refuse two sets of pictures that were inverted on different noise levels.

    Raises:
        ValueError: they were.
    """
    if abs(levels[0] - levels[1]) > _SAME_LEVEL * levels[0]:
        raise ValueError(
            f"both sets must be inverted on the same sigmas; the nearest levels are {levels[0]:.3g} and {levels[1]:.3g}"
        )


def difference(
    positive: Tensor,
    negative: Tensor,
    sigma: float,
    fingerprint: str,
    *,
    layer: str = "middle",
    without: Directions | None = None,
) -> Directions:
    """The unit direction from the negative images to the positive ones.

    Args:
        positive, negative: h of each image, `[n c h w]`, from ``core.discover.pca.h_of``; the numbers may differ (100
            each in the paper).
        sigma: noise level at which they were read.
        fingerprint: of the model.
        layer: where they were read.
        without: directions to keep out of it (the paper's conditional direction), of the same model and layer.

    Returns:
        One direction. ``spectrum`` holds the distance between the two means, the strength that carries one onto the
        other.

    Raises:
        ValueError: an empty set, sets or directions of different size, or nothing left of the difference.
    """
    if not len(positive) or not len(negative):
        raise ValueError("both sets need at least one picture; connect a batch to each")
    if positive.shape[1:] != negative.shape[1:]:
        raise ValueError(
            f"both sets must have one picture size; their h is {list(positive.shape[1:])} and"
            f" {list(negative.shape[1:])}"
        )
    delta = (positive.double().mean(0) - negative.double().mean(0)).flatten()
    distance = float(delta.norm())
    if without is not None:
        without.check_model(fingerprint, (layer,))
        if without.vectors.shape[2:] != positive.shape[1:] or len(without.sigmas) > 1:
            raise ValueError(
                "'without' takes directions that all steps share, found at this picture size; select such a set"
            )
        q = orthonormal(without.vectors[0].flatten(1)).to(delta)
        delta = delta - q.T @ (q @ delta)
    if not (distance and float(delta.norm()) >= 1e-6 * max(distance, 1e-12)):
        raise ValueError("positive and negative do not differ here; use other pictures, or take fewer directions out")
    return Directions(
        vectors=(delta / delta.norm()).float().reshape(1, 1, *positive.shape[1:]),
        sigmas=torch.tensor([sigma], dtype=torch.float64),
        gain=torch.zeros(1, 1),
        leak=torch.zeros(1, 1),
        layer=layer,
        fingerprint=without_patches(fingerprint),
        method=f"difference of {len(positive)} and {len(negative)}",
        spectrum=torch.tensor([float(delta.norm())]),
    )
