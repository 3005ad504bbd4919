"""How a step speaks: one line when it works; step, cause and remedy when it fails."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOST = ROOT / ".host"
LOGS = HOST / "logs"


class StepFailed(Exception):
    """A step did not work.

    Args:
        step: what was being done.
        cause: what went wrong, with the last lines of the log where there is one.
        remedy: what the user can do about it.
    """

    def __init__(self, step: str, cause: str, remedy: str):
        super().__init__(f"{step}: {cause}")
        self.step, self.cause, self.remedy = step, cause, remedy

    def report(self) -> str:
        """The three parts as the user sees them."""
        return f"\nFAILED  {self.step}\ncause   {self.cause}\nremedy  {self.remedy}"


def say(step: str, text: str) -> None:
    """Print one line about a step."""
    print(f"[{step}] {text}", flush=True)


def tail(path: Path, lines: int = 15) -> str:
    """The last lines of a log file without its colours, empty when there is none."""
    if not path.exists():
        return ""
    with path.open(encoding="utf-8", errors="replace") as file:
        return uncoloured("".join(deque(file, lines))).rstrip()


def uncoloured(text: str) -> str:
    """Text without terminal colour codes."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def run(
    step: str,
    command: Sequence[str | Path],
    *,
    remedy: str,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> None:
    """Run a command with its output in ``.host/logs/<step>.log``.

    Raises:
        StepFailed: it could not be started or returned non-zero.
    """
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{step}.log"
    started = time.monotonic()
    try:
        with log.open("w", encoding="utf-8") as out:
            code = subprocess.run(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=env,
                cwd=cwd,
                check=False,
            ).returncode
    except OSError as error:
        raise StepFailed(step, f"{command[0]} could not be started: {error}", remedy) from error
    if code:
        raise StepFailed(
            step, f"{Path(command[0]).name} returned {code}; the end of {log}:\n{_indent(tail(log))}", remedy
        )
    say(step, f"done in {time.monotonic() - started:.0f} s")


def ask(command: Sequence[str | Path], timeout: float = 120) -> str | None:
    """The stripped standard output of a command; None when it is missing, fails or takes too long."""
    try:
        done = subprocess.run(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def read_stamp(path: Path) -> dict:
    """What a finished step wrote, ``{}`` when it has not finished yet."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_stamp(path: Path, content: dict) -> None:
    """Record that a step has finished; atomic, so that an interrupted run leaves no half stamp."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content, indent=1), encoding="utf-8")
    os.replace(part, path)


def plain_output() -> None:
    """Keep a console with a narrow encoding from stopping the program at the first accent."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _indent(text: str) -> str:
    return "\n".join("    " + line for line in text.splitlines())
