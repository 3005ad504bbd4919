"""FlowEdit as a SAMPLER of the host: source and target prompts are the rows of Pair Conditioning, or the source comes by
itself. One side is asked at a time, so that each has its own guidance, its own number of tokens and the host's batching.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import comfy.sampler_helpers
import comfy.samplers
import torch
from comfy.conds import CONDConstant, CONDRegular
from comfy.utils import repeat_to_batch_size
from torch import Tensor

from ....core.edit.noise.flowedit import FlowEditOptions, Prompted, edit_by_difference
from ..patches.caches import check_second_calls, resting
from ..patches.pairs import GUIDANCE, pair_rows
from ..patches.sampler_only import sampler_only
from ..patches.steering import edits_of
from ..prompt_checks import check_prompt
from .noise_mask import check_options, region
from .whole_run import once, whole

_NODE = "FlowEdit"
_NOT_ALONE = ("control", "gligen", "hooks")


def flowedit_sampler(options: FlowEditOptions, source_cfg: float, source: list | None = None):
    """SAMPLER for SamplerCustomAdvanced; the seed is that of the sampler's NOISE.

    The source row of every pair comes out as it went in. A noise mask on the latent is the region that may change.

    Args:
        options: how far and how steadily; its seed is replaced.
        source_cfg: guidance of the source prompt; 0 is that of the GUIDER.
        source: CONDITIONING of the source prompt; the GUIDER then holds the target alone, and no row of the latent is a
            source. None: it is the first row of Pair Conditioning, on a latent from Pair Latent.
    """

    def sample(model, x: Tensor, sigmas: Tensor, extra_args=None, callback=None, disable=None, **loop) -> Tensor:
        check_options(loop, _NODE)
        guider = model.inner_model
        extra = dict(extra_args or {})
        _check_levels(sigmas)
        _check_edits(guider.model_patcher)
        latent = model.latent_image
        rows = _Rows.of(latent, pair_rows(guider), source is not None)
        mask = extra.pop("denoise_mask", None)
        area = region(model, sigmas, mask, extra.get("model_options", {}))
        seeded = FlowEditOptions(options.strength, options.refine, options.average, int(extra.get("seed") or 0))
        given = None if source is None else _prepared(model, source, extra)
        sides = _Sides(model, _without_caches(extra), rows, _source_guidance(guider, source_cfg), given)

        def report(state: dict) -> None:
            if callback is not None:
                shown = {name: rows.whole(latent, state[name]) for name in ("x", "denoised")}
                callback({"i": state["i"], "sigma": state["sigma"], "sigma_hat": state["sigma"], **shown})

        edited = edit_by_difference(
            Prompted(sides.source, sides.target, sides.noised, rows.targets),
            latent[rows.of_sources],
            sigmas,
            seeded,
            region=None if area is None else lambda level: area(level)[rows.of_targets],
            callback=report,
        )
        return rows.whole(latent, edited)

    return once(whole(comfy.samplers.KSAMPLER(sample)), _NODE)


@dataclass(frozen=True)
class _Rows:
    """The rows of a batch of pairs, or of edited pictures alone.

    Attributes:
        pictures: how many pairs there are.
        targets: of each of them.
        leading: source rows of each of them, 1 or 0.
    """

    pictures: int
    targets: int
    leading: int = 1

    @classmethod
    def of(cls, latent: Tensor | None, pair: int, alone: bool) -> _Rows:
        """Count them in a latent `[b ...]`.

        Args:
            latent: of the run.
            pair: number of rows of a pair, 0 without Pair Conditioning.
            alone: the source prompt comes by itself, and all rows are targets.

        Raises:
            ValueError: there is no pair or one too many, or the latent is empty or not made of pairs.
        """
        if alone and pair:
            raise ValueError(
                "'source' of FlowEdit is connected, but the guider's positive is a pair, which brings a source too;"
                " connect the target prompt alone to the guider, or disconnect 'source'"
            )
        if not alone and pair < 2:
            raise ValueError(
                "FlowEdit compares a source prompt with a target: connect the source prompt to its 'source', or the"
                " 'positive' of Pair Conditioning to the guider"
            )
        if latent is None or not bool(latent.any()):
            raise ValueError("FlowEdit edits a picture, but the latent is empty; connect VAE Encode")
        if alone:
            return cls(len(latent), 1, 0)
        if len(latent) % pair or not _are_pairs(latent, pair):
            raise ValueError(
                f"the latent has {len(latent)} rows, which are not the same picture {pair} times each; put Pair Latent"
                f" with rows {pair} between the encoded picture and the sampler"
            )
        return cls(len(latent) // pair, pair - 1)

    @property
    def pair(self) -> int:
        """Rows of a pair."""
        return self.leading + self.targets

    @property
    def of_sources(self) -> list[int]:
        """Places of the source rows."""
        return [i * self.pair for i in range(self.pictures)]

    @property
    def of_targets(self) -> list[int]:
        """Places of the target rows."""
        return [i for i in range(self.pictures * self.pair) if i % self.pair >= self.leading]

    def of_source_call(self, count: int) -> list[int]:
        """Places whose prompts answer for so many states under the source prompt: pictures, edited ones, or both."""
        edited = [i - i % self.pair for i in self.of_targets]
        if count == self.pictures:
            return self.of_sources
        return edited if count == len(edited) else self.of_sources + edited

    def whole(self, latent: Tensor, edited: Tensor) -> Tensor:
        """The batch `[b ...]` with edited target rows."""
        out = latent.clone()
        out[self.of_targets] = edited.to(out)
        return out


class _Sides:
    """The sampler's model under the source prompts alone, and under the targets alone.

    Args:
        model: as a sampler gets it.
        extra: further arguments of its calls.
        rows: of the batch.
        source_cfg: guidance of the source side; None is the guider's own.
        source: its prompt as the host prepares it for a run; None is that of the source rows.
    """

    def __init__(self, model: Any, extra: dict[str, Any], rows: _Rows, source_cfg: float | None, source: list | None):
        self._model = model
        self._extra = extra
        self._rows = rows
        self._source_cfg = source_cfg
        self._sampling = model.inner_model.inner_model.model_sampling
        self._prompt = source
        self._twins: dict[tuple[bool, int], Any] = {}

    def source(self, z: Tensor, sigma: float) -> Tensor:
        """Denoised pictures under the source prompt."""
        return self._ask(z, sigma, True)

    def target(self, z: Tensor, sigma: float) -> Tensor:
        """Denoised pictures, each under its own target prompt."""
        return self._ask(z, sigma, False)

    def noised(self, x: Tensor, noise: Tensor, sigma: float) -> Tensor:
        """Pictures at a level, as the model's own sampling noises them."""
        return self._sampling.noise_scaling(x.new_tensor(sigma), noise.clone(), x)

    def _ask(self, z: Tensor, sigma: float, of_source: bool) -> Tensor:
        key = (of_source, len(z))
        if key not in self._twins:
            places = self._rows.of_source_call(len(z)) if of_source else self._rows.of_targets
            self._twins[key] = self._twin(places, of_source)
        return self._twins[key](z, z.new_full((len(z),), sigma), denoise_mask=None, **self._extra)

    def _twin(self, places: list[int], of_source: bool) -> Any:
        """The model with a guider whose prompts are those of some rows; the user's own guider is left as it is."""
        twin = copy.copy(self._model)
        twin.inner_model = guider = copy.copy(self._model.inner_model)
        count = self._rows.pictures * self._rows.pair
        sides = dict(guider.conds)
        if of_source and self._prompt is not None:
            sides["positive"] = self._prompt
        guider.conds = {name: [_picked(one, places, count) for one in side] for name, side in sides.items()}
        if of_source and self._source_cfg is not None:
            guider.cfg = self._source_cfg
        return twin


