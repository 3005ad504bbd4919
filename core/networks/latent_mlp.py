"""The latent denoising network of Diffusion Autoencoders.

Preechakul et al. 2022, arXiv 2111.15640, section 4 and appendix A.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..schedule import Schedule
from .ddpm import count
from .layers import frequencies

SCHEDULE = Schedule("linear", 1000, 0.008, 0.008)
"""Constant beta, which suits codes of unit variance."""


@dataclass(frozen=True)
class LatentConfig:
    """Shape of one network.

    Attributes:
        size: coordinates of one (flattened) code.
        hidden: width of the hidden layers.
        layers: how many, the last included; all but the first see the input again.
        emb: width of the step embedding.
        base: width of the sinusoids.
    """

    size: int = 512
    hidden: int = 2048
    layers: int = 10
    emb: int = 512
    base: int = 64

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> LatentConfig:
        """Read the configuration off the names and shapes of a state dict.

        Raises:
            ValueError: a key that must be there is missing.
        """
        try:
            hidden, size = state["layers.0.linear.weight"].shape
            emb, base = state["time_embed.0.weight"].shape
            return cls(size, hidden, count(state, "layers.{}.linear.weight"), emb, base)
        except (KeyError, ValueError) as error:
            raise ValueError(f"not a latent network: {error} is missing or misshapen") from error


class _Layer(nn.Module):
    def __init__(self, inp: int, out: int, emb: int):
        super().__init__()
        self.linear = nn.Linear(inp, out)
        nn.init.kaiming_normal_(self.linear.weight, nonlinearity="relu")
        if emb:
            self.linear_emb = nn.Linear(emb, out)
            self.norm = nn.LayerNorm(out)
            nn.init.kaiming_normal_(self.linear_emb.weight, nonlinearity="relu")

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        y = self.linear(x)
        return nn.functional.silu(self.norm(y * (1 + self.linear_emb(emb)))) if hasattr(self, "norm") else y


class LatentMLP(nn.Module):
    """Noisy normalised code `[b d]` and step `[b]` -> the noise in it `[b d]`.

    Parameters are named as in the released files.
    """

    def __init__(self, config: LatentConfig):
        super().__init__()
        self.config = c = config
        if c.layers < 2:
            raise ValueError(f"a latent network has at least 2 layers, got {c.layers}")
        self.time_embed = nn.Sequential(nn.Linear(c.base, c.emb), nn.SiLU(), nn.Linear(c.emb, c.emb))
        hidden = (_Layer(c.hidden + c.size, c.hidden, c.emb) for _ in range(c.layers - 2))
        self.layers = nn.ModuleList([_Layer(c.size, c.hidden, c.emb), *hidden, _Layer(c.hidden + c.size, c.size, 0)])

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """See the class."""
        angle = frequencies(t, self.config.base // 2, 0.0).to(x.dtype)
        emb = nn.functional.silu(self.time_embed(torch.cat([angle.cos(), angle.sin()], 1)))
        h = self.layers[0](x, emb)
        for layer in self.layers[1:]:
            h = layer(torch.cat([h, x], 1), emb)
        return h
