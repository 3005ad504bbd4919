"""Options and the running host shared by the tests. ``dev.py test`` runs each folder in a process of its own."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from .sweeps import share

ROOT = Path(__file__).resolve().parent.parent


def pytest_addoption(parser):
    parser.addoption("--device", default="cpu", choices=("cpu", "cuda"), help="device of tests/core")
    parser.addoption("--share", action="store_true", help="of each large table a share, see tests/sweeps.py")


def pytest_collection_modifyitems(config, items):
    """``dev.py test`` runs a share of each sweep."""
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


def _load(package: str) -> None:
    """Make a package of the repository importable without the root on sys.path: the root holds a `nodes`, as ComfyUI
    does."""
    folder = ROOT / package
    spec = importlib.util.spec_from_file_location(
        package, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    module = sys.modules[package] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


for _package in ("devtools", "benchmarks"):
    if _package not in sys.modules:
        _load(_package)


@pytest.fixture(scope="session")
def server(request, tmp_path_factory):
    """A real ComfyUI with this pack, for the whole run: a :class:`devtools.server.LiveServer`."""
    from devtools import host
    from devtools.server import Server

    host.ensure_host()
    more = tmp_path_factory.mktemp("host") / "more_nodes.yaml"
    more.write_text(
        f"tests:\n  custom_nodes: {json.dumps(str(ROOT / 'tests' / 'host' / 'custom_nodes'))}\n", encoding="utf-8"
    )
    # Folders of tests run side by side, and parts of them; a part is called as its report is.
    report = request.config.option.xmlpath
    name = Path(report).stem if report else f"tests-{request.session.items[0].path.parent.name}"
    with (
        Server(name, fresh=True, arguments=["--extra-model-paths-config", str(more)]) as process,
        process.client() as client,
    ):
        yield client
