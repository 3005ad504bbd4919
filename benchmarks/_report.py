"""What every benchmark writes: ``results/<name>.json`` with command, commit, machine, figures and bars.

A bar is ``{"name", "value", "op": ">=" | "<=" | "==", "target"}``. Standard library only, so that figures can be
checked on a machine where nothing is installed.
"""

from __future__ import annotations

import json
import math
import operator
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
COMMAND = "HSPACE_BENCH_COMMAND"  # environment variable: how the user called the benchmark
OPERATORS = {">=": operator.ge, "<=": operator.le, "==": operator.eq}


def path_of(name: str) -> Path:
    """Where the results of a benchmark lie."""
    return RESULTS / f"{name}.json"


def bar(name: str, value: float | bool | None, op: str, target: float | bool) -> dict[str, Any]:
    """One bar.

    Raises:
        ValueError: ``op`` is not one of ``>=``, ``<=``, ``==``.
    """
    if op not in OPERATORS:
        raise ValueError(f"op of bar {name!r} must be one of {', '.join(OPERATORS)}, got {op!r}.")
    return {"name": name, "value": value, "op": op, "target": target}


def write(name: str, figures: Mapping[str, Any], bars: Sequence[Mapping[str, Any]]) -> Path:
    """Write the results of a benchmark and print how its bars stand; see :func:`store`."""
    path = store(name, figures, bars)
    report(bars)
    return path


def store(name: str, figures: Mapping[str, Any], bars: Sequence[Mapping[str, Any]]) -> Path:
    """Write the results of a benchmark.

    Args:
        name: of the benchmark, the stem of its file.
        figures: raw figures, JSON values. ``figures["rows"]``, a list of flat dicts, becomes a table in the docs.
        bars: see :func:`bar`.

    Returns:
        the path written.
    """
    checked = [bar(entry["name"], _plain(entry["value"]), entry["op"], entry["target"]) for entry in bars]
    document = {
        "command": os.environ.get(COMMAND) or " ".join(["python", "-m", f"benchmarks.{name}", *sys.argv[1:]]),
        "commit": commit(),
        "machine": machine(),
        "figures": _plain(figures),
        "bars": checked,
    }
    RESULTS.mkdir(exist_ok=True)
    path_of(name).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return path_of(name)


def report(bars: Sequence[Mapping[str, Any]]) -> None:
    """Print how bars stand."""
    for entry in bars:
        plain = {**entry, "value": _plain(entry["value"])}
        print(
            f"{'met  ' if meets(plain) else 'SHORT'}  {entry['name']}: {_text(plain['value'])} {entry['op']}"
            f" {_text(entry['target'])}"
        )


def read_figures(name: str) -> dict[str, Any]:
    """The figures of the stored results of a benchmark; empty if there are none."""
    return read(name)["figures"] if path_of(name).exists() else {}


def read(name: str) -> dict[str, Any]:
    """The stored results of a benchmark."""
    return json.loads(path_of(name).read_text(encoding="utf-8"))


def meets(entry: Mapping[str, Any]) -> bool:
    """Whether a bar is met; a value that is missing or not a number never meets it."""
    value = entry["value"]
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return False
    return bool(OPERATORS[entry["op"]](value, entry["target"]))


def check(names: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
    """The bars of these benchmarks that fall short, with the benchmark each belongs to; one without results falls
    short."""
    short = []
    for name in names:
        if path_of(name).exists():
            short += [(name, entry) for entry in read(name)["bars"] if not meets(entry)]
        else:
            short.append((name, {"name": "stored results", "value": None, "op": "==", "target": True}))
    return short


def table(name: str) -> str:
    """The results as Markdown: ``figures["rows"]`` if there are any, the bars, and how they were made."""
    document = read(name)
    parts = []
    rows = document["figures"].get("rows")
    if rows:
        columns = list(dict.fromkeys(column for row in rows for column in row))
        parts.append(_markdown(columns, [[row.get(column, "") for column in columns] for row in rows]))
    if document["bars"]:
        lines = [
            [b["name"], b["value"], f"{b['op']} {_text(b['target'])}", "yes" if meets(b) else "**no**"]
            for b in document["bars"]
        ]
        parts.append(_markdown(["measured", "value", "bar", "met"], lines))
    where = document["machine"]
    device = where.get("gpu") or f"{where['cpu']}, {where['cores']} cores"
    parts.append(f"`{document['command']}` at {document['commit']}, {device}, torch {where['torch']}")
    if others := document["figures"].get("the other rows"):
        parts.append(f"The other rows: `{others['command']}` at {others['commit']}")
    return "\n\n".join(parts)


def machine() -> dict[str, Any]:
    """CPU model, cores this process may use, torch and its threads, GPU if torch uses one, Python and system."""
    affinity = getattr(os, "sched_getaffinity", None)
    found: dict[str, Any] = {
        "cpu": _cpu(),
        "cores": len(affinity(0)) if affinity else os.cpu_count(),
        "torch": _version("torch"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        found["threads"] = torch.get_num_threads()
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            found["gpu"] = torch.cuda.get_device_name()
    return found


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.lower().startswith("model name"):
                return line.partition(":")[2].strip()
    if sys.platform == "darwin":
        return _output("sysctl", "-n", "machdep.cpu.brand_string") or platform.machine()
    return platform.processor() or platform.machine()


def commit() -> str:
    """The commit that is measured, marked if files differ from it."""
    head = _output("git", "rev-parse", "--short=12", "HEAD")
    if not head:
        return "unknown"
    # Other figures being rewritten in the same session do not make the code another.
    others = (":(top,exclude)benchmarks/results", ":(top,exclude)docs/benchmarks.md")
    changed = _output("git", "status", "--porcelain", "--untracked-files=no", "--", ":/", *others)
    return f"{head}+changes" if changed else head


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, cwd=RESULTS.parent, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _plain(value: Any) -> Any:
    """JSON values: tensors and numpy numbers become lists and numbers, NaN becomes null."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(name): _plain(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return "\n".join(
        lines + ["| " + " | ".join(_text(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    )


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
