"""Principal components of h over many images (Haas et al. 2024, arXiv 2303.11073, section 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..denoiser import Denoiser
from ..directions import Directions
from ..fingerprint import without_patches

BATCH = 32


def h_of(model: Denoiser, states: Tensor, sigma: float, layer: str = "middle") -> Tensor:
    """Values of h of many states at one noise level, `[n c h w]` on the CPU in float64."""
    parts = states.split(BATCH)
    activations = []
    for part in parts:
        rows = part.new_full((len(part),), sigma)
        activations.append(model.split(part, rows, layer).h.cpu().double())
    return torch.cat(activations)


def pca(model: Denoiser, states: Tensor, sigma: float, *, k: int = 5, layer: str = "middle") -> Directions:
    """The directions in which h varies most from image to image.

    Args:
        model: any denoiser.
        states: `[n c h w]` at ``sigma``, n > k (500 in the paper).
        sigma: noise level.
        k: how many.
        layer: where h is read.

    Returns:
        Orthonormal directions, sign so that the largest entry is positive; ``spectrum`` holds the standard deviations
        along all components, so that ``strength = 3 * spectrum[i]`` goes three of them. Gain and leak are unknown (0).

    Raises:
        ValueError: too few images.
    """
    if not 1 <= k < len(states):
        raise ValueError(
            f"{k} components need more than {k} pictures, got {len(states)}; connect a larger batch or lower k"
        )
    h = h_of(model, states, sigma, layer)
    flat = h.flatten(1) - h.flatten(1).mean(0)
    _, size, v = torch.linalg.svd(flat, full_matrices=False)
    v = v[:k]
    largest = v.abs().argmax(1, keepdim=True)
    v = v * torch.gather(v, 1, largest).sign()
    return Directions(
        vectors=v.float().reshape(1, k, *h.shape[1:]),
        sigmas=torch.tensor([sigma], dtype=torch.float64),
        gain=torch.zeros(1, k),
        leak=torch.zeros(1, k),
        layer=layer,
        fingerprint=without_patches(model.fingerprint),
        method=f"PCA of {len(states)}",
        spectrum=(size / (len(states) - 1) ** 0.5).float(),
    )
