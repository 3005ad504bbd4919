"""Our nodes beside every mechanism of the host: the cells of docs/compatibility.md, run. ``python dev.py bench
compatibility``.

``python -m benchmarks.compatibility Steer "Morph Frames" HyperTile`` runs the cells of these nodes (or of all) and
these mechanisms (or of all) again, and keeps what the results file says of the others.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks._report import bar, path_of, write
from devtools.compatibility.cells import CELLS, fault
from devtools.compatibility.edits import EDITS, Edit
from devtools.compatibility.measure import Bench
from devtools.compatibility.mechanisms import MECHANISMS, Mechanism
from devtools.compatibility.table import verdict_of
from devtools.executor import Executor

_NAME = "compatibility"


def main(wanted: Sequence[str]) -> None:
    """Run cells, all or those of the nodes and mechanisms named, and write the table after each node."""
    edits = [edit for edit in EDITS if edit.name in wanted] or EDITS
    mechanisms = [mechanism for mechanism in MECHANISMS if mechanism.name in wanted] or MECHANISMS
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Executor(Path(folder)))
        logging.disable(logging.CRITICAL)  # the host writes a traceback for every refusal
        for edit in edits:
            cells = {}
            for mechanism in mechanisms:
                cells[mechanism.name] = wrong = fault(bench, edit, mechanism)
                if wrong:
                    print(f"{edit.name} x {mechanism.name}: {wrong}", flush=True)
            _kept(edit, cells, bench.left_behind(edit))


def _kept(edit: Edit, cells: dict[str, str], left: float) -> None:
    """Put cells of one node into the results file: what is wrong in each, or nothing."""
    before: dict[str, Any] = (
        json.loads(path_of(_NAME).read_text(encoding="utf-8"))["figures"] if path_of(_NAME).is_file() else {}
    )
    nodes = {**before.get("nodes", {})}
    nodes[edit.name] = {"cells": {**nodes.get(edit.name, {}).get("cells", {}), **cells}, "left behind": left}
    run = {node: found["cells"] for node, found in nodes.items()}
    rows = [
        {"mechanism": m.name, **{e.name: _told(e, m, run[e.name]) for e in EDITS if e.name in run}} for m in MECHANISMS
    ]
    wrong = sum(bool(told) for found in run.values() for told in found.values())
    bars = [
        bar("cells that were run or have no socket", sum(map(len, run.values())), "==", len(CELLS)),
        bar("cells that are none of exact, refused by name, acting as documented", wrong, "==", 0),
        bar(
            "largest change of a plain graph after all of them",
            max(found["left behind"] for found in nodes.values()),
            "==",
            0,
        ),
    ]
    write(_NAME, {"rows": rows, "nodes": nodes}, bars)


def _told(edit: Edit, mechanism: Mechanism, cells: dict[str, str]) -> str:
    verdict = verdict_of(edit, mechanism)
    if mechanism.name not in cells:
        return "not run"
    return "fault" if cells[mechanism.name] else "no socket" if verdict.test == "socket" else verdict.kind


if __name__ == "__main__":
    main(sys.argv[1:])
