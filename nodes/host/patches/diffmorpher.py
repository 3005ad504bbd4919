"""Frames between two inverted pictures on the host's networks: every row of a batch has a LoRA blend, a prompt and keys
of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import comfy.sd
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import Tensor

from ....core.denoiser import Callback
from ....core.edit.noise.exact import check_plain
from ....core.edit.weights.diffmorpher import interpolated_steps, noises_between
from ....core.networks.low_rank import beside, blended
from ....core.sample import walk_down
from ....core.trajectory import Trajectory
from ..model.fingerprint import model_fingerprint
from ..model.lora import low_rank
from ..model.prompts import Prompts
from ..model.run import with_denoiser
from ..model.unet_blocks import attentions

_ROUNDING = 1e-4


@dataclass(frozen=True)
class KeyValues:
    """An ``attn1_patch``: keys and values of the decoder's self-attention see the rows at both ends, interpolated;
    queries their own.

    What a patch gets is not projected yet, so each row's own weights (and LoRA) project the interpolation. Row 0 of
    every prompt's rows is the first picture, the last row the second.

    Attributes:
        alphas: `[rows]`, from 0 to 1.
        lowest: noise level of the last step that is patched.
    """

    alphas: Tensor
    lowest: float

    def __call__(self, n: Tensor, context: Tensor, value: Tensor, options: dict) -> tuple[Tensor, Tensor, Tensor]:
        """See the class."""
        if options.get("block", ("",))[0] != "output" or float(options["sigmas"].max()) < self.lowest * (1 - _ROUNDING):
            return n, context, value
        if len(n) != len(self.alphas) * len(options.get("cond_or_uncond", (0,))):
            raise ValueError(
                f"frames are {len(self.alphas)} rows of a batch, but another node has made {len(n)} of them before this"
                " one could interpolate; connect the MODEL from before that node (HyperTile and its like)"
            )
        rows = len(self.alphas)
        weights = self.alphas.to(n)[:, None, None]
        context, value = (self._between(v, rows, weights) for v in (context, value))
        return n, context, value

    @staticmethod
    def _between(h: Tensor, rows: int, weights: Tensor) -> Tensor:
        chunks = h.unflatten(0, (-1, rows))
        return torch.lerp(chunks[:, :1], chunks[:, -1:], weights).flatten(0, 1)


def first_patch(model, patch: KeyValues):
    """A clone of MODEL with an ``attn1_patch`` before all others, which may gather tokens or split rows."""
    clone = model.clone()
    options = clone.model_options["transformer_options"]
    patches = options.get("patches", {})
    options["patches"] = {**patches, "attn1_patch": [patch, *patches.get("attn1_patch", ())]}
    return clone


def decoder_layers(model) -> int:
    """How many self-attention layers the decoder of a MODEL has."""
    net = model.model.diffusion_model
    return sum(place.block[0] == "output" for place in attentions(net)) if isinstance(net, UNetModel) else 0


def morph(
    model,
    first: Trajectory,
    second: Trajectory,
    loras: tuple[Any, Any],
    alphas: Sequence[float],
    *,
    mode: str,
    statistics: bool,
    share: float,
    batch: int,
    report: Callback,
) -> Tensor:
    """The clean states of all frames, `[n c h w]` on the CPU.

    Args:
        model: MODEL without the LoRAs.
        first, second: each inverted with its own LoRA on the MODEL, if it has one.
        loras: LORA_MODEL or None of each.
        alphas: of the frames.
        mode: see :func:`core.networks.low_rank.blended`.
        statistics: AdaIN of the noise.
        share: of the steps, from the noisiest, that interpolate self-attention.
        batch: frames at a time. The rows of both ends run along with every batch that does not hold them.
        report: called after every step.

    Raises:
        ValueError: trajectories of other models or grids, LoRAs that cannot be blended, or prompts that cannot.
    """
    for trajectory, lora, which in ((first, loras[0], "first"), (second, loras[1], "second")):
        check_plain(trajectory)
        trajectory.check_euler("DiffMorpher")
        _check_inverted(model, trajectory, lora, which)
    steps = interpolated_steps(len(first.sigmas) - 1, share) if decoder_layers(model) else 0
    pairs = [
        {} if lora is None else low_rank(model, lora, f"lora_{which}")
        for lora, which in zip(loras, ("first", "second"), strict=True)
    ]
    first = first.to(model.load_device)
    second = second.to(model.load_device)
    noises_between(first, second, alphas, statistics)  # refuses what does not fit before anything runs
    levels = first.sigmas.tolist()
    frames = []
    for start in range(0, len(alphas), batch):
        wanted = list(alphas[start : start + batch])
        # Self-attention is interpolated from the rows of both ends, so they run along for those steps.
        before, after = (wanted[0] != 0, wanted[-1] != 1) if steps else (False, False)
        rows = [0.0] * before + wanted + [1.0] * after
        x = noises_between(first, second, rows, statistics)
        cut = steps if before or after else 0
        for places, part in ((rows, levels[: cut + 1]), (wanted, levels[cut:])):
            if len(part) > 1:
                x = x if len(x) == len(places) else x[before : len(x) - after]
                prompts = _between(Prompts.of(first), Prompts.of(second), places)
                attends = steps > 0 and part[0] == levels[0]
                patched = first_patch(model, KeyValues(_column(places), levels[steps - 1])) if attends else model
                x = _walk(patched, x, part, prompts, blended(pairs[0], pairs[1], places, mode), report)
        frames.append((x if len(x) == len(wanted) else x[before : len(x) - after]).cpu())
    return torch.cat(frames)


def _column(alphas: Sequence[float]) -> Tensor:
    return torch.tensor(list(alphas), dtype=torch.float64)


def _walk(model, x: Tensor, levels: Sequence[float], prompts: Prompts, branches: dict, report: Callback) -> Tensor:
    """Rows `[n c h w]` some steps further down, each under its own prompt and blend of the LoRAs."""

    def work(denoiser):
        with beside(denoiser.patcher.model, branches):
            return walk_down(denoiser, x, levels, callback=report)

    return with_denoiser(model, x.shape, prompts, work, again=False)


def groups(alphas: Sequence[float], batch: int) -> int:
    """How many batches :func:`morph` runs."""
    return math.ceil(len(alphas) / batch)


def _check_inverted(model, trajectory: Trajectory, lora: Any, which: str) -> None:
    tuned: Any = model if lora is None else comfy.sd.load_lora_for_models(model, None, dict(lora), 1.0, 0.0)[0]
    expected = model_fingerprint(tuned)
    if trajectory.fingerprint != expected:
        raise ValueError(
            f"the {which} trajectory was made with model {trajectory.fingerprint}, but the model"
            f" here{'' if lora is None else ' with its LoRA'} is {expected}; invert the picture with"
            f" {'this MODEL' if lora is None else 'Load LoRA Model: this MODEL, its LoRA, strength 1'}"
        )


def _between(first: Prompts, second: Prompts, alphas: Sequence[float]) -> Prompts:
    """Prompts of rows."""
    if first.cfg != second.cfg:
        raise ValueError(f"both pictures must be inverted at one cfg, got {first.cfg:g} and {second.cfg:g}")
    parts = [(first.positive, second.positive, "positive")]
    if first.cfg != 1:
        parts.append((first.negative, second.negative, "negative"))
    positive, *negative = [_mixed(*part, alphas) for part in parts]
    return Prompts(positive, negative[0] if negative else [], first.cfg)


def _mixed(first: list, second: list, name: str, alphas: Sequence[float]) -> list:
    if len(first) != len(second):
        raise ValueError(
            f"the {name} prompts have {len(first)} and {len(second)} parts; combine as many for both pictures"
        )
    return [
        [_rows(a, b, alphas), _facts(more, others, name, alphas)]
        for (a, more), (b, others) in zip(first, second, strict=True)
    ]


def _rows(a: Tensor, b: Tensor, alphas: Sequence[float]) -> Tensor:
    """`[1 n c]` each -> `[rows n c]`. The shorter is repeated, which attention does not notice, as the host does it."""
    tokens = math.lcm(a.shape[1], b.shape[1])
    a = _repeat_tokens(a, tokens)
    b = _repeat_tokens(b, tokens)
    weights = torch.tensor(list(alphas), dtype=a.dtype, device=a.device)
    weights = weights.reshape(-1, *[1] * (a.dim() - 1))
    return torch.lerp(a[:1], b[:1].to(a), weights)


def _repeat_tokens(v: Tensor, tokens: int) -> Tensor:
    """A prompt `[b n c]` of so many tokens; pooled text `[b c]` stays as it is."""
    return v.repeat(1, tokens // v.shape[1], *[1] * (v.dim() - 2)) if v.dim() > 2 else v


def _facts(first: dict, second: dict, name: str, alphas: Sequence[float]) -> dict:
    """What stands beside a prompt: the pooled text is interpolated, all else must agree."""
    facts = {}
    for key in {**first, **second}:
        a = first.get(key)
        b = second.get(key)
        if isinstance(a, Tensor) and isinstance(b, Tensor) and key == "pooled_output":
            facts[key] = _rows(a, b, alphas)
        elif _same(a, b):
            facts[key] = a
        else:
            raise ValueError(
                f"the {name} prompts of the two pictures differ in {key!r}, which has no in-between; give both the same"
            )
    return facts


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return isinstance(a, Tensor) and isinstance(b, Tensor) and torch.equal(a, b)
    return a is b or a == b
