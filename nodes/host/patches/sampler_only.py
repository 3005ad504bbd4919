"""Edits on a MODEL that act in a sampler only: nodes that walk the network by themselves would leave them out."""

from __future__ import annotations

from ..types import Model
from .attention import ATTENTION_KEY
from .edit_dial import carries_edit_dial
from .proximal import carries_proximal


def sampler_only(model: Model) -> list[str]:
    """Names of the nodes whose edits of attention or of guidance are on a MODEL."""
    edits = model.model_options.get("transformer_options", {}).get(ATTENTION_KEY, ())
    names = sorted({edit.node for edit in edits})
    return names + ["Proximal CFG"] * carries_proximal(model) + ["Edit Dial"] * carries_edit_dial(model)


def refuse_sampler_only(model: Model, instead: str) -> None:
    """Refuse a MODEL whose edits a walk outside of a sampler would leave out.

    Args:
        model: MODEL.
        instead: what to do.

    Raises:
        ValueError: it carries edits of attention or of guidance.
    """
    names = sampler_only(model)
    if names:
        raise ValueError(f"this MODEL carries {', '.join(names)}, which act in a sampler only; {instead}")
