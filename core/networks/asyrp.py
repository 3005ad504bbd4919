"""The trained shift of h of Asyrp (Kwon et al. 2023, arXiv 2210.10960, section 4.2): a block, or a table of shifts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..edit_schedule import EditSchedule
from ..fingerprint import check_built_on
from .layers import GroupNorm
from .step import StepEmbedding

Form = Literal["ddpm", "guided"]


class DDPMShift(nn.Module):
    """h and embedding -> shift; names and order of the released blocks for the DDPM family."""

    def __init__(self, channels: int, emb: int):
        super().__init__()
        self.conv1, self.temb_proj = nn.Conv2d(channels, channels, 1), nn.Linear(emb, channels)
        self.norm2, self.conv2 = GroupNorm(32, channels, 1e-6), nn.Conv2d(channels, channels, 1)

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        """Predict the shift of ``h`` `[b c h w]` for ``emb`` `[b e]`."""
        x = self.conv1(h) + self.temb_proj(F.silu(emb))[:, :, None, None]
        return self.conv2(F.silu(self.norm2(x)))


class GuidedShift(nn.Module):
    """h and embedding -> shift; names and order of the released blocks for iDDPM, ADM and P2 networks."""

    def __init__(self, channels: int, emb: int):
        super().__init__()
        self.in_layers = nn.Sequential(GroupNorm(32, channels, 1e-5), nn.SiLU(), nn.Conv2d(channels, channels, 1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb, channels))
        self.out_layers = nn.Sequential(
            GroupNorm(32, channels, 1e-5), nn.SiLU(), nn.Dropout(0.0), nn.Conv2d(channels, channels, 1)
        )

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        """Predict the shift of ``h`` `[b c h w]` for ``emb`` `[b e]`."""
        return self.out_layers(self.in_layers(h) + self.emb_layers(emb)[:, :, None, None])


class ShiftBlock(nn.Module):
    """A block with the step embedding it was made for: ``block(h, sigma)`` -> shift `[b c h w]`."""

    def __init__(self, channels: int, step: StepEmbedding, form: Form):
        super().__init__()
        self.form, self.step = form, step
        self.block = (DDPMShift if form == "ddpm" else GuidedShift)(channels, step.second.weight.shape[0])

    @property
    def channels(self) -> int:
        """Count the channels of the h it belongs to."""
        return next(p.shape[0] for p in self.block.parameters())

    def forward(self, h: Tensor, sigma: Tensor) -> Tensor:
        """Predict the shift of ``h`` `[b c h w]` at ``sigma`` `[b]`."""
        return self.block(h, self.step(sigma))


class ShiftTable(nn.Module):
    """One shift a noise level, the same for every picture: Asyrp's direct variant and its global shift.

    Args:
        shifts: `[t c h w]`.
        levels: `[t]`, their noise levels; with one, it serves all.
    """

    levels: Tensor

    def __init__(self, shifts: Tensor, levels: Tensor):
        super().__init__()
        if shifts.dim() != 4 or levels.shape != shifts.shape[:1]:
            raise ValueError(
                f"a table of shifts must be [t c h w] with t noise levels, got {list(shifts.shape)} and"
                f" {list(levels.shape)}"
            )
        self.shifts = nn.Parameter(shifts.float().clone())
        self.register_buffer("levels", levels.float().clone())

    @property
    def channels(self) -> int:
        """Count the channels of the h it belongs to."""
        return self.shifts.shape[1]

    def forward(self, h: Tensor, sigma: Tensor) -> Tensor:
        """Look up the shift of ``h`` `[b c h w]` at ``sigma`` `[b]`.

        Raises:
            ValueError: h has another size.
        """
        if h.shape[1:] != self.shifts.shape[1:]:
            raise ValueError(
                f"these shifts are {list(self.shifts.shape[1:])}, the model has {list(h.shape[1:])} there; use pictures"
                " of the size they were trained at. Nodes that shrink the picture inside of the network or cut it into"
                " windows do the same to h (PatchModelAddDownscale, Context Windows), and so do prompts for an area"
                " (Conditioning (Set Area)): take them out, or use Conditioning (Set Mask)"
            )
        log = self.levels.clamp_min(1e-8).log()
        return self.shifts[(log[None] - sigma.to(log).clamp_min(1e-8).log()[:, None]).abs().argmin(1)]


def form_of(state: Mapping[str, Tensor]) -> Form | None:
    """Find which family the keys of a released block belong to; None if neither."""
    if {"conv1.weight", "temb_proj.weight", "norm2.weight", "conv2.weight"} <= set(state):
        return "ddpm"
    return "guided" if {"in_layers.0.weight", "emb_layers.1.weight", "out_layers.3.weight"} <= set(state) else None


def new_asyrp(net: nn.Module, channels: int, levels: Tensor, seed: int = 0) -> ShiftBlock:
    """Build an untrained block in the form that suits a network's family; ``seed`` is of its first weights."""
    form: Form = "ddpm" if hasattr(net, "temb") else "guided"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = ShiftBlock(channels, StepEmbedding.of(net, levels), form)
    last = made.block.conv2 if isinstance(made.block, DDPMShift) else made.block.out_layers[3]
    with (
        torch.no_grad()
    ):  # the released blocks are not zero at the start either, but a small one leaves the picture whole
        for p in last.parameters():
            p.mul_(0.1)
    return made


