"""The share of a large table that ``dev.py test`` looks at."""

import re
import subprocess
import sys

import pytest

from devtools.console import ROOT

from ..sweeps import SHARE, every, share


@pytest.mark.parametrize("columns", [1, 2, 3, SHARE, 7, 30])
def test_each_row_and_each_column_has_a_cell(columns):
    table = [share(range(columns), row) for row in range(2 * SHARE)]
    assert all(table) and {cell for row in table for cell in row} == set(range(columns))
    assert max(map(len, table)) <= columns / SHARE + 1
    assert share([], 3) == [] and every("abc", 2) == ["a", "b", "c"]


def collected(*options: str) -> dict[tuple[str, str], set[str]]:
    """Cells of the sweep over every dial that pytest would run: by test and node."""
    command = [sys.executable, "-I", "-m", "pytest", "--collect-only", "-o", "pythonpath=", *options]
    done = subprocess.run(
        [*command, "tests/host/test_every_dial.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    rows: dict[tuple[str, str], set[str]] = {}
    for test, node, cell in re.findall(r"::(\w+)\[(\w+)-(.*)\]", done.stdout):
        rows.setdefault((test, node), set()).add(cell)
    return rows


def test_a_share_of_the_dials_has_every_node():
    whole, part = collected(), collected("--share")
    assert len(whole) > 60 and set(part) == set(whole)
    for row in whole:
        assert part[row] <= whole[row] and 1 <= len(part[row]) <= len(whole[row]) / SHARE + 1, row
    assert sum(map(len, part.values())) < sum(map(len, whole.values())) / 2
