"""Prompts that a network cannot take are refused by name before it sees them: its own errors speak of matrices and
kernels.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .model.pixel_model import PixelUNet
from .types import Model

_WIDTHS = "context_dim", "context_in_dim"  # of U-Nets; of Flux and its like
_PLAIN = "connect a plain prompt here"


def check_prompt(model: Model, conditioning: list | None, name: str) -> None:
    """Refuse a CONDITIONING that the network of a MODEL cannot take.

    Args:
        model: MODEL.
        conditioning: pairs of `[b n d]` and facts, already known to be such; None passes.
        name: of the input.

    Raises:
        ValueError: embeddings of another width than the network's, an area for a network that sees whole pictures only,
            or steps for which there is no prompt.
    """
    facts = [entry[1] for entry in conditioning or ()]
    _check_width(model, conditioning or [], name)
    if isinstance(model.model.diffusion_model, PixelUNet) and any(_is_area(f) for f in facts):
        raise ValueError(
            f"'{name}' holds for an area of the picture, but the network of this MODEL sees whole pictures only;"
            f" {_PLAIN}, without Conditioning (Set Area)"
        )
    if facts:
        _check_steps(facts, name)


def check_one_prompt(conditioning: list, name: str) -> None:
    """Refuse a CONDITIONING that is more than one prompt of the whole picture.

    Raises:
        ValueError: it has several entries, or holds for an area or inside of a mask.
    """
    parts = len(conditioning) > 1
    if parts or any("area" in facts or "mask" in facts for _, facts in conditioning):
        what = (
            f"{len(conditioning)} prompts (Conditioning (Combine))" if parts else "a prompt for a part of the picture"
        )
        raise ValueError(
            f"'{name}' holds {what}, and the attention to one prompt of the whole picture is read here; {_PLAIN}, or set"
            " method to contrast"
        )


def _check_width(model: Model, conditioning: list, name: str) -> None:
    """Networks that do not tell how wide their prompts are take any."""
    config = getattr(getattr(model.model, "model_config", None), "unet_config", None) or {}
    wanted = next((config[key] for key in _WIDTHS if isinstance(config.get(key), int)), None)
    for tensor, _ in conditioning if wanted is not None else ():
        if isinstance(tensor, Tensor) and tensor.dim() == 3 and tensor.shape[-1] != wanted:
            raise ValueError(
                f"'{name}' holds a prompt of width {tensor.shape[-1]}, but this MODEL takes {wanted}: it was encoded"
                " with the CLIP of another model; connect the CLIP of the same checkpoint to CLIP Text Encode"
            )


def _is_area(facts: dict[str, Any]) -> bool:
    return "area" in facts or ("mask" in facts and bool(facts.get("set_area_to_bounds")))


def _check_steps(facts: list[dict[str, Any]], name: str) -> None:
    """Where no prompt holds, the host takes 0 for what the network says, which is no picture."""
    end = 0.0
    for start, stop in sorted((f.get("start_percent", 0.0), f.get("end_percent", 1.0)) for f in facts):
        if start > end:
            break
        end = max(end, stop)
    if end < 1:
        raise ValueError(
            f"'{name}' holds for a part of the steps, and behind {end:.0%} of them there is no prompt; {_PLAIN}, or"
            " combine it with one for the rest (ConditioningSetTimestepRange, Conditioning (Combine))"
        )
