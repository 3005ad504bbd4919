"""``dev.py bench``: run benchmarks, hold their figures against the bars, copy them into the documentation."""

from __future__ import annotations

import argparse
import os
import re
import subprocess

from benchmarks import _report

from . import env, testing
from .console import ROOT, StepFailed, say

PAGES = (ROOT / "docs" / "benchmarks.md", ROOT / "docs" / "transformers.md")
_BLOCK = re.compile(r"(<!-- bench:([\w-]+) -->\n).*?(<!-- /bench -->)", re.DOTALL)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="benchmarks to run (default: all), or to check")
    parser.add_argument("--check", action="store_true", help="run nothing; print the bars that stored figures miss")
    parser.add_argument(
        "--tables", action="store_true", help="run nothing; write stored figures into the documentation"
    )


def names() -> list[str]:
    """The benchmarks there are."""
    return sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py") if not path.stem.startswith("_"))


def run(options: argparse.Namespace) -> int:
    """Do what the options say; the exit status."""
    if options.tables:
        return write_tables()
    if options.check:
        return _check(options.names)
    unknown = set(options.names) - set(names())
    if unknown:
        raise StepFailed(
            "bench", f"no benchmark is called {', '.join(sorted(unknown))}", f"Choose from: {', '.join(names())}."
        )
    testing.prepare()
    failed = []
    for name in options.names or names():
        say("bench", name)
        environment = {**env.with_waiting(os.environ), _report.COMMAND: f"python dev.py bench {name}"}
        if subprocess.run(
            [str(env.python()), "-m", f"benchmarks.{name}"], cwd=ROOT, env=environment, check=False
        ).returncode:
            failed.append(name)
    if failed:
        raise StepFailed("bench", f"ended with an error: {', '.join(failed)}", "Read its output above.")
    return _check(options.names)


def write_tables() -> int:
    """Replace what stands between ``<!-- bench:name -->`` and ``<!-- /bench -->`` by the table of that benchmark."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        wanted = [match[1] for match in _BLOCK.findall(text)]
        missing = [name for name in wanted if not _report.path_of(name).exists()]
        if missing:
            cause = f"{page.name} wants figures that are not there: {', '.join(missing)}"
            raise StepFailed("bench", cause, f"Run: python dev.py bench {' '.join(missing)}")
        text = _BLOCK.sub(lambda match: f"{match[1]}{_report.table(match[2])}\n{match[3]}", text)
        page.write_text(text, encoding="utf-8")
        say("bench", f"{page.name}: {len(wanted)} tables written")
    return 0


def _check(chosen: list[str]) -> int:
    looked_at = chosen or names()
    short = _report.check(looked_at)
    for name, bar in short:
        print(f"{name}: {bar['name']} is {bar['value']}, wanted {bar['op']} {bar['target']}")
    say("bench", f"{len(looked_at)} benchmarks, {len(short)} bars fall short")
    return 1 if short or not looked_at else 0