def _prepared(model: Any, source: list, extra: dict[str, Any]) -> list[dict[str, Any]]:
    """The source prompt as the host prepares the guider's own for a run.

    Raises:
        ValueError: the network cannot take it, or it carries what the host loads before a run.
    """
    guider = model.inner_model
    check_prompt(guider.model_patcher, source, "source")
    if found := [name for name in _NOT_ALONE if any(facts.get(name) is not None for _, facts in source)]:
        raise ValueError(
            f"'source' of FlowEdit carries {', '.join(found)} (ControlNet, GLIGEN or a hook), which only the guider's"
            " prompts can; connect the plain source prompt"
        )
    latent = model.latent_image
    return comfy.samplers.process_conds(
        guider.inner_model,
        model.noise,
        {"positive": comfy.sampler_helpers.convert_cond(source)},
        latent.device,
        latent,
        seed=extra.get("seed"),
        latent_shapes=[latent.shape],
    )["positive"]


def _picked(prompt: dict[str, Any], places: list[int], count: int) -> dict[str, Any]:
    """A prompt of the host for some rows of a batch of ``count``."""

    def pick(value: Any) -> Any:
        return repeat_to_batch_size(value, count)[places] if isinstance(value, Tensor) and value.dim() else value

    conds = dict(prompt.get("model_conds", {}))
    if GUIDANCE in prompt and "guidance" in conds:
        conds["guidance"] = CONDRegular(torch.tensor(prompt[GUIDANCE]))
    for name, cond in conds.items():
        if isinstance(cond, CONDConstant) or not isinstance(cond, CONDRegular):
            continue
        value = cond.cond
        conds[name] = cond._copy_with([pick(v) for v in value] if isinstance(value, list) else pick(value))
    masks = {"mask": pick(prompt["mask"])} if isinstance(prompt.get("mask"), Tensor) else {}
    return {**prompt, **masks, "model_conds": conds}


