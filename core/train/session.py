"""What a training script does beside its loop (no paper).

It prints, stores a state, and writes the result whatever the disk does.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .run import Optimiser, Run, Session
from .state import load_state, save_state


def write_anyway(path: Path, write: Callable[[Path], object]) -> Path:
    """Write what took long to make.

    If its path cannot be written by now, it goes to the system's folder for temporary files, and a line says so.

    Returns:
        Where it is.

    Raises:
        OSError: neither can be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path)
        return path
    except OSError as error:
        aside = Path(tempfile.mkdtemp(prefix="hspace-")) / path.name
        write(aside)
        print(f"{error}. It is {aside} for now: move it from there", flush=True)
        return aside


class StoredSession(Session):
    """A run whose state is stored now and then.

    Args:
        file: of the state; None stores nothing.
        facts: what the run depends on, compared when it is resumed.
        every: seconds between two states.

    Attributes:
        run: the run, once it has begun.
    """

    def __init__(self, file: Path | None, facts: Mapping[str, Any], every: float = 60.0):
        super().__init__()
        self.file = file
        self.facts = facts
        self.every = every
        self.run: Run | None = None
        self._stored_at = time.monotonic()

    def begin(self, run: Run) -> None:
        """Remember the run."""
        self.run = run

    @property
    def due(self) -> bool:
        """Say whether it is time to store the state."""
        return time.monotonic() - self._stored_at > self.every

    def store(self) -> None:
        """Write the state."""
        self._stored_at = time.monotonic()
        if self.run is not None and self.file is not None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            save_state(self.file, self.run, self.facts)

    def forget(self) -> None:
        """Delete the state of a run that is done with; one that stays does no harm."""
        if self.file is not None:
            with suppress(OSError):
                self.file.unlink(missing_ok=True)


@dataclass(frozen=True)
class Console:
    """What a script prints of its run.

    Attributes:
        name: of what is trained.
        every: steps between two lines.
        batch: pictures a step of all processes, for the speed; 0 prints none.
        rank: of this process; only the first prints and stores.
    """

    name: str = ""
    every: int = 500
    batch: int = 0
    rank: int = 0


class ScriptSession(StoredSession):
    """A run of a script, which goes on from a stored state, prints, and survives a full disk.

    Args:
        file: of the state.
        facts: what the run depends on, compared when it is resumed.
        resume: go on from the state, if it is there.
        every: seconds between two states.
        console: what is printed.
        reduce: see :class:`core.train.run.Run`.
        between_chains: store no state in the middle of a chain.
    """

    def __init__(
        self,
        file: Path,
        facts: Mapping[str, Any],
        *,
        resume: bool,
        every: float = 60.0,
        console: Console | None = None,
        reduce: Callable[[Sequence[Tensor]], None] | None = None,
        between_chains: bool = False,
    ):
        super().__init__(file, facts, every)
        self.resume = resume
        self.console = console or Console()
        self.reduce = reduce
        self.between_chains = between_chains

    def begin(self, run: Run) -> None:
        """Go on where an earlier run stopped."""
        super().begin(run)
        run.reduce = self.reduce
        if self.resume and self.file is not None and self.file.exists():
            # The facts of other processes are of other pictures.
            load_state(self.file, run, self.facts if run.ema is not None or not self.console.rank else None)
            self._print(f"resumed at step {run.i}")

    def step(self, event: dict[str, Any]) -> None:
        """Print, and store the state if it is time."""
        if self.console.rank or self.run is None:
            return
        self.report(self.run, event)
        if self.due and not (self.between_chains and self.run.carry):
            self.store()

    def report(self, run: Run, event: dict[str, Any]) -> None:
        """Print the loss, and the speed if the size of a batch is known."""
        done = event["i"] + 1
        total = event["n"]
        if done % self.console.every and done != total:
            return
        line = f"step {done}/{total}  loss {event['smooth']:.4f}"
        elapsed = time.perf_counter() - run.started
        if self.console.batch:
            line += f"  {self.console.batch * len(run.losses) / elapsed:.0f} images/s"
        self._print(f"{line}  {run.seconds:.0f} s")

    def store(self) -> None:
        """Write the state; a full disk does not end a run."""
        try:
            super().store()
        except OSError as error:
            print(error, flush=True)

    def _print(self, text: str) -> None:
        if not self.console.rank:
            print(f"{self.console.name}, {text}" if self.console.name else text, flush=True)


