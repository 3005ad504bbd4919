"""The frame axis of some models' states: `[b c 1 h w]` at the host's side, `[b c h w]` at ours.

Qwen-Image, Wan, Anima, Cosmos and Krea 2 share the autoencoders of video models, so that a picture is a video of one
frame for them. The axis is put on where a state goes to the host and taken off where one comes back.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from torch import Tensor

from ..types import Model

_FRAMES = 2  # its dimension


def counts_frames(model: Model) -> bool:
    """Whether the states of a MODEL have a frame axis."""
    return getattr(model.get_model_object("latent_format"), "latent_dimensions", 2) == 3


def with_frame(model: Model, state: Tensor) -> Tensor:
    """A state `[b c h w]` as the host has it."""
    return state.unsqueeze(_FRAMES) if state.dim() == 4 and counts_frames(model) else state


def without_frame(state: Tensor) -> Tensor:
    """A state of the host as `[b c h w]`.

    Raises:
        ValueError: it holds more frames than one.
    """
    if state.dim() != 5:
        return state
    if state.shape[_FRAMES] != 1:
        raise ValueError(
            f"this latent holds {state.shape[_FRAMES]} frames, and this pack edits single pictures; connect a latent of"
            " one frame"
        )
    return state.squeeze(_FRAMES)


def on_pictures(sample: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The loop of a SAMPLER, written for states `[b c h w]`, for models that count frames as well."""

    @wraps(sample)
    def run(model, x: Tensor, sigmas: Tensor, extra_args=None, callback=None, disable=None, **options) -> Tensor:
        if x.dim() != 5:
            return sample(model, x, sigmas, extra_args, callback, disable, **options)
        extra = dict(extra_args or {})
        if extra.get("denoise_mask") is not None:
            extra["denoise_mask"] = without_frame(extra["denoise_mask"])
        result = sample(_OneFrame(model), without_frame(x), sigmas, extra, callback, disable, **options)
        return result.unsqueeze(_FRAMES)

    return run


class _OneFrame:
    """A sampler's model, asked about states without the axis; all else is that of the model."""

    def __init__(self, model: Any):
        self._model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def __call__(self, x: Tensor, sigma: Tensor, **extra: Any) -> Tensor:
        """Denoised picture, `[b c h w]`."""
        return without_frame(self._model(x.unsqueeze(_FRAMES), sigma, **extra))
