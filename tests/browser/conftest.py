"""The real graph editor in Chromium; fixture ``editor`` is a fresh page, screenshots go to ``output/screenshots``."""

from __future__ import annotations

import pytest

from devtools.editor import launch_chromium, open_page
from devtools.workflow_layout import EXAMPLE
from devtools.workflows import PORTRAIT

from .people import Person


@pytest.fixture(scope="session")
def chromium():
    """A headless Chromium for the whole run."""
    with launch_chromium() as browser:
        yield browser


@pytest.fixture
def editor(chromium, server):
    """A fresh page, opened at the graph editor."""
    with open_page(chromium, server.url) as opened:
        yield opened


@pytest.fixture(scope="module")
def shared_editor(chromium, server):
    """One page for tests that load a graph and read what became of it: to open a page takes ten seconds."""
    with open_page(chromium, server.url) as opened:
        yield opened


@pytest.fixture(scope="module", params=[False, True], ids=["classic", "nodes 2.0"])
def person(request, chromium, server):
    """Somebody at the editor; the picture that comes with the host is there."""
    server.upload(PORTRAIT, EXAMPLE)
    with open_page(chromium, server.url) as editor:
        yield Person(editor, server, request.param)
        editor.use_nodes_2(False)


@pytest.fixture
def quiet(person):
    """Nothing of ours was written into the console meanwhile."""
    person.editor.errors.clear()
    yield
    assert not [error for error in person.editor.errors if "hspace" in error.lower()]