@dataclass(frozen=True)
class TrainedAsyrp:
    """A block or a table of shifts, and what it was trained for.

    Attributes:
        shift: ``shift(h, sigma)`` -> what is added to h.
        fingerprint: of the model.
        sigma_edit: lowest noise level at which it acts (t_edit of the paper).
        steps: edited steps of the training run; a run of more steps adds the shift as many times more often, and each
            counts less.
        sigma_boost: from here down Asyrp draws noise anew (t_boost); 0 is off.
        layer: where it is added.
        label: for people, "face > smiling face".
        extra: figures of the training; ``sigma_start`` is the noisiest level that it saw.
        whole_steps: all steps of the training's grid, those that are not edited as well; 0 if unknown.
    """

    shift: ShiftBlock | ShiftTable
    fingerprint: str
    sigma_edit: float
    steps: int
    sigma_boost: float = 0.0
    layer: str = "middle"
    label: str = ""
    extra: dict = field(default_factory=dict)
    whole_steps: int = 0

    def factor(self, covered: int, whole: int) -> float:
        """Say how much of the shift each of ``covered`` edited steps takes in a run of ``whole`` steps.

        The released code multiplies by the steps of the whole training grid over those of the run's, both spread evenly
        over t. A run that is spread likewise, edited over the same share to one step of the coarser grid, gets that
        number; any other one, such as a Karras schedule or a run from less noise, the ratio of the edited steps alone,
        which is what that number stands for.
        """
        if not covered:
            return 1.0
        if self.whole_steps and whole:
            apart = abs(self.steps / self.whole_steps - covered / whole)
            if apart * min(self.whole_steps, whole) <= 1 + 1e-9:
                return self.whole_steps / whole
        return self.steps / covered

    def schedule(self, strength: float, sigma_end: float = 0.0) -> EditSchedule:
        """Take the levels that it was trained at, at a strength; ``sigma_end`` above 0 is another lowest one.

        Raises:
            ValueError: ``sigma_end`` lies above the noisiest level that it was trained at.
        """
        top = self.extra.get("sigma_start", math.inf)
        top, low = float(top) if isinstance(top, (int, float)) else math.inf, sigma_end or self.sigma_edit
        if sigma_end > top:
            raise ValueError(
                f"sigma_end {sigma_end:g} lies above {top:.4g}, the noisiest level that this edit was trained at, so"
                " the window is empty; lower sigma_end, or set it to 0 for the level that it was trained for"
            )
        return EditSchedule(strength, sigma_start=max(top, low), sigma_end=low)

    def check_model(self, fingerprint: str, layers: tuple[str, ...]) -> None:
        """Refuse a model built on other weights; LoRA and the like may differ.

        Raises:
            ValueError: the fingerprints differ, or the model has no such layer.
        """
        if self.layer not in layers:
            raise ValueError(
                f"this trained edit acts at layer {self.layer!r}, which this model does not have ({', '.join(layers)})"
            )
        check_built_on(
            self.fingerprint, fingerprint, "this edit was trained", "connect that model, or train it on this one"
        )
