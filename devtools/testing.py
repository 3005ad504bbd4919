"""``dev.py test``: each folder of tests in a process of its own, the others beside the host's, one closing line for all of them."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from xml.etree import ElementTree

from . import browser, env, host
from .console import LOGS, ROOT, StepFailed, say

# The root is importable for the maths only: ComfyUI has top-level modules of the same names (`nodes`).
FOLDERS = {"core": ".", "host": "", "browser": ""}
LONGEST = "host"
"""Runs while the others do, one after the other: it waits for a server much of the time."""
NOTHING_COLLECTED = 5  # pytest's exit status
COUNTS = ("passed", "failed", "errors", "skipped")


def prepare() -> None:
    """Install what the tests need."""
    host.ensure_host()
    env.install("dev-requirements", env.extra_requirements("dev"), "development requirements")


def run(arguments: Sequence[str], folders: Sequence[str] = tuple(FOLDERS)) -> int:
    """Run the folders; 0 when all passed and, unless a selection was asked for, no folder was empty.

    Args:
        arguments: passed on to pytest. A path or ``path::test`` among them restricts the run to its folder.
        folders: of ``tests/``.

    Returns:
        the exit status.
    """
    prepare()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    chosen = [folder for folder in folders if any(f"tests/{folder}" in argument.replace(os.sep, "/") for argument in arguments)]
    explicit = bool(chosen)
    if "browser" in (chosen or folders):
        environment["HSPACE_CHROMIUM"] = str(browser.ensure_chromium())
    total, bad, order = dict.fromkeys(COUNTS, 0), [], list(chosen or folders)
    started = time.monotonic()

    def command(folder: str) -> list[str]:
        own = [argument for argument in arguments if not _belongs_elsewhere(argument, folder)]
        (LOGS / f"tests-{folder}.xml").unlink(missing_ok=True)
        # -I: the current folder stays off sys.path.
        how = ["-I", "-m", "pytest", "-o", f"pythonpath={FOLDERS[folder]}", f"--junit-xml={LOGS / f'tests-{folder}.xml'}"]
        return [str(part) for part in (env.python(), *how, *([] if explicit else [f"tests/{folder}"]), *own)]

    def aside(folder: str) -> int:
        with (LOGS / f"tests-{folder}.log").open("w", encoding="utf-8") as log:
            return subprocess.run(command(folder), cwd=ROOT, env=environment, stdout=log, stderr=log, check=False).returncode

    lane, beside = ThreadPoolExecutor(1), {}
    if LONGEST in order and len(order) > 1:
        order.sort(key=lambda folder: folder != LONGEST)
        # Threads of two processes on the same cores wait for each other by turning: everything takes several times as long.
        environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 2) // 2)))
        LOGS.mkdir(parents=True, exist_ok=True)
        beside = {folder: lane.submit(aside, folder) for folder in order[1:]}
    try:
        for folder in order:
            say("test", f"tests/{folder}")
            if folder in beside:
                code = beside[folder].result()
                print((LOGS / f"tests-{folder}.log").read_text(encoding="utf-8", errors="replace"), flush=True)
            else:
                code = subprocess.run(command(folder), cwd=ROOT, env=environment, check=False).returncode
            counts = _counts(LOGS / f"tests-{folder}.xml")
            for name in COUNTS:
                total[name] += counts[name]
            # A selection of the user's, such as -k, may leave a folder empty; the whole suite may not.
            if code and not (code == NOTHING_COLLECTED and arguments):
                bad.append(f"tests/{folder} ({'no test was collected' if code == NOTHING_COLLECTED else f'pytest returned {code}'})")
    finally:
        lane.shutdown(cancel_futures=True)  # an interrupted run starts no further folder
    failed = total["failed"] + total["errors"]
    skipped = f", {total['skipped']} skipped" if total["skipped"] else ""
    for line in bad:
        say("test", line)
    print(f"{total['passed']} passed, {failed} failed{skipped} in {time.monotonic() - started:.0f} s", flush=True)
    return 1 if bad or failed or not total["passed"] else 0


def _belongs_elsewhere(argument: str, folder: str) -> bool:
    argument = argument.replace(os.sep, "/")
    return any(f"tests/{other}" in argument for other in FOLDERS if other != folder)


def _counts(report) -> dict[str, int]:
    """What pytest wrote into its JUnit file; a process that died early counts as one failure."""
    try:
        suites = ElementTree.parse(report).getroot().iter("testsuite")  # noqa: S314 - written by our own run
        found = [{name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")} for suite in suites]
    except (OSError, ElementTree.ParseError):
        return {"passed": 0, "failed": 1, "errors": 0, "skipped": 0}
    sums = {name: sum(one[name] for one in found) for name in ("tests", "failures", "errors", "skipped")}
    passed = sums["tests"] - sums["failures"] - sums["errors"] - sums["skipped"]
    return {"passed": passed, "failed": sums["failures"], "errors": sums["errors"], "skipped": sums["skipped"]}


def lint() -> int:
    """Ruff and pyright; 0 when both are content."""
    env.ensure_venv()
    env.ensure_torch()
    env.install("pack-requirements", env.pack_requirements(), "the pack's requirements")
    env.install("dev-requirements", env.extra_requirements("dev"), "development requirements")
    checks = (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["pyright", "--pythonpath", str(env.python())])
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
