"""``dev.py test``: lanes of tests side by side, each in a process of its own, and one closing line for all of them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from . import browser, changed, env, host
from .console import LOGS, ROOT, StepFailed, say

# The root is importable for the maths only: ComfyUI has top-level modules of the same names (`nodes`).
FOLDERS = {"core": ".", "host": "", "browser": ""}
# Tests of the host that hold a ComfyUI in their own process have their own lane; tests/host/conftest.py marks them.
LANES = {"inside": "host", "host": "host", "browser": "browser", "core": "core"}
"""Name of each lane and its folder of ``tests/``, the longest first."""
PARTS = {"inside": 3, "host": 3, "core": 2}
"""How many processes run a lane one after the other, or side by side where there are cores: two cores end together."""
MARKS = {"host": ["-m", "not inside"], "inside": ["-m", "inside"]}
TITLES = {"inside": "tests/host, inside of its own process"}
NOTHING_COLLECTED = 5  # pytest's exit status
COUNTS = ("passed", "failed", "errors", "skipped")
SLOWEST = "--durations=15"
ALL, SHARE = "--all", "--share"  # what a person asks for, and what pytest is told without it


@dataclass(frozen=True)
class Part:
    """Tests that one process runs.

    Attributes:
        lane: of :data:`LANES`.
        paths: files or folders of tests; none where the user's arguments name them.
        number: which part of its lane, from 1; 0: all of it.
    """

    lane: str
    paths: tuple[str, ...] = ()
    number: int = 0

    @property
    def folder(self) -> str:
        """Of ``tests/``."""
        return LANES[self.lane]

    @property
    def title(self) -> str:
        """What the console calls it."""
        title = TITLES.get(self.lane, f"tests/{self.folder}")
        return f"{title}, part {self.number}" if self.number else title

    @property
    def report(self) -> Path:
        """What pytest writes into."""
        return LOGS / f"tests-{self._name}.xml"

    @property
    def log(self) -> Path:
        """What it prints."""
        return LOGS / f"tests-{self._name}.log"

    @property
    def _name(self) -> str:
        return f"{self.lane}-{self.number}" if self.number else self.lane


def prepare() -> None:
    """Install what the tests need."""
    host.ensure_host()
    env.install("dev-requirements", env.extra_requirements("dev"), "development requirements")


def run(arguments: Sequence[str], lanes: Sequence[str] = tuple(LANES)) -> int:
    """Run the lanes; 0 when all passed and, unless a selection was asked for, none was empty.

    Args:
        arguments: passed on to pytest. A path or ``path::test`` among them restricts the run to its folder of
            ``tests/``; ``--changed`` to the files of tests that the working copy's difference from ``main`` touches.
            Of the tables that sweep all nodes a run without a selection takes a share, with ``--all`` every cell.
        lanes: of :data:`LANES`.

    Returns:
        the exit status.
    """
    prepare()
    arguments = list(arguments)
    every = ALL in arguments
    if every:
        arguments.remove(ALL)
    only: list[str] | None = None
    if changed.OPTION in arguments:
        arguments.remove(changed.OPTION)
        only = changed.tests_touched(ROOT)
        lanes = [lane for lane in lanes if any(_lies_in(path, LANES[lane]) for path in only)]
        say("test", f"{len(only)} files of tests are touched: {' '.join(only) or 'none'}")
        if not lanes:
            return 0
    named = [folder for folder in FOLDERS if any(_lies_in(argument, folder) for argument in arguments)]
    if named:
        parts = [Part(folder) for folder in named]
    else:
        whole = not arguments and only is None
        parts = _deal(sorted(lanes, key=list(LANES).index), only, PARTS if whole else {})

    def command(part: Part) -> list[str]:
        folder = part.folder
        own = [
            argument
            for argument in arguments
            if not any(_lies_in(argument, other) for other in FOLDERS if other != folder)
        ]
        # -I: the current folder stays off sys.path.
        how = ["-I", "-m", "pytest", "-o", f"pythonpath={FOLDERS[folder]}", f"--junit-xml={part.report}", SLOWEST]
        marks = [] if named else MARKS.get(part.lane, [])
        # Who selects tests means all that they do.
        share = [] if every or arguments else [SHARE]
        return [str(env.python()), *how, *part.paths, *marks, *share, *own]

    total: dict[str, int] = dict.fromkeys(COUNTS, 0)
    bad, empty, started = [], Counter(), time.monotonic()
    for part, code in _run_parts(parts, command, _environment([part.lane for part in parts])):
        counts = _counts(part.report)
        for name in COUNTS:
            total[name] += counts[name]
        if code == NOTHING_COLLECTED:
            empty[part.lane] += 1
        elif code:
            bad.append(f"tests/{part.folder} (pytest returned {code})")
    # A selection of the user's, such as -k, may leave a lane empty; the whole suite may not.
    if not (arguments or only):
        of = Counter(part.lane for part in parts)
        bad += [f"tests/{LANES[lane]} (no test was collected)" for lane in of if empty[lane] == of[lane]]
    return _close(total, bad, time.monotonic() - started)


def _deal(lanes: Sequence[str], only: Sequence[str] | None, numbers: Mapping[str, int]) -> list[Part]:
    """Parts of these lanes, in the order in which they start.

    Args:
        lanes: of :data:`LANES`, the longest first.
        only: files of tests to run; None: all.
        numbers: of parts by lane; 1 where it is missing.
    """
    parts = []
    for lane in lanes:
        folder = ROOT / "tests" / LANES[lane]
        files = sorted(path.relative_to(ROOT).as_posix() for path in folder.rglob("test_*.py"))
        if only is not None:
            files = [path for path in files if path in only]
        number = min(numbers.get(lane, 1), len(files))
        if number > 1:
            parts += [Part(lane, tuple(files[i::number]), i + 1) for i in range(number)]
        else:
            parts.append(Part(lane, tuple(files) if only is not None else (f"tests/{LANES[lane]}",)))
    return parts


def _close(total: Mapping[str, int], bad: Sequence[str], seconds: float) -> int:
    """Print the closing line; the exit status."""
    for line in bad:
        say("test", line)
    failed = total["failed"] + total["errors"]
    skipped = f", {total['skipped']} skipped" if total["skipped"] else ""
    print(f"{total['passed']} passed, {failed} failed{skipped} in {seconds:.0f} s", flush=True)
    return 1 if bad or failed or not total["passed"] else 0


def _run_parts(
    parts: Sequence[Part], command: Callable[[Part], list[str]], environment: Mapping[str, str]
) -> Iterator[tuple[Part, int]]:
    """Run all of them; each with its exit status once it and those before it are over and its output is shown.

    The first one's output is shown as it comes, that of the others when it is complete.
    """
    LOGS.mkdir(parents=True, exist_ok=True)
    running: list[subprocess.Popen] = []

    def work(part: Part) -> int:
        part.report.unlink(missing_ok=True)
        with part.log.open("w", encoding="utf-8") as log:
            out = None if part is parts[0] else log
            process = subprocess.Popen(command(part), cwd=ROOT, env=environment, stdout=out, stderr=out)
            running.append(process)
            return process.wait()

    pool = ThreadPoolExecutor(_side_by_side(parts))
    try:
        say("test", parts[0].title)
        results = [pool.submit(work, part) for part in parts]
        for part, result in zip(parts, results, strict=True):
            code = result.result()
            if part is not parts[0]:
                say("test", part.title)
                print(part.log.read_text(encoding="utf-8", errors="replace"), flush=True)
            yield part, code
    finally:  # an interrupted run starts no further part, and those that run stop their servers
        for process in running:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM if os.name == "nt" else signal.SIGINT)
        pool.shutdown(cancel_futures=True)


def _side_by_side(order: Sequence) -> int:
    """How many of these run at once."""
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
