"""The trained shift of h of Asyrp (Kwon et al. 2023, arXiv 2210.10960, section 4.2): a block, or a table of shifts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import GroupNorm
from .step import StepEmbedding

Form = Literal["ddpm", "guided"]


class DDPMDelta(nn.Module):
    """h and embedding -> shift; names and order of the released blocks for the DDPM family."""

    def __init__(self, channels: int, emb: int):
        super().__init__()
        self.conv1, self.temb_proj = nn.Conv2d(channels, channels, 1), nn.Linear(emb, channels)
        self.norm2, self.conv2 = GroupNorm(32, channels, 1e-6), nn.Conv2d(channels, channels, 1)

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        """``h`` `[b c h w]`, ``emb`` `[b e]`."""
        x = self.conv1(h) + self.temb_proj(F.silu(emb))[:, :, None, None]
        return self.conv2(F.silu(self.norm2(x)))


class GuidedDelta(nn.Module):
    """h and embedding -> shift; names and order of the released blocks for iDDPM, ADM and P2 networks."""

    def __init__(self, channels: int, emb: int):
        super().__init__()
        self.in_layers = nn.Sequential(GroupNorm(32, channels, 1e-5), nn.SiLU(), nn.Conv2d(channels, channels, 1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb, channels))
        self.out_layers = nn.Sequential(GroupNorm(32, channels, 1e-5), nn.SiLU(), nn.Dropout(0.0), nn.Conv2d(channels, channels, 1))

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        """``h`` `[b c h w]`, ``emb`` `[b e]`."""
        return self.out_layers(self.in_layers(h) + self.emb_layers(emb)[:, :, None, None])


class Delta(nn.Module):
    """A block with the step embedding it was made for: ``delta(h, sigma)`` -> shift `[b c h w]`."""

    def __init__(self, channels: int, step: StepEmbedding, form: Form):
        super().__init__()
        self.form, self.step = form, step
        self.block = (DDPMDelta if form == "ddpm" else GuidedDelta)(channels, step.second.weight.shape[0])

    @property
    def channels(self) -> int:
        """Of the h it belongs to."""
        return next(p.shape[0] for p in self.block.parameters())

    def forward(self, h: Tensor, sigma: Tensor) -> Tensor:
        """``h`` `[b c h w]`, ``sigma`` `[b]`."""
        return self.block(h, self.step(sigma))


class DeltaTable(nn.Module):
    """One shift a noise level, the same for every picture: Asyrp's direct variant and its global shift.

    Args:
        shifts: `[t c h w]`.
        levels: `[t]`, their noise levels; with one, it serves all.
    """

    levels: Tensor

    def __init__(self, shifts: Tensor, levels: Tensor):
        super().__init__()
        if shifts.dim() != 4 or levels.shape != shifts.shape[:1]:
            raise ValueError(f"a table of shifts must be [t c h w] with t noise levels, got {list(shifts.shape)} and {list(levels.shape)}")
        self.shifts = nn.Parameter(shifts.float().clone())
        self.register_buffer("levels", levels.float().clone())

    @property
    def channels(self) -> int:
        """Of the h it belongs to."""
        return self.shifts.shape[1]

    def forward(self, h: Tensor, sigma: Tensor) -> Tensor:
        """``h`` `[b c h w]`, ``sigma`` `[b]`.

        Raises:
            ValueError: h has another size.
        """
        if h.shape[1:] != self.shifts.shape[1:]:
            raise ValueError(
                f"these shifts are {list(self.shifts.shape[1:])}, the model has {list(h.shape[1:])} there; use pictures of the size they "
                "were trained at"
            )
        log = self.levels.clamp_min(1e-8).log()
        return self.shifts[(log[None] - sigma.to(log).clamp_min(1e-8).log()[:, None]).abs().argmin(1)]


def form_of(state: Mapping[str, Tensor]) -> Form | None:
    """Which family the keys of a released block belong to; None if neither."""
    if {"conv1.weight", "temb_proj.weight", "norm2.weight", "conv2.weight"} <= set(state):
        return "ddpm"
    return "guided" if {"in_layers.0.weight", "emb_layers.1.weight", "out_layers.3.weight"} <= set(state) else None


def new_delta(net: nn.Module, channels: int, levels: Tensor, seed: int = 0) -> Delta:
    """An untrained block for a network, in the form that suits its family; ``seed`` is of its first weights."""
    form: Form = "ddpm" if hasattr(net, "temb") else "guided"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = Delta(channels, StepEmbedding.of(net, levels), form)
    last = made.block.conv2 if isinstance(made.block, DDPMDelta) else made.block.out_layers[3]
    with torch.no_grad():  # the released blocks are not zero at the start either, but a small one leaves the picture whole
        for p in last.parameters():
            p.mul_(0.1)
    return made
