"""A ComfyUI inside of the tests' own process, beside the server that most tests use."""

import pytest


def pytest_collection_modifyitems(items):
    """``dev.py test`` runs them beside the tests that use a server."""
    for item in items:
        if "executor" in getattr(item, "fixturenames", ()):
            item.add_marker("inside")


@pytest.fixture(scope="session")
def executor(tmp_path_factory):
    """A :class:`devtools.executor.Executor`, for the whole run."""
    from devtools import host
    from devtools.executor import Executor

    host.ensure_host()
    return Executor(tmp_path_factory.mktemp("in_process"))
