"""A ComfyUI inside of the tests' own process, beside the server that most tests use."""

from collections.abc import Callable

import pytest

from ..sweeps import every, share


def pytest_collection_modifyitems(items):
    """``dev.py test`` runs tests with an ``executor`` beside those that use a server."""
    for item in items:
        if "executor" in getattr(item, "fixturenames", ()):
            item.add_marker("inside")


@pytest.fixture
def cells_of(request) -> Callable:
    """``cells_of(row, number, of)``: the cells of a row that this run looks at, for a sweep inside of one test."""
    return share if request.config.getoption("--share") else every


@pytest.fixture(scope="session")
def executor(tmp_path_factory):
    """A :class:`devtools.executor.Executor`, for the whole run."""
    from devtools import host
    from devtools.executor import Executor

    host.ensure_host()
    return Executor(tmp_path_factory.mktemp("in_process"))
