"""Which cells of a large table a run of the whole suite looks at: all with ``dev.py test --all``, else a share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

Cell = TypeVar("Cell")
SHARE = 8
"""One cell of so many."""


def share(cells: Sequence[Cell], row: int, of: int = SHARE) -> list[Cell]:
    """Every ``of``-th cell of a row, from another column on in each row, and at least one.

    So a table of as many rows has each of its columns in at least one of them.

    Args:
        cells: of the row.
        row: its number.
        of: one cell of so many.
    """
    first = row % min(of, len(cells)) if cells else 0
    return list(cells[first::of])


def every(cells: Sequence[Cell], row: int, of: int = 1) -> list[Cell]:
    """All cells of a row."""
    return list(cells)
