"""DDIM inversion (Song, Meng, Ermon 2021, arXiv 2010.02502, section 4.3; Dhariwal and Nichol 2021, arXiv 2105.05233, appendix F).

One Euler step upwards, ``x' = x + (sigma' - sigma) * eps``. Two conventions for the eps of a step are in use:

* ``A``, original DDIM: of the lower state at the lower level.
* ``B``, null-text inversion, Plug-and-Play, DiffMorpher: of the lower state at the *upper* level. In VP variables the network
  sees the unscaled lower state with the upper step, which here is ``x * sqrt((1 + sigma'^2) / (1 + sigma^2))``.

Flow models take the same steps; their networks see states unscaled, so B asks at the lower state itself.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from ..denoiser import Callback, Denoiser, is_flow, to_eps
from ..trajectory import Trajectory
from .inputs import IMAGE_LIMIT, check_image, check_sigmas


def lift(x: Tensor, low: float, high: float, flow: bool = False) -> Tensor:
    """Point at which convention B asks the model: ``x`` at ``low``, taken for a state of ``high`` (VP, or flow). Shape kept."""
    return x if flow else x * math.sqrt((1 + high * high) / (1 + low * low))


def levels(x: Tensor, sigma: float) -> Tensor:
    """``sigma`` once a sample of ``x``: `[b]`."""
    return x.new_full((x.shape[0],), sigma)


@torch.no_grad()
def invert_ddim(
    model: Denoiser,
    x0: Tensor,
    sigmas: Tensor,
    convention: Literal["A", "B"] = "B",
    *,
    callback: Callback | None = None,
    limit: float | None = IMAGE_LIMIT,
) -> Trajectory:
    """Walk an image up to ``sigmas[0]``; one model call a step, first order in the step.

    No model has a level "clean", so the first step of convention A, from sigma 0, is evaluated as in B: at the smallest
    positive level of the grid.

    Args:
        model: any denoiser.
        x0: image `[b c h w]` in -1..1 (any height and width that the model takes).
        sigmas: `[n+1]`, descending to 0, as for sampling.
        convention: ``A`` or ``B``, see above.
        callback: called after every step.
        limit: largest magnitude of an image; None for latents.

    Returns:
        The trajectory, states in the dtype of ``x0`` (half precision: float32).

    Raises:
        ValueError: an unknown convention, or an image or grid refused by :mod:`core.invert.inputs`.
    """
    if convention not in ("A", "B"):
        raise ValueError(f"convention must be 'A' (eps of the lower level) or 'B' (of the upper one), got {convention!r}")
    x, grid = check_image(x0, limit), check_sigmas(sigmas)
    s, n, states, flow = grid.tolist(), len(grid) - 1, [x], is_flow(model)
    for i in range(n):
        low, high = s[n - i], s[n - 1 - i]
        at, level = (x, low) if convention == "A" and low > 0 else (lift(x, low, high, flow), high)
        denoised = model(at, levels(x, level))
        x = x + (high - low) * to_eps(at, level, denoised)
        states.append(x)
        if callback is not None:
            callback({"i": i, "n": n, "x": x, "sigma": high, "denoised": denoised})
    return Trajectory(grid, torch.stack(states[::-1]), model.fingerprint, f"ddim {convention}", extra={"flow": flow})
