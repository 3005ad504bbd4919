"""A ComfyUI inside of the tests' own process, beside the server that most tests use; and shares of the large tables."""

from collections.abc import Callable

import pytest

from .sweeps import every, share


def pytest_collection_modifyitems(config, items):
    """``dev.py test`` runs tests with an ``executor`` beside those that use a server, and a share of each sweep."""
    for item in items:
        if "executor" in getattr(item, "fixturenames", ()):
            item.add_marker("inside")
    if config.getoption("--share"):
        left = _cells_left_out(items)
        config.hook.pytest_deselected(items=[item for item in items if item in left])
        items[:] = [item for item in items if item not in left]


def _cells_left_out(items) -> set:
    """Of each test that is marked as a sweep over tests: the cells beside the share, row by row."""
    tables: dict = {}
    for item in items:
        mark = item.get_closest_marker("sweep")
        if mark and mark.args:
            (row,) = mark.args
            rows = tables.setdefault(item.nodeid.partition("[")[0], {})
            rows.setdefault(repr(item.callspec.params[row]) if row else "", []).append(item)
    left = set()
    for rows in tables.values():
        for number, cells in enumerate(rows.values()):
            left |= set(cells) - set(share(cells, number))
    return left


@pytest.fixture
def cells_of(request) -> Callable:
    """``cells_of(row, number)``: the cells of a row that this run looks at, for a sweep inside of one test."""
    return share if request.config.getoption("--share") else every


@pytest.fixture(scope="session")
def executor(tmp_path_factory):
    """A :class:`devtools.executor.Executor`, for the whole run."""
    from devtools import host
    from devtools.executor import Executor

    host.ensure_host()
    return Executor(tmp_path_factory.mktemp("in_process"))
