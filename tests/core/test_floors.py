"""Imports inside core only go down: whoever reads a floor need not know those above it."""

import ast
from pathlib import Path

import pytest

CORE = Path(__file__).resolve().parents[2] / "core"
FLOORS = (
    {"ground"},
    {"networks", "measure", "photo"},
    {"files"},
    {"invert"},
    {"discover"},
    {"edit"},
    {"train"},
    {"faces"},
    {"api"},
    {"cli"},
)
HEIGHT = {name: height for height, floor in enumerate(FLOORS) for name in floor}


def floor_of(parts: tuple[str, ...]) -> str:
    """The floor of a module, such as ``("edit", "noise", "sdedit")``."""
    if parts[0] in ("api", "__init__"):  # the package itself offers the five calls
        return "api"
    return parts[0] if (CORE / parts[0]).is_dir() else "ground"


def imported(file: Path) -> list[tuple[str, ...]]:
    """Modules of core that a file of core imports, each as the parts of its name."""
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [tuple(alias.name.split("."))[1:] for alias in node.names if alias.name.startswith("core.")]
        elif isinstance(node, ast.ImportFrom) and node.level:
            folder = ("core", *file.relative_to(CORE).parts[:-1])
            base = folder[: len(folder) - node.level + 1][1:] + tuple((node.module or "").split("."))
            base = tuple(part for part in base if part)
            found += [base] if base else [(alias.name,) for alias in node.names]
    return found


@pytest.mark.parametrize("file", sorted(CORE.rglob("*.py")), ids=lambda f: f.relative_to(CORE).as_posix())
def test_imports_go_down(file):
    here = floor_of(file.relative_to(CORE).with_suffix("").parts)
    up = [name for name in map(".".join, imported(file)) if HEIGHT[floor_of(tuple(name.split(".")))] > HEIGHT[here]]
    assert not up, f"{here} must not import from above: {up}"


def test_it_sees_arrows():
    assert ("denoiser",) in imported(CORE / "discover" / "jacobian.py")
    assert all(HEIGHT[floor_of((folder.name,))] for folder in CORE.iterdir() if (folder / "__init__.py").exists())
