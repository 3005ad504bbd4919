"""``dev.py test``: what it runs side by side, counts and returns."""

import os

import pytest

from devtools import server, testing

MEETS = """
import os, time
from pathlib import Path

def test_meets_the_other():
    assert os.environ["OMP_NUM_THREADS"] == "{threads}"
    Path("{own}").touch()
    end = time.monotonic() + 60
    while not Path("{other}").exists():
        assert time.monotonic() < end
        time.sleep(0.02)
"""
CONFTEST = """
def pytest_addoption(parser):
    parser.addoption("--share", action="store_true")
"""
PASSES, FAILS = "def test_one(): pass", "def test_one(): assert 'said' == 'meant'"


@pytest.fixture
def runner(tmp_path, monkeypatch):
    """Runs ``dev.py test`` on folders of tests with this content."""
    monkeypatch.setattr(testing, "ROOT", tmp_path)
    monkeypatch.setattr(testing, "LOGS", tmp_path / "logs")
    monkeypatch.setattr(testing, "prepare", lambda: None)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "conftest.py").write_text(CONFTEST)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)

    def run(core: str, host: str, arguments=(), lanes=("core", "host")) -> int:
        for folder, content in (("core", core), ("host", host)):
            file = tmp_path / "tests" / folder / f"test_{folder}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
        return testing.run(arguments, lanes)

    return run


