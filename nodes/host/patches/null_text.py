"""Null-text optimisation on the host's MODEL: the two sides of its guidance apart, and the embeddings found as a
scheduled CONDITIONING.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ....core.invert.null_text import NullText, NullTextSettings, optimise_null_text, windows
from ....core.trajectory import Trajectory
from ..model.denoiser import HostDenoiser
from ..model.prompts import Prompts
from ..training import ordinary, ordinary_path, with_training

_TOP = 999999999.9  # the host's own "from the start"
_TIMES = ("start_percent", "end_percent", "clip_start_percent", "clip_end_percent")
_GUIDANCE = ("sampler_cfg_function", "sampler_pre_cfg_function", "sampler_post_cfg_function")


class _Sides:
    """See :class:`core.invert.null_text.TwoPrompts`."""

    def __init__(self, denoiser: HostDenoiser):
        self._denoiser = denoiser
        self.fingerprint = denoiser.fingerprint

    def positive(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self._denoiser.alone(x, sigma, "positive")

    def negative(self, x: Tensor, sigma: Tensor, embedding: Tensor) -> Tensor:
        return self._denoiser.alone(x, sigma, "negative", embedding)


def null_text(
    model,
    trajectory: Trajectory,
    positive: list,
    negative: list,
    cfg: float,
    settings: NullTextSettings,
    callback: Callable[[dict], None],
) -> tuple[list, NullText, NullText]:
    """Fit the negative prompt of every step.

    Args:
        model: MODEL, the one that was inverted.
        trajectory: from Invert Image at cfg 1.
        positive: CONDITIONING of the source.
        negative: CONDITIONING to begin with, one entry; what it carries beside its embedding is kept.
        cfg: guidance of the edit.
        settings: how.
        callback: progress and Cancel.

    Returns:
        CONDITIONING with one entry a step, each bounded by sigmas (``timestep_start`` and ``timestep_end``, which the
        host's samplers honour as they are), what was found, and what the plain negative gives.

    Raises:
        ValueError: several negative prompts or one that holds for a part of the steps, or a MODEL that changes
            guidance.
    """
    if len(negative) != 1 or any(key in negative[0][1] for key in _TIMES):
        raise ValueError(
            "'negative' must be one prompt for all steps, got"
            f" {len(negative)}{' with a timestep range' if len(negative) == 1 else ''}; connect one CLIP Text Encode"
            " with an empty text"
        )
    if any(model.model_options.get(key) for key in _GUIDANCE):
        raise ValueError(
            "null-text optimisation solves for plain guidance, but the MODEL connected carries a node that changes it"
            " (RescaleCFG, Proximal CFG, PAG); connect the MODEL from before that node"
        )
    embedding, rest = negative[0]

    def work(denoiser):
        steps = ordinary_path(trajectory, model.load_device)
        sides = _Sides(denoiser)
        begin = ordinary(embedding.to(model.load_device))
        plain = optimise_null_text(sides, steps, begin, cfg, NullTextSettings(steps=0), callback=callback)
        return optimise_null_text(sides, steps, begin, cfg, settings, callback=callback), plain

    fitted, plain = with_training(model, trajectory.x0.shape, Prompts(positive, negative, cfg), work)
    entries = []
    for tensor, (high, low) in zip(fitted.embeddings.cpu(), windows(trajectory), strict=True):
        entries.append([tensor.to(embedding.dtype), {**rest, "timestep_start": min(high, _TOP), "timestep_end": low}])
    return entries, fitted, plain
