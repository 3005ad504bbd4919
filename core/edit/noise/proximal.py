"""Proximal guidance: where the two prompts hardly differ, they do not differ.

Han et al. 2023, ProxEdit, arXiv 2306.05414, eqs. 7-9.

The paper and its released code disagree about names: what the code calls "l0" is the paper's l1. So the modes say what
they do. The code's own "l1" draws what is left in a second time, unevenly: what was small and negative comes out
positive. That is nobody's proximal operator and is not offered. Its threshold is a quantile over the whole batch, the
source row included; here each row has its own, so that a picture does not depend on its company. For inversion guidance
its mask is taken after the drawing in: what exceeds twice the threshold.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ...trajectory import Trajectory

MODES = ("hard", "soft")
OLD_NAMES = {"l0": "hard", "l1": "soft"}
"""What workflows saved before the modes were renamed say."""


def proximal(delta: Tensor, quantile: float, mode: str = "hard") -> tuple[Tensor, Tensor]:
    """Take the small entries out of a difference of two predictions, and mark where it is large.

    Args:
        delta: `[b c h w]`, in eps or in denoised images: the threshold is a quantile, so the scale does not matter.
        quantile: 0..1, share of each sample's entries that count as small; the paper uses 0.7. 0 leaves delta as it is.
        mode: ``hard`` keeps large entries as they are (the paper's l0), ``soft`` draws them towards 0 by the threshold
            (the paper's l1, the released code's "l0"). Names of :data:`OLD_NAMES` are read too.

    Returns:
        The difference, and `[b c h w]` booleans, true where it is kept.

    Raises:
        ValueError: an unknown mode or a quantile outside 0..1.
    """
    mode = OLD_NAMES.get(mode, mode)
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
    if not 0 <= quantile <= 1:
        raise ValueError(f"quantile must lie in 0..1 (0 off, 0.7 usual), got {quantile}")
    if not quantile:
        return delta, torch.ones_like(delta, dtype=torch.bool)
    size = delta.abs()
    # One row at a time: torch.quantile takes no more than 16 million entries in all.
    threshold = torch.stack([torch.quantile(row.flatten().float(), quantile) for row in size]).to(delta)[
        :, None, None, None
    ]
    large = size > threshold
    passed = delta if mode == "hard" else delta - delta.sign() * threshold
    return torch.where(large, passed, torch.zeros_like(delta)), large


def towards(
    denoised: Tensor,
    x: Tensor,
    sigma: float,
    nxt: float,
    trajectory: Trajectory,
    large: Tensor,
    rate: float,
    dilate: int,
) -> Tensor:
    """Change a prediction so that its Euler step from ``x`` at ``sigma`` to ``nxt`` lands nearer to the trajectory.

    This is inversion guidance.

    The step ends in ``x' - rate (x' - path(nxt)) (1 - mask)``, with the mask of what the prompts change.

    Args:
        denoised: guided prediction, `[b c h w]`.
        x: state, `[b c h w]`.
        sigma: level now.
        nxt: level of the step, 0 <= nxt < sigma.
        trajectory: of the source image.
        large: `[b c h w]`, true where the prompts differ.
        rate: 0..1; 1 replaces the state.
        dilate: pixels of the state by which that region is widened.

    Raises:
        ValueError: the path holds states of another size.
    """
    state = trajectory.at(nxt).to(x)
    if state.shape[1:] != x.shape[1:] or len(state) not in (1, len(x)):
        raise ValueError(
            f"the trajectory holds {list(state.shape)}, the picture sampled here is {list(x.shape)}; use the same size"
        )
    mask = large.to(x)
    if dilate:
        mask = F.max_pool2d(mask, 2 * dilate + 1, 1, dilate)
    ratio = nxt / sigma
    below = denoised + ratio * (x - denoised)
    return denoised - rate * (1 - mask) * (below - state) / (1 - ratio)
