"""The virtual environment: ``.venv``, torch, and requirement lists installed once per content."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .console import ROOT, StepFailed, ask, read_stamp, run, say, write_stamp

VENV = ROOT / ".venv"
STAMPS = VENV / ".stamps"
CONSTRAINTS = STAMPS / "constraints.txt"
TORCH = "2.13.0"  # the version everything here is tested with
NETWORK = "Check the network connection and run the same command again; what is already installed is kept."

WAITING = ("OMP_WAIT_POLICY", "PASSIVE")
"""How threads wait for each other. By default they spin, and where another process keeps a core busy, so do they."""

_PROBE = (
    "import json, torch; print(json.dumps({'version': torch.__version__, 'cuda': torch.cuda.is_available(), 'build':"
    " torch.version.cuda}))"
)


def python() -> Path:
    """The interpreter of the virtual environment."""
    return VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def with_waiting(environment: Mapping[str, str]) -> dict[str, str]:
    """Copy an environment for a process that computes; a policy that somebody chose stays."""
    return dict([WAITING]) | dict(environment)


def key_of(*parts: object) -> str:
    """A digest of what a step depends on; a step runs again when it changes."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def interpreter_key() -> str:
    """Changes when the virtual environment is rebuilt with another Python."""
    config = VENV / "pyvenv.cfg"
    return key_of(config.read_text(encoding="utf-8") if config.exists() else "")


def pip(step: str, arguments: Sequence[str | Path], remedy: str = NETWORK) -> None:
    """Run pip of the virtual environment, quietly, with a log."""
    command = [python(), "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    run(step, command, remedy=remedy)


def install(step: str, requirements: Sequence[str], what: str) -> None:
    """Install a list of requirements once; torch stays the version that is there."""
    stamp, key = STAMPS / f"{step}.json", key_of(sorted(requirements), interpreter_key(), torch_facts().get("version"))
    if read_stamp(stamp).get("key") == key:
        return
    say(step, f"installing {what}")
    lines = STAMPS / f"{step}.txt"
    lines.write_text("\n".join(requirements) + "\n", encoding="utf-8")
    pip(step, ["install", "--progress-bar", "off", "--constraint", CONSTRAINTS, "--requirement", lines])
    write_stamp(stamp, {"key": key})


def ensure_venv() -> None:
    """Make ``.venv`` with the Python that runs this, or keep the one that works."""
    if python().exists() and (VENV / "pyvenv.cfg").exists():
        return
    say("venv", f"creating .venv with Python {sys.version.split()[0]}")
    run(
        "venv",
        [sys.executable, "-m", "venv", "--clear", VENV],
        remedy=(
            "Install Python's venv module (Debian and Ubuntu: apt install python3-venv) or run dev.py with another"
            " Python >= 3.10."
        ),
    )


def has_cuda_device() -> bool:
    """Whether the NVIDIA driver lists a device."""
    return shutil.which("nvidia-smi") is not None and bool(ask(["nvidia-smi", "-L"], timeout=30))


def torch_facts() -> dict:
    """``version``, ``cuda`` (usable device) and ``build`` (CUDA version or None) of the installed torch."""
    return read_stamp(STAMPS / "torch.json")


def ensure_torch() -> None:
    """Install torch: the CPU build unless a CUDA device is present.

    ``HSPACE_TORCH_ARGS`` is added to pip's arguments, for example ``--index-url`` of the build you want.
    """
    extra = os.environ.get("HSPACE_TORCH_ARGS", "")
    cuda = has_cuda_device()
    stamp, key = STAMPS / "torch.json", key_of(TORCH, cuda, extra, interpreter_key())
    facts = read_stamp(stamp)
    if facts.get("key") == key:
        return
    # Only Linux and Windows publish builds with and without CUDA under one name.
    names = [f"torch=={TORCH}"] if cuda or sys.platform == "darwin" else [f"torch=={TORCH}+cpu", f"torch=={TORCH}"]
    # A build of the same version but without CUDA would satisfy the requirement, so it is replaced by force.
    force = ["--force-reinstall"] if cuda and facts and not facts.get("build") else []
    for name in names:
        say("torch", f"installing {name} ({'CUDA device found' if cuda else 'no CUDA device'})")
        try:
            pip("torch", ["install", "--progress-bar", "off", *force, *shlex.split(extra), name])
            break
        except StepFailed as failure:
            if name == names[-1]:
                failure.remedy = (
                    f"{NETWORK} To choose the build or its index, set HSPACE_TORCH_ARGS to the pip arguments."
                )
                raise
            say("torch", f"{name} is not offered by the configured package index")
    found = ask([python(), "-c", _PROBE])
    if not found:
        raise StepFailed(
            "torch", "torch was installed but cannot be imported", "Delete .venv and run the command again."
        )
    facts = json.loads(found.splitlines()[-1])
    CONSTRAINTS.parent.mkdir(parents=True, exist_ok=True)
    CONSTRAINTS.write_text(f"torch=={facts['version']}\n", encoding="utf-8")
    write_stamp(stamp, {"key": key, **facts})


def pack_requirements() -> list[str]:
    """The lines of the pack's own requirements.txt."""
    return requirement_lines(ROOT / "requirements.txt")


def requirement_lines(path: Path) -> list[str]:
    """Requirements of a file without comments and blank lines."""
    lines = (line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def extra_requirements(name: str) -> list[str]:
    """The requirements of one extra of pyproject.toml."""
    return project()["optional-dependencies"][name]


def project() -> dict[str, Any]:
    """The section ``project`` of pyproject.toml."""
    try:
        import tomllib as toml
    except ModuleNotFoundError:  # Python 3.10: pip carries the same parser
        try:
            from pip._vendor import tomli as toml  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise StepFailed(
                "pyproject", "this Python cannot read TOML", "Run dev.py with Python 3.11 or newer."
            ) from error
    with (ROOT / "pyproject.toml").open("rb") as file:
        return toml.load(file)["project"]