def _are_pairs(latent: Tensor, pair: int) -> bool:
    pairs = latent.unflatten(0, (-1, pair))
    return bool((pairs == pairs[:, :1]).all())


def _without_caches(extra: dict[str, Any]) -> dict[str, Any]:
    """Arguments of the calls with which step caches let every call through: there are several a step."""
    options = extra.get("model_options", {})
    inside = resting(options.get("transformer_options", {}))
    return {**extra, "model_options": {**options, "transformer_options": inside}}


def _check_levels(sigmas: Tensor) -> None:
    if float(sigmas[-1]) or bool((sigmas[1:] >= sigmas[:-1]).any()):
        raise ValueError(
            f"FlowEdit walks down to a clean picture, but the sigmas go from {float(sigmas[0]):.4g} to"
            f" {float(sigmas[-1]):.4g}; connect the 'sigmas' of FlowEdit, in one run"
        )


def _check_edits(patcher: Any) -> None:
    """Refuse edits that act on both prompts alike, or that look for pairs in a call."""
    check_second_calls(patcher, _NODE)
    names = ["Steer"] * bool(edits_of(patcher)) + sampler_only(patcher)
    if names:
        raise ValueError(
            f"this MODEL carries {', '.join(names)}, but FlowEdit edits by the prompts alone; connect the MODEL from"
            " before it"
        )


def _source_guidance(guider: Any, source_cfg: float) -> float | None:
    """Guidance of the source side; None is the guider's own.

    Raises:
        ValueError: the guider cannot be told, or has no negative prompt to guide away from.
    """
    if not source_cfg:
        return None
    kind = type(guider)
    if kind.predict_noise is not comfy.samplers.CFGGuider.predict_noise:
        raise ValueError(
            f"source_cfg is {source_cfg:g}, but {kind.__name__} has a guidance of its own; use CFGGuider, or set"
            " source_cfg to 0"
        )
    if source_cfg != 1 and "negative" not in guider.conds:
        raise ValueError(
            f"source_cfg is {source_cfg:g}, but the guider has no negative prompt; use CFGGuider, or set source_cfg to"
            " 1 or 0"
        )
    return source_cfg
