"""What a training script does while its loop runs: it prints, and keeps a state to go on from."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from .fit import Fit
from .state import load_state, save_state


class Watch:
    """The ``begin`` and ``callback`` of a core loop in a single process.

    Args:
        file: of the state.
        resume: go on from it, if it is there.
        facts: what the run depends on, compared when it is resumed.
        every: seconds between two states.
        name: of what is trained.
    """

    def __init__(self, file: Path, resume: bool, facts: dict[str, Any], every: float = 60.0, name: str = ""):
        self.file, self.resume, self.facts, self.every = file, resume, facts, every
        self._before, self._saved = f"{name}, " if name else "", time.monotonic()
        self._fit: Fit | None = None

    def begin(self, fit: Fit) -> None:
        """Goes on where an earlier run stopped."""
        self._fit = fit
        if self.resume and self.file.exists():
            load_state(self.file, fit, self.facts)
            print(f"{self._before}resumed at step {fit.i}", flush=True)

    def step(self, seen: dict[str, Any]) -> None:
        """For the ``callback``."""
        if (seen["i"] + 1) % 500 == 0 or seen["i"] + 1 == seen["n"]:
            print(f"{self._before}step {seen['i'] + 1}/{seen['n']}  loss {seen['smooth']:.4f}", flush=True)
        if self._fit is not None and time.monotonic() - self._saved > self.every:
            self._saved = time.monotonic()
            try:
                self.file.parent.mkdir(parents=True, exist_ok=True)
                save_state(self.file, self._fit, self.facts)
            except OSError as error:  # a full disk does not end a run
                print(error, flush=True)
