"""``dev.py test --changed``: which files of tests a change touches."""

import subprocess

import pytest

from devtools import changed

FILES = {
    "core/__init__.py": "",
    "core/ground.py": "",
    "core/edit/__init__.py": "",
    "core/edit/steer.py": "from .. import ground",
    "core/edit/morph.py": "def late():\n    from ..ground import thing",
    "nodes/steer.py": 'from ..core.edit.steer import steer\nID = "HSpaceSteer"',
    "nodes/morph.py": 'from ..core.edit import morph\nID = "HSpaceMorph"',
    "weights/faces.safetensors": "",
    "web/docs/HSpaceMorph.md": "",
    "docs/words.md": "",
    "tests/conftest.py": "",
    "tests/core/conftest.py": "",
    "tests/core/helper.py": "import core.ground",
    "tests/core/edit/test_steer.py": "from core.edit import steer\nfrom tests.core import helper",
    "tests/core/test_reads.py": 'FILE = "faces.safetensors"',
    "tests/core/test_alone.py": "",
    "tests/host/conftest.py": "",
    "tests/host/graphs.py": 'def steer(): return {"class_type": "HSpaceSteer"}',
    "tests/host/test_steer.py": "from .graphs import steer",
    "tests/host/test_asks.py": 'def test_one(executor): executor.module("core.edit.morph")',
    "tests/host/test_all.py": "def test_all(server): server.object_info()",
}
STEER, MORPH, ALL = "tests/host/test_steer.py", "tests/host/test_asks.py", "tests/host/test_all.py"


@pytest.fixture
def tree(tmp_path):
    """A small repository."""
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    return tmp_path


@pytest.mark.parametrize(
    ("change", "touched"),
    [
        ("core/edit/steer.py", {"tests/core/edit/test_steer.py", STEER, ALL}),
        ("core/edit/morph.py", {MORPH, ALL}),
        ("core/ground.py", {"tests/core/edit/test_steer.py", STEER, MORPH, ALL}),
        ("nodes/morph.py", {ALL}),
        ("tests/core/helper.py", {"tests/core/edit/test_steer.py"}),
        ("tests/host/graphs.py", {STEER}),
        ("tests/host/conftest.py", {STEER, MORPH, ALL}),
        ("tests/core/test_alone.py", {"tests/core/test_alone.py"}),
        ("weights/faces.safetensors", {"tests/core/test_reads.py", ALL}),
        ("web/docs/HSpaceMorph.md", {ALL}),
        ("docs/words.md", {ALL}),
        ("pyproject.toml", {name for name in FILES if "/test_" in name}),
    ],
)
def test_what_a_change_touches(tree, change, touched):
    assert set(changed.select(tree, {change}, FILES)) == touched


def test_the_change_is_what_differs_from_main_and_what_is_new(tree):
    def git(*arguments):
        subprocess.run(
            ["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments], cwd=tree, check=True, capture_output=True
        )

    git("init", "-b", "main")
    git("add", ".")
    git("commit", "-m", "all")
    assert changed.tests_touched(tree) == []
    (tree / "core/edit/morph.py").write_text("changed = 1")
    (tree / "tests/core/test_new.py").write_text("")
    assert changed.changed_files(tree) == {"core/edit/morph.py", "tests/core/test_new.py"}
    git("checkout", "-b", "mine")
    git("add", ".")
    git("commit", "-m", "mine")
    assert changed.tests_touched(tree) == ["tests/core/test_new.py", ALL, MORPH]
