"""Proximal guidance as a patch of a MODEL after its guidance, so that it stacks with other packs' nodes."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ....core.edit.noise.proximal import proximal, towards
from ....core.trajectory import Trajectory
from ..model.fingerprint import model_fingerprint
from ..types import Model
from .steering import RAW, check_unchanged, is_first

_GUIDED_T = 0.4
_MARK = "hspace_proximal"


def add_proximal(
    model, quantile: float, mode: str, trajectory: Trajectory | None, sigma_guide: float, rate: float, dilate: int
):
    """A clone of MODEL with proximal guidance.

    Args:
        model: MODEL.
        quantile: see :func:`core.edit.noise.proximal.proximal`; 0 without a trajectory changes nothing.
        mode: hard or soft.
        trajectory: of the source, for inversion guidance, or None.
        sigma_guide: that guidance acts at or below this level; 0: t = 400 of 1000, as in the paper.
        rate: its strength, 0..1.
        dilate: pixels by which the region that may change is widened.

    Raises:
        ValueError: another model's trajectory, or an option out of range.
    """
    if trajectory is not None:
        trajectory.check_model(model_fingerprint(model))
    sigma_guide = sigma_guide or float(model.get_model_object("model_sampling").percent_to_sigma(1 - _GUIDED_T))
    clone = model.clone()

    def patch(args: dict[str, Any]) -> Tensor:
        denoised = args["denoised"]
        plain = args["uncond_denoised"]
        options = args["model_options"].get("transformer_options", {})
        # At cfg 1 the host has no negative prediction to compare with; inversions see the model as it is.
        if args["uncond"] is None or options.get(RAW):
            return denoised
        if trajectory is not None and is_first(args["sigma"], options):
            check_unchanged(trajectory.check_model, "Proximal CFG", args["model"].current_patcher)
        delta = args["cond_denoised"] - plain
        large_part, large = proximal(delta, quantile, mode)
        if quantile:
            denoised = denoised - args["cond_scale"] * (delta - large_part)
        sigma = float(args["sigma"].max())
        if trajectory is None or not rate or sigma > sigma_guide:
            return denoised
        levels = options["sample_sigmas"]
        lower = levels[levels < sigma * (1 - 1e-4)]
        nxt = float(lower.max()) if len(lower) else 0.0
        return towards(denoised, args["input"], sigma, nxt, trajectory, large, rate, dilate)

    # Nothing is left out of a walk where nothing acts.
    setattr(patch, _MARK, bool(quantile or (trajectory is not None and rate)))
    clone.set_model_sampler_post_cfg_function(patch)
    return clone


def carries_proximal(model: Model) -> bool:
    """Whether Proximal CFG is on a MODEL: it acts in a sampler only."""
    return any(getattr(function, _MARK, False) for function in model.model_options.get("sampler_post_cfg_function", ()))