def test_the_maths_runs_beside_the_host_on_its_share_of_the_cores(runner, capfd):
    threads = max(1, (os.cpu_count() or 2) // 2)
    pages = [MEETS.format(threads=threads, own=own, other=other) for own, other in (("core", "host"), ("host", "core"))]
    assert runner(*pages) == 0
    assert capfd.readouterr().out.splitlines()[-1].startswith("2 passed, 0 failed in")


@pytest.mark.parametrize(("core", "host"), [(FAILS, PASSES), (PASSES, FAILS)])
def test_a_failure_in_either_folder_is_shown_and_returned(runner, capfd, core, host):
    assert runner(core, host) == 1
    said = capfd.readouterr().out
    assert "'said' == 'meant'" in said and said.splitlines()[-1].startswith("1 passed, 1 failed in")


def test_a_third_lane_starts_when_one_of_two_is_over(runner, capfd, tmp_path, monkeypatch):
    monkeypatch.setattr(testing.browser, "ensure_chromium", lambda: "chromium")
    monkeypatch.setattr(testing.os, "cpu_count", lambda: 2)
    ends = {name: tmp_path / name for name in ("host", "maths", "browser")}
    page = tmp_path / "tests" / "browser" / "test_browser.py"
    page.parent.mkdir(parents=True)
    page.write_text(
        f"from pathlib import Path\ndef test_now(): Path('{ends['browser']}').touch(); assert 'said' == 'meant'"
    )
    waits = MEETS.format(threads=1, own=ends["host"], other=ends["maths"])
    last = f"from pathlib import Path\ndef test_last(): assert Path('{ends['browser']}').exists(); Path('{ends['maths']}').touch()"
    assert runner(last, waits, lanes=("core", "host", "browser")) == 1
    said = capfd.readouterr().out
    assert "'said' == 'meant'" in said and said.splitlines()[-1].startswith("2 passed, 1 failed in")


def test_a_long_lane_is_several_processes_that_run_each_test_once(runner, capfd, tmp_path, monkeypatch):
    """Where a lane is longer than all others together, a second core would wait for it."""
    monkeypatch.setattr(testing, "PARTS", {"core": 3})
    monkeypatch.setattr(testing.os, "cpu_count", lambda: 2)
    more = tmp_path / "tests" / "core" / "deeper"
    more.mkdir(parents=True)
    for name in ("a", "b", "c"):
        (more / f"test_{name}.py").write_text(
            f"import os\nfrom pathlib import Path\ndef test_one(): Path(r'{tmp_path}', '{name}').write_text(str(os.getpid()))"
        )
    assert runner(PASSES, PASSES) == 0
    assert capfd.readouterr().out.splitlines()[-1].startswith("5 passed, 0 failed in")
    assert len({(tmp_path / name).read_text() for name in ("a", "b", "c")}) == 3
    assert testing.run(["-k", "test_one"], ("core", "host")) == 0
    assert len({(tmp_path / name).read_text() for name in ("a", "b", "c")}) == 1, "a selection is one process a lane"


def test_a_failure_in_a_part_is_shown_and_returned(runner, capfd, tmp_path, monkeypatch):
    monkeypatch.setattr(testing, "PARTS", {"core": 2})
    more = tmp_path / "tests" / "core" / "deeper"
    more.mkdir(parents=True)
    (more / "test_empty.py").write_text("")
    assert runner(PASSES, PASSES) == 0, "a part may be empty, the lane may not"
    (more / "test_fails.py").write_text(FAILS)
    assert testing.run((), ("core", "host")) == 1
    said = capfd.readouterr().out
    assert "'said' == 'meant'" in said and said.splitlines()[-1].startswith("2 passed, 1 failed in")


SAYS = (
    "from pathlib import Path\ndef test_one(request): Path(r'{}').write_text(str(request.config.getoption('--share')))"
)


def test_large_tables_are_shared_in_a_whole_run_alone(runner, tmp_path, monkeypatch):
    said = tmp_path / "said"
    assert runner(SAYS.format(said), PASSES) == 0 and said.read_text() == "True"
    for selection in (["--all"], ["-k", "one"], ["tests/core"], ["tests/core/test_core.py::test_one"]):
        said.unlink()
        assert testing.run(selection, ("core", "host")) == 0 and said.read_text() == "False", selection
    monkeypatch.setattr(testing.changed, "tests_touched", lambda root: ["tests/core/test_core.py"])
    for selection, share in ((["--changed"], "True"), (["--changed", "--all"], "False")):
        assert testing.run(selection, ("core", "host")) == 0 and said.read_text() == share


def test_a_developer_runs_what_a_change_touches(runner, capfd, monkeypatch):
    monkeypatch.setattr(testing.changed, "tests_touched", lambda root: ["tests/host/test_host.py"])
    assert runner(FAILS, PASSES, ["--changed"], ("core", "host", "inside")) == 0
    said = capfd.readouterr().out
    assert "tests/host/test_host.py" in said and said.splitlines()[-1].startswith("1 passed, 0 failed in")
    monkeypatch.setattr(testing.changed, "tests_touched", lambda root: [])
    assert testing.run(["--changed"]) == 0


def test_an_empty_folder_fails_a_whole_run_and_not_a_selection(runner, capfd):
    assert runner("", PASSES) == 1
    assert "tests/core (no test was collected)" in capfd.readouterr().out
    assert testing.run(["-k", "one"], ("core", "host")) == 0
    assert testing.run(["-k", "none"], ("core", "host")) == 1


def test_a_process_that_dies_counts_as_a_failure(runner, capfd):
    assert runner("import os; os._exit(0)", PASSES) == 1
    assert capfd.readouterr().out.splitlines()[-1].startswith("1 passed, 1 failed in")


def test_a_path_restricts_the_run_to_its_folder(runner, capfd):
    assert runner(FAILS, PASSES, ["tests/host/test_host.py"]) == 0
    assert capfd.readouterr().out.splitlines()[-1].startswith("1 passed, 0 failed in")


def test_what_needs_no_server_has_a_lane_of_its_own(runner, capfd, tmp_path):
    marked = "import pytest\n@pytest.mark.inside\ndef test_two(): assert 'said' == 'meant'\ndef test_three(): pass"
    assert runner(PASSES, marked, lanes=("core", "host")) == 0
    assert capfd.readouterr().out.splitlines()[-1].startswith("2 passed, 0 failed in")
    assert testing.run((), ("core", "host", "inside")) == 1
    assert capfd.readouterr().out.splitlines()[-1].startswith("2 passed, 1 failed in")


def test_processes_that_compute_wait_without_spinning(monkeypatch):
    """Threads that spin at every barrier double the time of the demo beside a busy core."""
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert server._environment()["OMP_WAIT_POLICY"] == testing._environment(["core"])["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert server._environment()["OMP_WAIT_POLICY"] == "ACTIVE", "what somebody chose stays"
