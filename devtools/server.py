"""The ComfyUI of ``.host`` as a process on a loopback port."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
from collections.abc import Sequence
from pathlib import Path

from . import env
from .client import Client
from .console import HOST, LOGS, StepFailed, tail, uncoloured
from .host import COMFYUI, LINK

RUNS = HOST / "runs"
# The editor greets a new user with a dialog over the graph, and asks the internet for news.
FIRST_SETTINGS = {"Comfy.TutorialCompleted": True, "Comfy.Notification.ShowVersionUpdates": False}
START_TIMEOUT = 300  # s; a cold start on one slow core takes about a minute


def free_port(preferred: int = 0) -> int:
    """A free loopback port: ``preferred`` if it is free, else any."""
    for port in (preferred, 0):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            if os.name != "nt":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return probe.getsockname()[1]
    raise StepFailed("server", "no loopback port is free", "Close some programs that listen on local ports.")


class Server:
    """A running ComfyUI; use as a context manager.

    Its input, output, temporary and user folders are its own, under ``.host/runs``, so that several can run side by
    side and none writes into another's.

    Args:
        name: of the run; its log is ``.host/logs/server-<name>.log``.
        fresh: start with empty folders of this process alone, models folder included, and remove them at the end.
        port: preferred port, 0 for any.
        arguments: further command line arguments of ComfyUI.
    """

    def __init__(self, name: str, *, fresh: bool = False, port: int = 0, arguments: Sequence[str] = ()):
        self.folder = RUNS / (f"{name}-{os.getpid()}" if fresh else name)
        self.log = LOGS / f"server-{name}.log"
        self.fresh, self.preferred_port, self.arguments = fresh, port, tuple(arguments)
        self.url = ""
        self._process: subprocess.Popen | None = None

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def output(self) -> Path:
        """Where nodes save files."""
        return self.folder / "output"

    @property
    def input(self) -> Path:
        """Where uploaded files lie."""
        return self.folder / "input"

    @property
    def models(self) -> Path:
        """The models folder."""
        return self.folder / "models" if self.fresh else COMFYUI / "models"

    def start(self) -> None:
        """Start the process and wait until it answers.

        Raises:
            StepFailed: it ended or did not answer in time; carries the end of its log.
        """
        if self.fresh:
            shutil.rmtree(self.folder, ignore_errors=True)
        for folder in (self.input, self.output, self.folder / "user", self.models):
            folder.mkdir(parents=True, exist_ok=True)
        settings = self.folder / "user" / "default" / "comfy.settings.json"
        if not settings.exists():
            settings.parent.mkdir(parents=True, exist_ok=True)
            settings.write_text(json.dumps(FIRST_SETTINGS), encoding="utf-8")
        port = free_port(self.preferred_port)
        LOGS.mkdir(parents=True, exist_ok=True)
        with self.log.open("w", encoding="utf-8") as out:
            self._process = subprocess.Popen(
                [str(part) for part in self._command(port)],
                cwd=COMFYUI,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        self.url = f"http://127.0.0.1:{port}"
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self) -> int | None:
        """Number of the running process."""
        return self._process.pid if self._process else None

    def client(self) -> LiveServer:
        """A new client of this server."""
        return LiveServer(self)

    def check(self) -> None:
        """Raise :class:`StepFailed` when the process has ended."""
        if self._process is None or self._process.poll() is not None:
            code = None if self._process is None else self._process.returncode
            raise StepFailed(
                "server",
                f"ComfyUI ended (exit code {code}); the end of {self.log}:\n{tail(self.log, 30)}",
                "If the log names a missing module, delete .venv and .host and run the command again; otherwise report"
                " it with this log.",
            )

    def check_pack(self) -> None:
        """Raise :class:`StepFailed` when this pack could not be imported."""
        lines = uncoloured(self.log.read_text(encoding="utf-8", errors="replace")).splitlines()
        if any("IMPORT FAILED" in line and LINK.name in line for line in lines):
            said = [
                line
                for line in lines
                if LINK.name in line and "Import times" not in line and "IMPORT FAILED" not in line
            ]
            cause = "\n".join(said) or f"see {self.log}"
            raise StepFailed(
                "server",
                f"ComfyUI could not import this pack:\n{cause}",
                "Restore the files of the repository (git status), then try again.",
            )

    def wait(self) -> int:
        """Block until the process ends; its exit code."""
        return self._process.wait() if self._process else 0

    def stop(self) -> None:
        """End the process; safe to call twice."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process is not None and self.fresh:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _command(self, port: int) -> list[str | Path]:
        command: list[str | Path] = [
            env.python(),
            "main.py",
            "--listen",
            "127.0.0.1",
            "--port",
            str(port),
            "--disable-auto-launch",
        ]
        # Also keeps the page from asking the internet for anything.
        command += [
            "--disable-api-nodes",
            "--log-stdout",
            "--preview-method",
            "auto",
            "--database-url",
            "sqlite:///:memory:",
        ]
        command += ["--input-directory", self.input, "--output-directory", self.output, "--temp-directory", self.folder]
        command += ["--user-directory", self.folder / "user", "--models-directory", self.models]
        if not env.torch_facts().get("cuda"):
            command.append("--cpu")
        return [*command, *self.arguments]

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        with self.client() as client:
            while time.monotonic() < deadline:
                self.check()
                try:
                    client.get("/system_stats", timeout=5)
                    return
                except (urllib.error.URLError, OSError, ValueError):
                    time.sleep(0.25)
        raise StepFailed(
            "server",
            f"ComfyUI did not answer within {START_TIMEOUT} s; the end of {self.log}:\n{tail(self.log, 30)}",
            "The machine may be too busy: try again. If it stays so, report it with this log.",
        )


class LiveServer(Client):
    """A client that knows its server: what tests and tools need in one object.

    Args:
        process: a started server; it is not stopped with the client.
    """

    def __init__(self, process: Server):
        super().__init__(process.url, alive=process.check)
        self.process = process

    @property
    def log(self) -> str:
        """All that the server has printed so far."""
        return self.process.log.read_text(encoding="utf-8", errors="replace")


def _environment() -> dict[str, str]:
    """The environment of the server: nothing of this repository on its path, nothing fetched behind the user's back."""
    environment = {
        name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP"}
    }
    return env.with_waiting(environment) | {
        "PYTHONUNBUFFERED": "1",
        "PYTHONIOENCODING": "utf-8",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
    }


def stop_on_termination() -> None:
    """Let a termination signal unwind the stack, so that servers are stopped on the way out."""

    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)
