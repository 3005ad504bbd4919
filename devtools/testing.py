"""``dev.py test``: lanes of tests side by side, each in a process of its own, and one closing line for all of them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xml.etree import ElementTree

from . import browser, changed, env, host
from .console import LOGS, ROOT, StepFailed, say

# The root is importable for the maths only: ComfyUI has top-level modules of the same names (`nodes`).
FOLDERS = {"core": ".", "host": "", "browser": ""}
# Tests of the host that hold a ComfyUI in their own process have their own lane; tests/host/conftest.py marks them.
LANES = {"inside": "host", "host": "host", "browser": "browser", "core": "core"}
"""Name of each lane and its folder of ``tests/``, the longest first: one starts as soon as an earlier one is over."""
MARKS = {"host": ["-m", "not inside"], "inside": ["-m", "inside"]}
TITLES = {"inside": "tests/host, inside of its own process"}
NOTHING_COLLECTED = 5  # pytest's exit status
COUNTS = ("passed", "failed", "errors", "skipped")
SLOWEST = "--durations=15"


def prepare() -> None:
    """Install what the tests need."""
    host.ensure_host()
    env.install("dev-requirements", env.extra_requirements("dev"), "development requirements")


def run(arguments: Sequence[str], lanes: Sequence[str] = tuple(LANES)) -> int:
    """Run the lanes; 0 when all passed and, unless a selection was asked for, none was empty.

    Args:
        arguments: passed on to pytest. A path or ``path::test`` among them restricts the run to its folder of
            ``tests/``; ``--changed`` to the files of tests that the working copy's difference from ``main`` touches.
        lanes: of :data:`LANES`.

    Returns:
        the exit status.
    """
    prepare()
    arguments = list(arguments)
    only: list[str] | None = None
    if changed.OPTION in arguments:
        arguments.remove(changed.OPTION)
        only = changed.tests_touched(ROOT)
        lanes = [lane for lane in lanes if any(_lies_in(path, LANES[lane]) for path in only)]
        say("test", f"{len(only)} files of tests are touched: {' '.join(only) or 'none'}")
        if not lanes:
            return 0
    chosen = [folder for folder in FOLDERS if any(_lies_in(argument, folder) for argument in arguments)]
    order = chosen or sorted(lanes, key=list(LANES).index)

    def command(lane: str) -> list[str]:
        folder = LANES[lane]
        own = [
            argument
            for argument in arguments
            if not any(_lies_in(argument, other) for other in FOLDERS if other != folder)
        ]
        paths = [f"tests/{folder}"] if only is None else [path for path in only if _lies_in(path, folder)]
        # -I: the current folder stays off sys.path.
        how = ["-I", "-m", "pytest", "-o", f"pythonpath={FOLDERS[folder]}", f"--junit-xml={_report(lane)}", SLOWEST]
        return [str(env.python()), *how, *([] if chosen else [*paths, *MARKS.get(lane, ())]), *own]

    total: dict[str, int] = dict.fromkeys(COUNTS, 0)
    bad, started = [], time.monotonic()
    for lane, code in _run_lanes(order, command, _environment(order)):
        counts = _counts(_report(lane))
        for name in COUNTS:
            total[name] += counts[name]
        # A selection of the user's, such as -k, may leave a lane empty; the whole suite may not.
        if code and not (code == NOTHING_COLLECTED and (arguments or only)):
            reason = "no test was collected" if code == NOTHING_COLLECTED else f"pytest returned {code}"
            bad.append(f"tests/{LANES[lane]} ({reason})")
    return _close(total, bad, time.monotonic() - started)


def _close(total: Mapping[str, int], bad: Sequence[str], seconds: float) -> int:
    """Print the closing line; the exit status."""
    for line in bad:
        say("test", line)
    failed = total["failed"] + total["errors"]
    skipped = f", {total['skipped']} skipped" if total["skipped"] else ""
    print(f"{total['passed']} passed, {failed} failed{skipped} in {seconds:.0f} s", flush=True)
    return 1 if bad or failed or not total["passed"] else 0


def _run_lanes(
    order: Sequence[str], command: Callable[[str], list[str]], environment: Mapping[str, str]
) -> Iterator[tuple[str, int]]:
    """Run all of them; each with its exit status once it and those before it are over and its output is shown.

    The first one's output is shown as it comes, that of the others when it is complete.
    """
    LOGS.mkdir(parents=True, exist_ok=True)
    running: list[subprocess.Popen] = []

    def work(lane: str) -> int:
        _report(lane).unlink(missing_ok=True)
        with _log(lane).open("w", encoding="utf-8") as log:
            out = None if lane == order[0] else log
            process = subprocess.Popen(command(lane), cwd=ROOT, env=environment, stdout=out, stderr=out)
            running.append(process)
            return process.wait()

    pool = ThreadPoolExecutor(_side_by_side(order))
    try:
        say("test", TITLES.get(order[0], f"tests/{LANES[order[0]]}"))
        results = {lane: pool.submit(work, lane) for lane in order}
        for lane in order:
            code = results[lane].result()
            if lane != order[0]:
                say("test", TITLES.get(lane, f"tests/{LANES[lane]}"))
                print(_log(lane).read_text(encoding="utf-8", errors="replace"), flush=True)
            yield lane, code
    finally:  # an interrupted run starts no further lane, and those that run stop their servers
        for process in running:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM if os.name == "nt" else signal.SIGINT)
        pool.shutdown(cancel_futures=True)


def _side_by_side(order: Sequence[str]) -> int:
    """How many lanes run at once."""
    return min(len(order), max(2, os.cpu_count() or 2))


def _environment(order: Sequence[str]) -> dict[str, str]:
    environment = env.with_waiting({name: value for name, value in os.environ.items() if name != "PYTHONPATH"})
    if "browser" in order:
        environment["HSPACE_CHROMIUM"] = str(browser.ensure_chromium())
    if len(order) > 1:
        # Threads of two processes on the same cores wait for each other by turning: all takes several times as long.
        environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 2) // _side_by_side(order))))
    return environment


def _lies_in(argument: str, folder: str) -> bool:
    return f"tests/{folder}" in argument.replace(os.sep, "/")


def _report(lane: str) -> Path:
    return LOGS / f"tests-{lane}.xml"


def _log(lane: str) -> Path:
    return LOGS / f"tests-{lane}.log"


def _counts(report: Path) -> dict[str, int]:
    """What pytest wrote into its JUnit file; a process that died early counts as one failure."""
    names = ("tests", "failures", "errors", "skipped")
    try:
        suites = list(ElementTree.parse(report).getroot().iter("testsuite"))  # noqa: S314 - written by our own run
        sums = {name: sum(int(suite.get(name, 0)) for suite in suites) for name in names}
    except (OSError, ElementTree.ParseError):
        return {"passed": 0, "failed": 1, "errors": 0, "skipped": 0}
    passed = sums["tests"] - sums["failures"] - sums["errors"] - sums["skipped"]
    return {"passed": passed, "failed": sums["failures"], "errors": sums["errors"], "skipped": sums["skipped"]}


def lint() -> int:
    """Ruff and pyright; 0 when both are content."""
    prepare()  # the host too: pyright follows the nodes' imports into it
    checks = (
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["pyright", "--pythonpath", str(env.python())],
    )
    failed = []
    for check in checks:
        say("lint", " ".join(check[:1] + [part for part in check[1:] if part != str(env.python())]))
        if subprocess.run([str(env.python()), "-m", *check], cwd=ROOT, check=False).returncode:
            failed.append(check[0])
    if failed:
        raise StepFailed(
            "lint",
            f"not clean: {', '.join(dict.fromkeys(failed))}",
            "Mend what is listed above; `ruff check --fix` and `ruff format` of .venv mend most.",
        )
    say("lint", "clean")
    return 0
