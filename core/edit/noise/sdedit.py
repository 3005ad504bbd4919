"""SDEdit: noise a picture or a painting half-way and denoise it (Meng et al. 2022, arXiv 2108.01073, sec. 3).

``x = x0 + sigma(t0) e``, then the reverse SDE, which in this dialect is ancestral Euler. With a mask the rest of the
picture is noised with the same e and put back at every level.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...denoiser import Callback, Denoiser, predict, report_step
from ...inputs import IMAGE_LIMIT, check_image, check_sigmas
from ...masks import fit_mask
from ...noise import fresh_noise
from ...sample import check_eta, edited_step

ALL_STEPS = "all steps"
SPACINGS = ("uniform", "karras", ALL_STEPS)
"""``uniform``: equal steps in t. ``karras``: the host's scheduler (rho 7) below sigma(t0). ``all steps``: every integer
t (the paper)."""


def sdedit_sigmas(table: Tensor, t0: float, steps: int, spacing: str = "uniform") -> Tensor:
    """List the levels from t0 down to 0, `[n+1]` float64.

    The released code starts at the integer step t - 1 of its count t, and so does this: ``sigmas[0] = table[round(t0 T)
    - 1]``.

    Args:
        table: sigma of every integer step of the model, `[T]`, increasing.
        t0: share of the chain, 0 < t0 <= 1. The paper uses 0.3 to 0.6; more is more realistic and less faithful.
        steps: model calls; ``all steps`` ignores it.
        spacing: one of :data:`SPACINGS`.

    Raises:
        ValueError: an option outside its range, or more steps than the chain has below t0.
    """
    if spacing not in SPACINGS:
        raise ValueError(f"spacing must be one of {', '.join(SPACINGS)}, got {spacing!r}")
    if not 0 < t0 <= 1:
        raise ValueError(
            f"t0 must lie above 0 and up to 1 (the share of the noise that is put on), got {t0}; 0.5 is a good start"
        )
    table = table.detach().to("cpu", torch.float64)
    top = max(round(t0 * len(table)), 1) - 1
    if spacing == "all steps":
        steps = top + 1
    if not 1 <= steps <= top + 1:
        raise ValueError(
            f"steps must lie in 1..{top + 1}, the integer steps of this model below t0 = {t0:g}, got {steps}"
        )
    if spacing == "karras" and steps > 1:
        ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
        first = table[top] ** (1 / 7)
        last = table[0] ** (1 / 7)
        levels = (first + ramp * (last - first)) ** 7
    else:
        levels = table[torch.linspace(top, 0, steps).round().long()] if steps > 1 else table[top : top + 1]
    return torch.cat([levels, torch.zeros(1, dtype=torch.float64)])


@dataclass(frozen=True)
class SDEditOptions:
    """How often and how a guide is noised.

    Attributes:
        repeats: K, >= 1. The released code has 3; more is more realistic and less faithful.
        eta: 1 is the paper's SDE, 0 the deterministic ODE.
        seed: of all noise, which is the same for every picture of a batch.

    Raises:
        ValueError: an option outside its range.
    """

    repeats: int = 3
    eta: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.repeats < 1:
            raise ValueError(f"repeats must be 1 or more, got {self.repeats}; the paper's code has 3")
        check_eta(self.eta)


@torch.no_grad()
def sdedit(
    model: Denoiser,
    guide: Tensor,
    sigmas: Tensor,
    options: SDEditOptions | None = None,
    *,
    mask: Tensor | None = None,
    callback: Callback | None = None,
    limit: float | None = IMAGE_LIMIT,
) -> Tensor:
    """Denoise a noised guide, a few times over, each time with new noise on what came out.

    Args:
        model: any denoiser.
        guide: the picture or painting, `[b c h w]` in -1..1.
        sigmas: `[n+1]` from sigma(t0) to 0, from :func:`sdedit_sigmas` or any scheduler.
        options: how often, and with how much noise on the way.
        mask: `[h w]` in 0..1, 1 where the picture is edited and 0 where it stays (the polarity of the host's noise
            masks; the released code has it the other way round). What stays ends as it was, exactly; its noised states
            carry the noise of the level that they are at (the released code: of one step above). Between 0 and 1 both
            are blended.
        callback: called after every step.
        limit: largest magnitude of an image; None for latents.

    Returns:
        Edited picture `[b c h w]`.

    Raises:
        ValueError: a guide, mask or grid that is refused.
    """
    options = options or SDEditOptions()
    repeats, eta = options.repeats, options.eta
    source = check_image(guide, limit)
    s = check_sigmas(sigmas).tolist()
    region = (
        None
        if mask is None
        else fit_mask(mask.to(source.device), *source.shape[-2:]).to(source)[None, None].expand_as(source)
    )
    generator = torch.Generator().manual_seed(options.seed)
    n = len(s) - 1
    edited = source
    for k in range(repeats):
        noise = fresh_noise(source, generator)
        x = edited + s[0] * noise
        for i in range(n):
            denoised = predict(model, x, x.new_full((x.shape[0],), s[i]))
            x = edited_step(
                x,
                s[i],
                s[i + 1],
                denoised,
                denoised,
                eta=eta,
                noise=fresh_noise(x, generator) if eta and s[i + 1] else None,
            )
            if region is not None:
                x = torch.lerp(source + s[i + 1] * noise, x, region)
            report_step(callback, k * n + i, repeats * n, x=x, sigma=s[i], denoised=denoised)
        edited = x
    return edited
