"""What a model is conditioned on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ....core.trajectory import StoredPrompts
from ..prompt_checks import check_prompt
from .coded_model import CodedUNet
from .pixel_model import PixelUNet, no_conditioning


@dataclass(frozen=True)
class Prompts:
    """What a model is conditioned on: CONDITIONING lists of the host and the guidance scale."""

    positive: list = field(default_factory=no_conditioning)
    negative: list = field(default_factory=list)
    cfg: float = 1.0

    @staticmethod
    def of(trajectory: Any) -> Prompts:
        """Those that a trajectory was inverted with."""
        return Prompts(**(trajectory.prompts or {}))

    @staticmethod
    def given(model, positive: list | None, negative: list | None = None, cfg: float = 1.0) -> Prompts:
        """Those connected to a node, where models without prompts need none.

        Raises:
            ValueError: one that the model or the guidance needs is missing, or is of another text encoder.
        """
        net = model.model.diffusion_model
        if positive is None and isinstance(net, CodedUNet):
            raise ValueError("this model draws from a semantic code; connect Encode Semantic Code to 'positive'")
        if positive is None and not isinstance(net, PixelUNet):
            raise ValueError("this model takes prompts; connect CLIP Text Encode to 'positive' (an empty text will do)")
        if negative is None and cfg != 1:
            raise ValueError(
                f"cfg {cfg:g} guides away from a negative prompt, but none is connected; connect 'negative' or set cfg"
                " to 1"
            )
        check_prompt(model, positive, "positive")
        check_prompt(model, negative, "negative")
        return Prompts(positive or no_conditioning(), negative or [], cfg)

    def stored(self) -> StoredPrompts:
        """Give them the form that a trajectory carries."""
        return {"positive": self.positive, "negative": self.negative, "cfg": self.cfg}
