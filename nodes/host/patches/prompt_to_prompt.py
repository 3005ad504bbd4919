"""Prompt-to-Prompt (Hertz et al. 2022, arXiv 2208.01626) on rows of one batch: the first of every group is the
source.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ....core.edit.attention.prompt_to_prompt import WordControl, mix_values
from ....core.schedule import in_steps
from ..model.unet_blocks import Place
from .attention import STORE, Call, Cross, Patches, Swap, attend

ONE_ROW = "hspace_one_row"  # set where every row is handed over as a prompt of its own, some sources left out


def row_groups(rows: int, size: int) -> list[int]:
    """First rows of the groups of source and targets among ``rows``.

    Raises:
        ValueError: the batch does not consist of such groups.
    """
    if rows % size:
        raise ValueError(
            f"the prompts are a source and {size - 1} target(s), so the batch must be a multiple of {size}, got {rows};"
            " put Pair Latent, with as many targets, before the sampler"
        )
    return list(range(0, rows, size))


def prompt_groups(call: Call, size: int) -> list[int]:
    """First rows of the groups of the positive prompts."""
    if call.options.get(ONE_ROW):
        return call.chunks(0)[::size]
    return [chunk + group for chunk in call.chunks(0) for group in row_groups(call.rows, size)]


def check_length(keys: Tensor, length: int) -> None:
    """Refuse a prompt that is not the one of Pair Conditioning.

    Raises:
        ValueError: it has another number of tokens.
    """
    if keys.shape[1] % length:
        raise ValueError(
            f"the prompts of Pair Conditioning have {length} tokens, but the positive conditioning of the sampler has"
            f" {keys.shape[1]}; connect Pair Conditioning itself to 'positive' (conditionings that were concatenated to"
            " it have no place in the token map)"
        )


@dataclass(frozen=True)
class PromptToPrompt:
    """Attention control; acts on the positive prompt alone, as in the paper.

    Attributes:
        controls: one for each target row.
        window: of the self-attention, shares of the steps.
        level: halvings of the picture from which on self-attention is the source's.
    """

    node = "Prompt-to-Prompt"

    controls: tuple[WordControl, ...]
    window: tuple[float, float]
    level: int

    def mixes(self, call: Call) -> list[Mix]:
        """What :meth:`WordControl.at` says of the target rows whose maps do not stay as they are."""
        parts = [control.at(call.step, call.steps) for control in self.controls]
        return [Mix(row, *part) for row, part in enumerate(parts, 1) if part is not None]

    def acts(self, step: int, steps: int) -> bool:
        """Whether it reads the source in a step."""
        mixes = any(control.at(step, steps) is not None for control in self.controls)
        return mixes or in_steps(self.window, step, steps)

    def patches(self, call: Call) -> Patches | None:
        """See :class:`nodes.host.patches.attention.AttentionEdit`."""
        if call.options.get(ONE_ROW) and not self.acts(call.step, call.steps):
            return None
        groups = [] if STORE in call.options else prompt_groups(call, len(self.controls) + 1)
        if not groups:
            return None
        mixes = self.mixes(call)
        replaces = in_steps(self.window, call.step, call.steps)
        if not (mixes or replaces):
            return None
        return Patches(
            swap=self._replace_attention(groups, call.x.device) if replaces else None,
            cross=_mix_maps(groups, mixes, call.x.device) if mixes else None,
        )

    def _replace_attention(self, groups: list[int], device: torch.device) -> Swap:
        """Self-attention of the source in all target rows: the same queries and keys give the same map."""
        targets_of_each = range(len(self.controls))
        sources = torch.tensor([group for group in groups for _ in targets_of_each], device=device)
        targets = torch.tensor([group + 1 + i for group in groups for i in targets_of_each], device=device)

        def swap(n: Tensor, context: Tensor, value: Tensor, place: Place):
            if place.level < self.level:
                return n, context, value
            queries = n.index_copy(0, targets, n[sources])
            keys = queries if context is n else context.index_copy(0, targets, context[sources])
            return queries, keys, value

        return swap


@dataclass(frozen=True)
class Mix:
    """The edited map of a target row: the source's times ``shares`` `[T T]`, and its former one times ``weight`` `[T]`."""

    row: int
    shares: Tensor
    weight: Tensor


def _mix_maps(groups: list[int], mixes: list[Mix], device: torch.device) -> Cross:
    """Cross-attention of the target rows as if their maps were mixed.

    What other packs add to the plain attention stays: only the difference of the edited attention is put on top of it.
    """
    pairs = [(group, mix) for group in groups for mix in mixes]
    sources = torch.tensor([group for group, _ in pairs], device=device)
    targets = torch.tensor([group + mix.row for group, mix in pairs], device=device)
    rows = torch.cat([sources, targets])
    shares = torch.stack([mix.shares for _, mix in pairs]).to(device, torch.float32)
    change = torch.stack([mix.weight - 1 for _, mix in pairs]).to(device, torch.float32)

    def cross(out: Tensor, q: Tensor, k: Tensor, v: Tensor, place: Place, extra: dict) -> Tensor:
        check_length(k, change.shape[1])
        values = torch.cat(mix_values(v[targets], shares, change))
        by_source, by_target = attend(q[rows], k[rows], values, extra).chunk(2)
        return out.index_add(0, targets, (by_source + by_target).to(out.dtype))

    return cross
