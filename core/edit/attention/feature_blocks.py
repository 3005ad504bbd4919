"""Blocks whose features Plug-and-Play and MasaCtrl (Cao et al. 2023, arXiv 2304.08465) hand on.

Tumanyan et al. 2023, arXiv 2211.12572.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ...schedule import in_steps

Block = tuple[str, int]
SD_BLOCKS = 12  # output blocks of Stable Diffusion 1.x, in whose numbers the papers speak
_ENTRY = re.compile(r"(?:(input|output)\s*)?(\d{1,4})(?:\s*-\s*(\d{1,4}))?")


@dataclass(frozen=True)
class Recipe:
    """Where and when features of the source go into an edit.

    Windows are shares of the steps, counted from the noisiest.

    Attributes:
        hidden: blocks whose residual branch is the source's.
        queries: blocks whose self-attention takes queries and keys of the source.
        keys: blocks whose self-attention takes keys and values of the source.
        tau_f: end of the window of ``hidden``.
        tau_a: end of the window of ``queries`` and ``keys``.
        start: beginning of all windows.
        positive_only: leave the negative prompt's part alone.
    """

    hidden: frozenset[Block] = frozenset()
    queries: frozenset[Block] = frozenset()
    keys: frozenset[Block] = frozenset()
    tau_f: float = 0.0
    tau_a: float = 0.0
    start: float = 0.0
    positive_only: bool = False

    def at(self, step: int, steps: int) -> Recipe | None:
        """Tell what is taken at a step; None if nothing is."""
        in_f, in_a = (in_steps((self.start, tau), step, steps) for tau in (self.tau_f, self.tau_a))
        none: frozenset[Block] = frozenset()
        now = replace(
            self,
            hidden=self.hidden if in_f else none,
            queries=self.queries if in_a else none,
            keys=self.keys if in_a else none,
        )
        return now if now.hidden or now.queries or now.keys else None

    @property
    def text(self) -> str:
        """Tell people what is taken where and when."""
        parts = (
            ("residual", self.hidden, self.tau_f),
            ("queries and keys", self.queries, self.tau_a),
            ("keys and values", self.keys, self.tau_a),
        )
        lines = []
        for what, blocks, tau in parts:
            if blocks:
                names = ", ".join(" ".join(map(str, block)) for block in sorted(blocks))
                lines.append(f"{what}: {names}; steps from {self.start:.0%} to {tau:.0%}")
        return "\n".join(lines)

    def within(self, hidden: Iterable[Block], attention: Iterable[Block]) -> Recipe:
        """Leave out blocks that a network does not have: at the same relative place there may be no attention."""
        return replace(
            self,
            hidden=self.hidden.intersection(hidden),
            queries=self.queries.intersection(attention),
            keys=self.keys.intersection(attention),
        )

    def moved(self, tau_f: float, tau_a: float, start: float) -> Recipe:
        """Take other windows; one below 0 is the recipe's own."""
        return replace(
            self,
            tau_f=self.tau_f if tau_f < 0 else tau_f,
            tau_a=self.tau_a if tau_a < 0 else tau_a,
            start=self.start if start < 0 else start,
        )


PRESETS = ("PnP", "PnP f only", "PnP qk only", "P2P self", "MasaCtrl", "custom")


def preset(name: str, outputs: int, coarse: Sequence[Block], sdxl: bool = False) -> Recipe:
    """Take the papers' choices on any U-Net.

    Args:
        name: one of :data:`PRESETS`; ``custom`` takes nothing.
        outputs: number of output blocks. Twelve is Stable Diffusion 1.x; other networks get the blocks at the same
            relative depth.
        coarse: blocks whose maps are a quarter of the finest or smaller, for Prompt-to-Prompt's self-attention.
        sdxl: the papers name no blocks for SDXL; ours are f at output 1 and self-attention at outputs 1 to 5.

    Raises:
        ValueError: an unknown name.
    """
    f = _same_depth([1 if sdxl else 4], outputs, sdxl)
    qk, kv = (_same_depth(range(1, 6) if sdxl else range(first, SD_BLOCKS), outputs, sdxl) for first in (4, 6))
    if name == "PnP":
        return Recipe(
            hidden=f,
            queries=qk,
            tau_f=0.8,
            tau_a=0.5,
        )
    if name == "PnP f only":
        return Recipe(hidden=f, tau_f=0.8)
    if name == "PnP qk only":
        return Recipe(queries=qk, tau_a=0.5)
    if name == "P2P self":
        return Recipe(queries=frozenset(coarse), tau_a=0.4, positive_only=True)
    if name == "MasaCtrl":
        return Recipe(keys=kv, tau_a=1.0, start=0.08)  # step 4 of 50
    if name == "custom":
        return Recipe(tau_f=0.8, tau_a=0.5)
    raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")


def _same_depth(numbers: Sequence[int], outputs: int, exact: bool) -> frozenset[Block]:
    return frozenset(("output", n if exact else n * outputs // SD_BLOCKS) for n in numbers)


def parse_blocks(text: str, known: Sequence[Block], name: str = "blocks") -> frozenset[Block]:
    """Parse ``"4-11, middle, input 7-8"``: numbers without a word are output blocks, ``none`` is no block.

    Args:
        text: what to read.
        known: blocks that have what is asked for.
        name: of the input, for errors.

    Raises:
        ValueError: an entry that does not read so, or a block that is not among ``known``.
    """
    blocks: set[Block] = set()
    for entry in filter(None, (part.strip().lower() for part in re.split(r"[,;\n]", text))):
        if entry == "none":
            continue
        if entry == "middle":
            blocks.add(("middle", 0))
            continue
        match = _ENTRY.fullmatch(entry)
        if not match:
            raise ValueError(
                f"{name} must read like '4-11, middle, input 7-8' (numbers alone are output blocks), got {entry!r:.40}"
            )
        side = match[1] or "output"
        first = int(match[2])
        last = int(match[3] or match[2])
        blocks |= {(side, n) for n in range(first, last + 1)}
    odd = sorted(blocks - set(known))
    if odd:
        have = ", ".join(" ".join(map(str, block)) for block in known)
        raise ValueError(f"{name}: this network has nothing of that kind at {odd[0][0]} {odd[0][1]}; it has: {have}")
    return frozenset(blocks)