class ResultSession(ScriptSession):
    """A script's run whose result is written each time that its state is, and at its end.

    Args:
        out: path of the result.
        write: called with a path and the run, writes the result there.
        file, facts, options: see :class:`ScriptSession`.
    """

    def __init__(
        self,
        out: Path,
        write: Callable[[Path, Run], object],
        file: Path,
        facts: Mapping[str, Any],
        **options: Any,
    ):
        super().__init__(file, facts, **options)
        self.out = out
        self.write = write

    @property
    def due(self) -> bool:
        """Say whether to write: at the end, and when enough time has passed."""
        return super().due or (self.run is not None and self.run.i >= self.run.total)

    def store(self) -> None:
        """Write what has come of the run so far, and its state.

        A disk that cannot be written costs a run no more than the file. At the end of the run, a result that cannot be
        written is put aside.

        Raises:
            OSError: at the end, if it cannot be written anywhere.
        """
        run = self.run
        if run is None:
            return
        if run.i >= run.total:
            write_anyway(self.out, lambda path: self.write(path, run))
        else:
            try:
                self.out.parent.mkdir(parents=True, exist_ok=True)
                self.write(self.out, run)
            except OSError as error:
                print(error, flush=True)
        super().store()


def add_run_options(p: argparse.ArgumentParser, save_every: float) -> argparse.ArgumentParser:
    """Add what every command that trains asks of its run; it stores a state after ``save_every`` seconds."""
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--save-every", type=float, default=save_every, help="seconds between two stored states")
    p.add_argument("--resume", action="store_true", help="go on from the state beside --out")
    p.add_argument("--cpu", action="store_true")
    return p


def options(about: str | None, out: Path, images: int, seed: int) -> argparse.ArgumentParser:
    """Build the command line of a script with such a run, with its defaults; its state goes into ``output/``."""
    p = argparse.ArgumentParser(description=(about or "").partition("\n")[0])
    p.add_argument("--out", type=Path, default=out)
    state = Path("output") / f"{out.stem}_state.safetensors"
    p.add_argument("--state", type=Path, default=state, help="training state for --resume")
    p.add_argument("--resume", action="store_true")
    p.add_argument("--images", type=int, default=images, help="length of the whole schedule")
    p.add_argument("--batch", type=int, default=32)
    p.add_argument("--lr", type=float, default=1e-3)
    p.add_argument("--ema", type=float, default=0.9995, help="decay of the average of weights; 0: none")
    p.add_argument("--seed", type=int, default=seed)
    p.add_argument("--minutes-between-saves", type=float, default=4)
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return p


def begin_run(
    a: argparse.Namespace,
    module: nn.Module,
    write: Callable[[Path, Run], object],
    **optimiser: Any,
) -> Run:
    """Begin the run that a command line of :func:`options` asks for, with AdamW.

    Args:
        a: the options.
        module: its parameters that require a gradient are trained.
        write: called with a path and the run, writes the result there.
        optimiser: further settings of :class:`core.train.run.Optimiser`.
    """
    session = ResultSession(
        a.out,
        write,
        a.state,
        {},
        resume=a.resume,
        every=60 * a.minutes_between_saves,
        console=Console(every=100, batch=a.batch),
    )
    settings = {"options": {"betas": (0.9, 0.99), "weight_decay": 1e-3}, **optimiser}
    how = Optimiser(a.lr, "adamw", foreach=True, **settings)
    return Run(module, how, a.images // a.batch, session, ema=a.ema or None)
