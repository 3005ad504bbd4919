"""Describe the shape of a diffusion autoencoder, and read it off a state dict."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

from .ddpm import count

Reading = Literal["E", "D", "U"]
"""Where an HDAE reads its codes: on the encoder's way down (E), on a way back up from its last map (D), there with
lateral skips (U)."""
Injection = Literal["both", "enc", "dec"]
"""Which half of the U-Net the codes modulate besides its middle block."""


@dataclass(frozen=True)
class DiffAEConfig:
    """Shape of one network. Tuples have one entry a level, finest first.

    Attributes:
        channels: of the U-Net.
        encoder: channels of the semantic encoder.
        attention: which levels of the U-Net attend (the middle always does).
        encoder_attention: which levels of the encoder attend.
        blocks: residual blocks a level on the way down; one more on the way up.
        emb: width of the step embedding.
        code: width of one code.
        levels: codes of a picture: 0 for DiffAE's one vector, otherwise one a level of the U-Net.
        reading: see :data:`Reading`.
        injection: see :data:`Injection`.
        patch: > 1 folds ``patch x patch`` pixels into channels in front of U-Net and encoder (orthonormal, exact).
        in_channels: of the picture.
    """

    channels: tuple[int, ...]
    encoder: tuple[int, ...]
    attention: tuple[bool, ...]
    encoder_attention: tuple[bool, ...]
    blocks: int = 2
    emb: int = 512
    code: int = 512
    levels: int = 0
    reading: Reading = "E"
    injection: Injection = "both"
    patch: int = 1
    in_channels: int = 3

    def __post_init__(self) -> None:
        if len(self.attention) != len(self.channels) or len(self.encoder_attention) != len(self.encoder):
            raise ValueError("attention needs one entry a level")
        if self.levels and not (self.levels == len(self.channels) <= len(self.encoder)):
            raise ValueError(
                f"an HDAE has one code a level of its U-Net ({len(self.channels)}), read off as many levels of its"
                " encoder"
            )
        if self.reading not in get_args(Reading) or self.injection not in get_args(Injection):
            raise ValueError(f"unknown variant: reading {self.reading!r}, injection {self.injection!r}")

    @property
    def code_shape(self) -> tuple[int, ...]:
        """Give the shape of one picture's code: `[code]`, or `[levels code]`."""
        return (self.levels, self.code) if self.levels else (self.code,)

    @property
    def multiple(self) -> int:
        """Say of what number height and width of a picture must be multiples."""
        return self.patch * 2 ** (max(len(self.channels), len(self.encoder)) - 1)

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor], patch: int = 1) -> DiffAEConfig:
        """Read the configuration off the names and shapes of a state dict.

        Raises:
            ValueError: a key that the family must have is missing.
        """
        try:
            up = count(state, "output_blocks.{}.0.in_layers.0.weight")
            # A block that goes up a level ends in a second ResBlock; one that goes down looks like any other.
            levels = 1 + sum(f"output_blocks.{k}.{j}.in_layers.0.weight" in state for k in range(up) for j in (1, 2))
            per = up // levels  # blocks a level, the one that goes down included
            depth = _numbered(state, "encoder.input_blocks.") // per
            starts = [1 + i * per for i in range(max(levels, depth))]
            encoder = tuple(state[f"encoder.input_blocks.{n}.0.in_layers.2.weight"].shape[0] for n in starts[:depth])
            heads = count(state, "encoder.heads.{}.3.weight")
            back = state.get("encoder.up.0.in_layers.2.weight")
            down_code, up_code = (
                f"{side}_blocks.{n}.0.cond_emb_layers.1.weight" in state for side, n in (("input", 1), ("output", 0))
            )
            return cls(
                channels=tuple(state[f"input_blocks.{n}.0.in_layers.2.weight"].shape[0] for n in starts[:levels]),
                encoder=encoder,
                attention=tuple(f"input_blocks.{n}.1.qkv.weight" in state for n in starts[:levels]),
                encoder_attention=tuple(f"encoder.input_blocks.{n}.1.qkv.weight" in state for n in starts[:depth]),
                blocks=per - 1,
                emb=state["time_embed.time_embed.2.weight"].shape[0],
                code=state["encoder.out.3.weight"].shape[0],
                levels=heads + 1 if heads else 0,
                reading="E" if back is None else "D" if back.shape[1] == encoder[1] else "U",
                injection="both" if down_code and up_code else "enc" if down_code else "dec",
                patch=patch,
                in_channels=state["input_blocks.0.0.weight"].shape[1] // patch**2,
            )
        except (KeyError, IndexError, ZeroDivisionError) as error:
            raise ValueError(f"not a DiffAE: {error} is missing or misshapen") from error


def _numbered(state: Mapping[str, Tensor], prefix: str) -> int:
    """Count the blocks with ``prefix`` and a number."""
    return len({m[1] for k in state if (m := re.match(re.escape(prefix) + r"(\d+)\.", k))})
