"""Where a MODEL sees words in a picture: one map for each word."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ....core.denoiser import report_step
from ....core.edit.attention import word_contrast
from ....core.noise import drawn_rows
from ..memory import rows_at_once
from ..progress import reporter
from ..types import CLIP, Model
from .prompts import Prompts
from .run import with_denoiser
from .traits import is_flow
from .word_attention import FirstCall, SecondCall, is_joint, places_of
from .words import encoded_text, word_tokens, words_prompt

_HALF = 1.0
"""Noise level at which attention is read, for states ``x0 + sigma n``; half-way for a flow model, as in the paper."""


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked of a MODEL.

    Attributes:
        model: MODEL.
        clip: its text encoder.
        x: the picture's clean state, `[1 c h w]`.
        prompt: CONDITIONING of the picture.
        sigma: noise level; 0 takes the method's own.
        draws: of noise, over which maps are averaged.
        seed: of the noise.
    """

    model: Model
    clip: CLIP
    x: Tensor
    prompt: list
    sigma: float
    draws: int
    seed: int

    def levels(self, usual: Sequence[float]) -> list[float]:
        """Noise levels of the MODEL; ``usual`` are those of states ``x0 + sigma n``.

        Raises:
            ValueError: the level asked for is none of the MODEL's.
        """
        most = float(self.model.get_model_object("model_sampling").sigma_max)
        if self.sigma > most:
            raise ValueError(f"'sigma' is {self.sigma:g}, and the noise levels of this model end at {most:.4g}")
        if self.sigma:
            return [self.sigma]
        return [level / (1 + level) for level in usual] if is_flow(self.model) else list(usual)

    def noisy(self, level: float) -> Tensor:
        """The picture with each draw of noise, `[draws c h w]`."""
        noise = drawn_rows(self.draws, self.x.shape[1:], torch.Generator().manual_seed(self.seed)).to(self.x)
        sampling = self.model.get_model_object("model_sampling")
        sigma = torch.full((self.draws, 1, 1, 1), level).to(self.x)
        return sampling.noise_scaling(sigma, noise, self.x.expand_as(noise))

    def ask(self, prompt: list, work: Callable[[Any], Any], rows: int = 1, again: bool = False) -> Any:
        """Result of ``work`` with a denoiser of a prompt; ``again`` finds out step caches that nobody knows."""
        return with_denoiser(self.model, (rows, *self.x.shape[1:]), Prompts(prompt), work, again=again)


def contrast_maps(question: Question, words: Sequence[Sequence[str]]) -> list[Tensor]:
    """One `[h w]` for each word: where its alternatives, or it and the picture's prompt, make the MODEL differ."""
    levels = question.levels(word_contrast.LEVELS)
    report = reporter(question.model, None, preview=False)
    told: list[list[list[Tensor]]] = []
    total = sum(max(2, len(phrases)) for phrases in words)
    for phrases in words:
        prompts = [encoded_text(question.clip, phrase) for phrase in phrases]
        if len(prompts) == 1:
            prompts.append(question.prompt)
        told.append([])
        for prompt in prompts:
            done = sum(map(len, told))
            told[-1].append(_answers(question, prompt, levels, again=not done))
            report_step(report, done, total)
    return [_mean_contrast(of_word) for of_word in told]


def _answers(question: Question, prompt: list, levels: Sequence[float], again: bool) -> list[Tensor]:
    """What the MODEL makes of the picture with each draw of noise, `[draws c h w]` for each level."""
    at_once = rows_at_once(question.model, question.x.shape[1:], question.draws)

    def work(denoiser: Any) -> list[Tensor]:
        found = []
        for level in levels:
            parts = question.noisy(level).split(at_once)
            found.append(torch.cat([denoiser(part, question.x.new_full((len(part),), level)).cpu() for part in parts]))
        return found

    return question.ask(prompt, work, at_once, again)


def _mean_contrast(answers: Sequence[Sequence[Tensor]]) -> Tensor:
    """Mean over the levels of how far the answers to the prompts lie apart, `[h w]`."""
    return torch.stack([word_contrast.contrast(at_level) for at_level in zip(*answers, strict=True)]).mean(0)


def attention_maps(question: Question, words: Sequence[Sequence[str]]) -> list[Tensor]:
    """One `[h w]` for each word, from the network's attention.

    Raises:
        ValueError: no attention of this network is known that sees words.
        RuntimeError: another node replaces it.
    """
    (level,) = question.levels([_HALF])
    states = question.noisy(level).split(1)
    sigma = question.x.new_full((1,), level)
    report = reporter(question.model, None, preview=False)
    read = _beside if is_joint(question.model.model.diffusion_model) else _one_by_one
    draws = []
    for i, state in enumerate(states):
        look = partial(_looked_at, state=state, sigma=sigma)
        _, first = question.ask(question.prompt, look, again=not i)
        draws.append(read(question, first, state, sigma, words))
        report_step(report, i, len(states))
    return list(torch.stack(draws).mean(0))


def _looked_at(denoiser: Any, state: Tensor, sigma: Tensor) -> tuple[Tensor, FirstCall]:
    """The answer to a state, and what its attention saw."""
    net = denoiser.patcher.model.diffusion_model
    first = FirstCall(net, places_of(net, state))
    with first():
        answer = denoiser(state, sigma)
    return answer, first


def _second(question: Question, first: FirstCall, prompt: list, state: Tensor, sigma: Tensor, groups=()) -> Tensor:
    """Maps that a prompt of words gives, `[words h w]`, each place's at one size and scale."""
    second = SecondCall(first, groups)

    def work(denoiser: Any) -> None:
        with second():
            denoiser(state, sigma)

    question.ask(prompt, work)
    return _together(second.maps, not groups)


def _beside(question: Question, first: FirstCall, state: Tensor, sigma: Tensor, words) -> Tensor:
    """Words that run beside the prompt, `[words h w]`; alternatives of one are its tokens together."""
    tokens = []
    groups = []
    end = 0
    for phrases in words:
        own = torch.cat([word_tokens(question.clip, phrase) for phrase in phrases])
        tokens.append(own)
        groups.append(slice(end, end + len(own)))
        end += len(own)
    return _second(question, first, words_prompt(question.prompt, tokens), state, sigma, groups)


def _one_by_one(question: Question, first: FirstCall, state: Tensor, sigma: Tensor, words) -> Tensor:
    """Words that the picture asks, each as a prompt of its own, `[words h w]`."""
    maps = []
    for phrases in words:
        found = []
        for phrase in phrases:
            prompt = encoded_text(question.clip, phrase)
            found.append(_second(question, first, prompt, state, sigma))
        maps.append(torch.cat(found).mean(0))
    return torch.stack(maps)


def _together(maps: Sequence[Tensor], scaled: bool) -> Tensor:
    """Mean of the maps `[words h w]` of several places at the size of the finest; ``scaled`` ones begin at 0 and end at
    1 each.
    """
    sizes = [tuple(one.shape[-2:]) for one in maps]
    finest = max(sizes, key=lambda size: size[0] * size[1])
    grown = []
    for one in maps:
        large = torch.nn.functional.interpolate(one[None].float(), finest, mode="bicubic")[0]
        if scaled:
            large = large - large.amin((1, 2), keepdim=True)
            large = large / large.amax((1, 2), keepdim=True).clamp_min(1e-12)
        grown.append(large)
    return torch.stack(grown).mean(0)
