"""Which word of one prompt answers which of another, on token ids.

Hertz et al. 2022, Prompt-to-Prompt, arXiv 2208.01626, section 3.2.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...payload import check_format
from ...text import cleaned

MODES = ("auto", "replace", "refine")
TOKENMAP = "HSPACE_TOKENMAP"
FORMAT = "hspace.tokenmap"
VERSION = 1
_RANGE = re.compile(r"(\d*\.?\d+)\s*(?:-|\.\.)\s*(\d*\.?\d+)")


@dataclass(frozen=True)
class Prompt:
    """One tokenised prompt.

    Attributes:
        ids: `[T]`, all tokens with begin, end and padding; T is a multiple of ``chunk``.
        words: text and positions of every word in reading order; their tokens are the content of the prompt.
        chunk: tokens that the text tower reads at once (77 for CLIP): begin, content, end, padding.
    """

    ids: tuple[int, ...]
    words: tuple[tuple[str, tuple[int, ...]], ...]
    chunk: int

    def __post_init__(self) -> None:
        content = self.content
        if self.chunk < 2 or not self.ids or len(self.ids) % self.chunk:
            raise ValueError(f"a prompt must fill whole chunks, got {len(self.ids)} tokens for chunks of {self.chunk}")
        if content != sorted(set(content)) or (content and not 0 <= content[0] <= content[-1] < len(self.ids)):
            raise ValueError("the words of a prompt must lie within its tokens, in reading order and without overlap")

    @property
    def content(self) -> list[int]:
        """List the positions of all tokens of words."""
        return [i for _, positions in self.words for i in positions]

    def end(self, chunk: int) -> int:
        """Locate the end token of the ``chunk``-th chunk; behind it there is padding."""
        first = chunk * self.chunk
        return max((i for i in self.content if first <= i < first + self.chunk), default=first) + 1

    def find(self, phrase: str) -> list[int]:
        """Find all tokens of a word or phrase, wherever it occurs (spaces and capitals do not matter)."""
        wanted = "".join(phrase.lower().split())
        positions_of_phrase = []
        texts = [text.lower() for text, _ in self.words]
        for i in range(len(texts)):
            for j in range(i + 1, len(texts) + 1):
                joined = "".join(texts[i:j])
                if joined == wanted:
                    positions_of_phrase += [p for _, positions in self.words[i:j] for p in positions]
                if len(joined) >= len(wanted):
                    break
        return sorted(set(positions_of_phrase))


def align(source: Sequence[int], target: Sequence[int]) -> list[int]:
    """Align by Needleman-Wunsch with gap 0, match 1, mismatch -1.

    On ties left comes before up and up before diagonal, as in the released code.

    Returns:
        For every target token the index of its source token, or -1.
    """
    n = len(source)
    m = len(target)
    score = [[0] * (m + 1) for _ in range(n + 1)]
    for i in range(1, n + 1):
        for j in range(1, m + 1):
            same = 1 if source[i - 1] == target[j - 1] else -1
            score[i][j] = max(score[i][j - 1], score[i - 1][j], score[i - 1][j - 1] + same)
    source_of = [-1] * m
    i = n
    j = m
    while i and j:
        if score[i][j] == score[i][j - 1]:
            j -= 1
        elif score[i][j] == score[i - 1][j]:
            i -= 1
        else:
            i = i - 1
            j = j - 1
            source_of[j] = i
    return source_of


def token_map(source: Prompt, target: Prompt, mode: str = "auto") -> tuple[Tensor, Tensor]:
    """Say what each target token takes of the source's attention maps.

    Equal tokens take each other's map. ``replace``: substituted words are paired in order, all tokens of a k-token word
    give each of the l tokens of its partner 1/l (one to one if k = l); runs of different numbers of words are paired as
    wholes. ``refine``: substituted words keep their own map. Inserted words always do, and the map of deleted ones is
    dropped. ``auto`` is replace for prompts of equally many words, else refine, as the paper's users choose. Padding
    takes the padding at its place.

    Args:
        source: prompt of the source row.
        target: prompt of one target row.
        mode: one of :data:`MODES`.

    Returns:
        ``(P, alpha)``: shares `[T T]` float64 (row: source token, column: target token), and `[T]` float64, 1 where a
        map is taken.

    Raises:
        ValueError: prompts of different length, or an unknown mode.
    """
    if len(source.ids) != len(target.ids) or source.chunk != target.chunk:
        raise ValueError(
            f"both prompts must be padded to one length, got {len(source.ids)} and {len(target.ids)} tokens"
        )
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
    if mode == "auto":
        mode = "replace" if len(source.words) == len(target.words) else "refine"
    length = len(source.ids)
    a = source.content
    b = target.content
    shares = torch.zeros(length, length, dtype=torch.float64)
    for chunk in range(length // source.chunk):
        first = chunk * source.chunk
        end_a = source.end(chunk)
        end_b = target.end(chunk)
        shares[first, first] = shares[end_a, end_b] = 1.0
        for i in range(max(end_a, end_b) + 1, first + source.chunk):
            shares[i, i] = 1.0
    source_of = align([source.ids[i] for i in a], [target.ids[j] for j in b])
    for j, i in enumerate(source_of):
        if i >= 0:
            shares[a[i], b[j]] = 1.0
    if mode == "replace":
        for rows, columns in _substituted(source, target, source_of):
            if len(rows) == len(columns):
                shares[rows, columns] = 1.0
            else:
                shares[torch.tensor(rows)[:, None], torch.tensor(columns)] = 1.0 / len(columns)
    return shares, (shares.sum(0) > 0).double()


def _substituted(source: Prompt, target: Prompt, source_of: list[int]) -> list[tuple[list[int], list[int]]]:
    """Pair the token positions that stand for each other between the aligned ones."""
    a = source.content
    b = target.content
    out = []
    matches = [(i, j) for j, i in enumerate(source_of) if i >= 0]
    for (i0, j0), (i1, j1) in zip([(-1, -1), *matches], [*matches, (len(a), len(b))], strict=True):
        left = _by_word(source, a[i0 + 1 : i1])
        right = _by_word(target, b[j0 + 1 : j1])
        if len(left) == len(right):
            out += zip(left, right, strict=True)
        elif left and right:
            out.append(([i for word in left for i in word], [j for word in right for j in word]))
    return out


def _by_word(prompt: Prompt, positions: list[int]) -> list[list[int]]:
    inside = ([p for p in tokens if p in positions] for _, tokens in prompt.words)
    return [word for word in inside if word]


def parse_weights(text: str, name: str = "reweights") -> dict[str, float]:
    """Parse ``"red: 2, long hair: 1.5"`` into phrases and numbers.

    Raises:
        ValueError: an entry that does not read so.
    """
    return {
        word: _number(value, name, f"{word}: {value}") for word, value in _entries(text, name, "red: 2, long hair: 1.5")
    }


def parse_windows(text: str, name: str = "windows") -> dict[str, tuple[float, float]]:
    """Parse ``"red: 0-0.5, hair: 0.8"`` into phrases and (start, end), shares of the steps; one number is the end.

    Raises:
        ValueError: an entry that does not read so, or a window outside 0..1.
    """
    out = {}
    for word, value in _entries(text, name, "red: 0-0.5, hair: 0.8"):
        window = _RANGE.fullmatch(value)
        start, end = (float(window[1]), float(window[2])) if window else (0.0, _number(value, name, f"{word}: {value}"))
        if not 0 <= start <= end <= 1:
            raise ValueError(f"{name}: a window must lie within 0..1 with its start first, got {word!r}: {value}")
        out[word] = (start, end)
    return out


def _entries(text: str, name: str, example: str) -> list[tuple[str, str]]:
    out = []
    for entry in filter(None, (part.strip() for part in re.split(r"[,;\n]", text))):
        word, colon, value = (part.strip() for part in entry.rpartition(":"))
        if not colon or not word or not value:
            raise ValueError(f"{name} must read like {example!r}, got {entry!r:.60}")
        out.append((word, value))
    return out


def _number(value: str, name: str, entry: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if not abs(number) < float("inf"):
        raise ValueError(f"{name}: expected a number after the word, got {entry!r:.60}")
    return number


def tokens_to_payload(prompts: Sequence[Prompt]) -> dict[str, Any]:
    """Make what goes onto an ``HSPACE_TOKENMAP`` socket.

    ``prompts``, a dict of ``ids``, ``words`` and ``chunk`` for each row, source first.
    """
    rows = [
        {"ids": list(p.ids), "words": [[text, list(at)] for text, at in p.words], "chunk": p.chunk} for p in prompts
    ]
    return {"format": FORMAT, "version": VERSION, "prompts": rows}


def tokens_from_payload(payload: object) -> list[Prompt]:
    """Read the prompts that came in on a socket, source first.

    Raises:
        ValueError: anything else, or damaged.
    """
    values = check_format(TOKENMAP, FORMAT, payload, VERSION, "the tokens of Pair Conditioning")
    try:
        prompts = [_prompt_from(row) for row in values["prompts"]]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{TOKENMAP} is damaged ({cleaned(error)}); make it again with Pair Conditioning") from error
    if len(prompts) < 2 or len({(len(p.ids), p.chunk) for p in prompts}) != 1:
        raise ValueError(
            f"{TOKENMAP} must hold a source and at least one target of equal length; make it again with Pair"
            " Conditioning"
        )
    return prompts


def _prompt_from(row: Any) -> Prompt:
    """Convert one row of a payload; raises what the conversions raise."""
    ids = tuple(map(int, row["ids"]))
    words = tuple((str(text), tuple(map(int, positions))) for text, positions in row["words"])
    return Prompt(ids, words, int(row["chunk"]))


def check_words(phrases: Iterable[str], prompts: Sequence[Prompt], name: str) -> None:
    """Refuse phrases that stand in none of the prompts.

    Raises:
        ValueError: one of them; ``name`` says where it was written.
    """
    for phrase in phrases:
        if not any(p.find(phrase) for p in prompts):
            known = ", ".join(dict.fromkeys(text for p in prompts for text, _ in p.words))
            raise ValueError(f"{name}: {phrase!r:.100} is not among the words of the prompts ({known:.200})")


def mark_words(prompts: Sequence[Prompt], phrases: Sequence[str]) -> Tensor | None:
    """Mark the tokens of phrases with 1, `[r T]`; None if there are no phrases."""
    if not phrases:
        return None
    marks = torch.zeros(len(prompts), len(prompts[0].ids))
    for row, prompt in enumerate(prompts):
        marks[row, [i for phrase in phrases for i in prompt.find(phrase)]] = 1
    return marks


def window_of(name: str, start: float, end: float) -> tuple[float, float]:
    """Make the window of a control, shares of the steps; ``end`` 0 is off.

    Raises:
        ValueError: it ends before it begins.
    """
    if start >= end > 0:
        raise ValueError(f"{name}_start {start:g} lies behind {name}_end {end:g}; the window would be empty")
    return min(start, end), end
