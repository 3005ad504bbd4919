"""Prompts and latents as rows of one batch, source first: the form in which two-row edits run in every stock
sampler.
"""

from __future__ import annotations

import zlib
from typing import Any

import torch
from torch import Tensor

from ....core.edit.attention.tokens import Prompt
from ..types import CLIP

PAIR = "hspace_pair"  # in a CONDITIONING: how many of its rows, source first, belong together
GUIDANCE = "hspace_pair_guidance"  # and the embedded guidance of each row, where FluxGuidance differs
_TOWERS = {"l", "g", "h"}
_END = "</w>"


def tokenised(clip: CLIP, texts: list[str]) -> tuple[list[dict], list[Prompt]]:
    """Texts cut by the host's tokenizer, padded with empty chunks to one length.

    Returns:
        What ``clip`` encodes, and the token map's view of each text.

    Raises:
        ValueError: a text encoder that is not CLIP's.
    """
    cut = [clip.tokenize(text, return_word_ids=True) for text in texts]
    if not set(cut[0]) <= _TOWERS:
        raise ValueError(
            f"the CLIP connected has the text encoders {', '.join(sorted(cut[0]))}, but cross-attention to words exists"
            " in models with CLIP alone; connect the CLIP of a Stable Diffusion 1.x, 2.x or SDXL checkpoint, or of"
            " Load Face Text Model"
        )
    empty = clip.tokenize("", return_word_ids=True)
    most = max(len(chunks) for tokens in cut for chunks in tokens.values())
    full = [
        {tower: [*chunks, *(empty[tower] * (most - len(chunks)))] for tower, chunks in tokens.items()} for tokens in cut
    ]
    # Both towers of SDXL cut alike, and their tokens lie side by side: one map serves both.
    prompts = [_prompt(clip, tokens["l" if "l" in tokens else min(tokens)]) for tokens in full]
    plain = [
        {tower: [[(t, w) for t, w, *_ in chunk] for chunk in chunks] for tower, chunks in tokens.items()}
        for tokens in full
    ]
    return plain, prompts


def _prompt(clip: CLIP, chunks: list[list[tuple]]) -> Prompt:
    ids: list[int] = []
    words: list[tuple[str, tuple[int, ...]]] = []
    text = ""
    at = []
    for token, _, word in (entry for chunk in chunks for entry in chunk):
        embedding = isinstance(token, Tensor)
        # A textual inversion has no number of its own; the same one must be the same again.
        number = -1 - zlib.crc32(token.detach().float().cpu().numpy().tobytes()) if embedding else int(token)
        ids.append(number)
        if not word:
            continue
        piece = "embedding" + _END if embedding else clip.tokenizer.untokenize([(token, 1.0)])[0][1]
        text = text + piece
        at = [*at, len(ids) - 1]
        if piece.endswith(_END):
            words.append((text.removesuffix(_END), tuple(at)))
            text = ""
            at = []
    if at:
        words.append((text, tuple(at)))
    return Prompt(tuple(ids), tuple(words), len(chunks[0]))


def encoded(clip: CLIP, tokens: list[dict]) -> list:
    """CONDITIONING with one row a text."""
    return stacked([clip.encode_from_tokens_scheduled(one) for one in tokens])


def stacked(conditionings: list[list]) -> list:
    """CONDITIONINGs of one row each as one of several rows; what else the first carries (ControlNet, ...) holds for
    all.

    Raises:
        ValueError: one that is scheduled or has several entries, or of different length.
    """
    for one in conditionings:
        if len(one) != 1 or not isinstance(one[0][0], Tensor):
            raise ValueError(
                f"a pair is made of plain prompts, but one of them has {len(one)} entries (combined, regional or"
                " scheduled prompts, or a CLIP with hooks); connect CLIP Text Encode directly"
            )
    tensors = [one[0][0] for one in conditionings]
    extras = [one[0][1] for one in conditionings]
    if len({t.shape[1:] for t in tensors}) > 1:
        raise ValueError(
            f"the prompts have {', '.join(str(t.shape[1]) for t in tensors)} tokens of width"
            f" {', '.join(str(t.shape[2]) for t in tensors)}; connect CLIP and write them as texts, then they are"
            " padded to one length"
        )
    extra: dict[str, Any] = dict(extras[0])
    rows = [len(t) for t in tensors]
    pooled = [e.get("pooled_output") for e in extras]
    if all(isinstance(p, Tensor) for p in pooled):
        extra["pooled_output"] = torch.cat([p.expand(n, *p.shape[1:]) for p, n in zip(pooled, rows, strict=True)])
    extra[PAIR] = sum(rows)
    guidance = [e.get("guidance") for e in extras]
    if len(set(guidance)) > 1:
        extra[GUIDANCE] = _guidance_of_rows(guidance, rows)
    return [[torch.cat(tensors), extra]]


def _guidance_of_rows(guidance: list[float | None], rows: list[int]) -> list[float]:
    values = [value for value in guidance if value is not None]
    if len(values) < len(guidance):
        raise ValueError(
            "some of the prompts have an embedded guidance and some have none; put FluxGuidance behind each of them, or"
            " behind none"
        )
    return [value for value, count in zip(values, rows, strict=True) for _ in range(count)]


def pair_rows(guider) -> int:
    """How many rows of a batch belong together by the positive prompts of a GUIDER; 0 if they are no pair."""
    return max((entry.get(PAIR, 0) for entry in guider.conds.get("positive", ())), default=0)


def first_row(rows: list) -> list:
    """CONDITIONING of the source alone."""
    return [
        [
            tensor[:1],
            {k: v[:1] if k == "pooled_output" and isinstance(v, Tensor) else v for k, v in extra.items() if k != PAIR},
        ]
        for tensor, extra in rows
    ]


def paired(latent: dict[str, Any], rows: int) -> dict[str, Any]:
    """A LATENT with every picture ``rows`` times, and the same noise for all of them.

    Raises:
        ValueError: fewer than two rows.
    """
    if rows < 2:
        raise ValueError(f"a pair has a source and at least one target, so 'rows' must be at least 2, got {rows}")
    samples: Tensor = latent["samples"]
    index = latent.get("batch_index") or list(range(len(samples)))
    out = {
        **latent,
        "samples": samples.repeat_interleave(rows, 0),
        "batch_index": [i for i in index for _ in range(rows)],
    }
    mask = latent.get("noise_mask")
    if mask is not None and len(mask) == len(samples) > 1:
        out["noise_mask"] = mask.repeat_interleave(rows, 0)
    return out


def split_rows(count: int, rows: int, name: str) -> tuple[list[int], list[int]]:
    """Numbers of the source and of the target rows.

    Raises:
        ValueError: the batch does not consist of groups of ``rows``.
    """
    if rows < 2 or count % rows:
        raise ValueError(
            f"{name} has {count} rows, which is not a multiple of {rows} ('rows': the source and its targets)"
        )
    return [i for i in range(count) if i % rows == 0], [i for i in range(count) if i % rows]
