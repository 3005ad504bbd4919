"""The Edit Dial as a patch of a MODEL after its guidance, so that every sampler and schedule and quantised weights run
with it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ....core.edit.noise.edit_dial import dial_edit, flow_state
from ....core.measure.shift import find_shift
from ..model.latents import latents_in
from ..model.traits import noising_of
from ..progress import say
from ..types import Model
from ..ui import say as warn
from .steering import RAW

_MARK = "hspace_edit_dial"
_SAME = 1e-4
_HALF = 0.5  # share of noise at and below which a prediction shows where things are


def add_edit_dial(model, latent: Tensor, strength: float, keep: float, decided_per: str, sigma_end: float):
    """A clone of MODEL whose predictions are held at a source.

    Args:
        model: MODEL.
        latent: of the source as the VAE gave it, `[1 or b c ... h w]`.
        strength, keep, decided_per: see :func:`core.edit.noise.edit_dial.dial_edit`.
        sigma_end: acts at or above this level; 0 is in every step.
    """
    source = latents_in(model, latent.float())
    noising = noising_of(model)
    half = _HALF if noising == "flow" else _HALF / (1 - _HALF)
    shares: list[float] = []

    def patch(args: dict[str, Any]) -> Tensor:
        denoised, x, sigma = args["denoised"], args["input"], float(args["sigma"].max())
        options = args["model_options"].get("transformer_options", {})
        # Inversions see the model as it is.
        if options.get(RAW) or sigma < sigma_end * (1 - _SAME):
            return denoised
        held = _rows(source, denoised)
        out, kept = dial_edit(denoised, flow_state(x, args["sigma"], noising), held, strength, keep, decided_per)
        levels = options.get("sample_sigmas")
        if _is_first_below(sigma, half, levels):
            _tell_shift(denoised, held)
        _tell(shares, float(kept.float().mean()), sigma, levels)
        return out

    clone = model.clone()
    setattr(patch, _MARK, True)
    clone.set_model_sampler_post_cfg_function(patch)
    return clone


def carries_edit_dial(model: Model) -> bool:
    """Whether the Edit Dial is on a MODEL: it acts in a sampler only."""
    return any(getattr(function, _MARK, False) for function in model.model_options.get("sampler_post_cfg_function", ()))


def _rows(source: Tensor, denoised: Tensor) -> Tensor:
    """The source for every row of a call.

    Raises:
        ValueError: it has another size, or the rows do not fit.
    """
    if source.dim() == 4 and denoised.dim() == 5:
        source = source.unsqueeze(2)
    if source.shape[1:] != denoised.shape[1:] or len(denoised) % len(source):
        raise ValueError(
            f"'source' of Edit Dial is {list(source.shape)}, but the sampler draws {list(denoised.shape)}; connect the"
            " latent of the very picture that the reference was made from (after its scaling), and sample in its size"
        )
    return source.to(denoised).repeat(len(denoised) // len(source), *(1,) * (source.dim() - 1))


def _is_first_below(sigma: float, half: float, levels: Tensor | None) -> bool:
    """Whether no earlier level of the run lies at or below ``half``."""
    if levels is None or sigma > half:
        return False
    return not bool(((levels <= half) & (levels > sigma * (1 + _SAME))).any())


def _tell_shift(denoised: Tensor, source: Tensor) -> None:
    """Say if the model has moved the whole picture, so that hardly anything agrees with the source."""
    down, right = find_shift(denoised[0], source[0])
    if down or right:
        warn(
            f"Edit Dial: the model has moved the whole picture by {abs(right)} cells to the"
            f" {'right' if right > 0 else 'left'} and {abs(down)} {'down' if down > 0 else 'up'}, so that little agrees"
            " with the source; take sizes that are multiples of 32 pixels and make about a megapixel"
        )


def _tell(shares: list[float], share: float, sigma: float, levels: Tensor | None) -> None:
    """Say at the end of a run how much was kept, step by step."""
    if levels is None or not len(levels):
        return
    if sigma >= float(levels[0]) * (1 - _SAME):
        shares.clear()
    shares.append(share)
    steps = levels[levels > 0]
    if len(steps) and sigma <= float(torch.min(steps)) * (1 + _SAME):
        say(f"Edit Dial kept {' '.join(f'{one:.0%}' for one in shares)} of the picture's latent, step by step")
