"""The cells of the table, run and judged."""

from __future__ import annotations

import torch

from .edits import EDITS, Edit
from .measure import Bench, Facts
from .mechanisms import MECHANISMS, Mechanism
from .table import verdict_of
from .verdicts import shortfall

CELLS: tuple[tuple[Edit, Mechanism], ...] = tuple((edit, mechanism) for edit in EDITS for mechanism in MECHANISMS)


def fault(bench: Bench, edit: Edit, mechanism: Mechanism) -> str:
    """What is wrong in a cell, or "" if it is what the table says."""
    verdict = verdict_of(edit, mechanism)
    if verdict.test == "socket":
        return shortfall(verdict, Facts(), edit, mechanism)
    facts = bench.facts(edit, mechanism, compared=verdict.test not in ("without", "refused"))
    if "Compile" in mechanism.name:
        # What was compiled keeps its model alive, and the host collects all garbage at every load while it sees such.
        torch._dynamo.reset()
    return shortfall(verdict, facts, edit, mechanism)
