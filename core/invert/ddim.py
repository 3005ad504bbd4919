"""DDIM inversion.

Song, Meng, Ermon 2021, arXiv 2010.02502, section 4.3; Dhariwal and Nichol 2021, arXiv 2105.05233, appendix F.

One Euler step upwards, ``x' = x + (sigma' - sigma) * eps``. Two conventions for the eps of a step are in use:

* ``A``, original DDIM: of the lower state at the lower level.
* ``B``, null-text inversion, Plug-and-Play, DiffMorpher: of the lower state at the *upper* level. In VP variables the
  network sees the unscaled lower state with the upper step, which here is ``x * sqrt((1 + sigma'^2) / (1 + sigma^2))``.

Flow models take the same steps; their networks see states unscaled, so B asks at the lower state itself.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ..denoiser import Callback, Denoiser, Noising, predict, report_step, to_eps
from ..inputs import IMAGE_LIMIT, check_image, check_sigmas
from ..schedule import relevel
from ..trajectory import Trajectory


def lift(x: Tensor, low: float, high: float, noising: Noising = "sigma") -> Tensor:
    """Find the point at which convention B asks the model: ``x`` at ``low``, taken for a state of ``high``.

    Shape kept.
    """
    return x if noising == "flow" else relevel(x, low, high)


def levels(x: Tensor, sigma: float) -> Tensor:
    """Repeat ``sigma`` once a sample of ``x``: `[b]`."""
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
        ValueError: an unknown convention, or an image or grid refused by :mod:`core.inputs`.
    """
    if convention not in ("A", "B"):
        raise ValueError(
            f"convention must be 'A' (eps of the lower level) or 'B' (of the upper one), got {convention!r}"
        )
    x = check_image(x0, limit)
    grid = check_sigmas(sigmas)
    s = grid.tolist()
    n = len(grid) - 1
    states = [x]
    noising = model.noising
    for i in range(n):
        low = s[n - i]
        high = s[n - 1 - i]
        at, level = (x, low) if convention == "A" and low > 0 else (lift(x, low, high, noising), high)
        denoised = predict(model, at, levels(x, level))
        x = x + (high - low) * to_eps(at, level, denoised)
        states.append(x)
        report_step(callback, i, n, x=x, sigma=high, denoised=denoised)
    return Trajectory(grid, torch.stack(states[::-1]), model.fingerprint, f"ddim {convention}", noising=noising)
