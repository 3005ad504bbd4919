"""``dev.py test --changed``: the files of tests that a change touches, by git and the imports; in doubt one more."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path

OPTION = "--changed"
EVERYTHING = ("pyproject.toml", "requirements.txt", "tests/conftest.py")
_NODE = re.compile(r"HSpace\w+")
# How files of tests look over all nodes or all that ships, without naming one.
_SWEEP = re.compile(
    r"""classes\.items|in [\w.]*\.classes\b|object_info\(\)|"workflows"|glob\("(HSpace)?\*\.(py|md|json)"\)"""
)


def tests_touched(root: Path) -> list[str]:
    """Files of tests to run for what differs from ``main``, committed or not."""
    return select(root, changed_files(root), _git(root, "ls-files", "--cached", "--others", "--exclude-standard"))


def changed_files(root: Path) -> set[str]:
    """What differs from where this branch left ``main``, new files included; on ``main`` what is not committed."""
    base = (_git(root, "merge-base", "HEAD", "main") or ["HEAD"])[0]
    return {*_git(root, "diff", "--name-only", base), *_git(root, "ls-files", "--others", "--exclude-standard")}


def select(root: Path, changes: Iterable[str], files: Iterable[str]) -> list[str]:
    """Files of tests among ``files`` that a change reaches through imports, ids of nodes and names of data."""
    changes, files = set(changes), {path for path in files if (root / path).is_file()}
    tests = sorted(path for path in files if re.fullmatch(r"tests/\w+/(.*/)?test_\w+\.py", path))
    if changes & set(EVERYTHING):
        return tests
    graph = _Graph(root, files)
    touched = changes.union(*(graph.readers(Path(path)) for path in changes if not path.endswith(".py")))
    return [path for path in tests if graph.reached(path) & touched]


class _Graph:
    """Modules and what they import, anywhere in their text."""

    def __init__(self, root: Path, files: set[str]):
        self.root, self.sources = root, {path for path in files if path.endswith(".py")}
        self.everything = {path for path in files if not path.startswith("tests/")}
        self.modules = {re.sub(r"(/__init__)?\.py$", "", path).replace("/", "."): path for path in self.sources}
        self.strings: dict[str, set[str]] = {name: {path} for name, path in self.modules.items() if "." in name}
        for path in self.sources:
            self.strings.setdefault(path.rpartition("/")[2], set()).add(path)
            if path.startswith(("nodes/", "tests/host/custom_nodes/")):
                for name in _NODE.findall(self.text(path)):
                    self.strings.setdefault(name, set()).add(path)

    @cache  # noqa: B019 - one graph a run
    def text(self, path: str) -> str:
        return (self.root / path).read_text(encoding="utf-8", errors="replace")

    def readers(self, data: Path) -> set[str]:
        """Modules that may read a file that is no module: they name it, or else its folder."""
        for names in ({data.name, data.stem}, {data.parent.name} - {""}):
            readers = {path for path in self.sources if any(f'"{name}"' in self.text(path) for name in names)}
            if readers:
                return readers
        return set()

    def reached(self, test: str) -> set[str]:
        """A file of tests with all that it imports, its ``conftest.py`` too; or with all there is, if it sweeps."""
        reached, waiting = set(), [test, *(str(folder / "conftest.py") for folder in Path(test).parents)]
        while waiting:
            path = waiting.pop()
            if path in self.sources and path not in reached:
                reached.add(path)
                waiting += self.imports(path)
                sweeps = path == test or (path.startswith("tests/") and "/test_" not in path)
                if sweeps and _SWEEP.search(self.text(path)):
                    reached |= self.everything
        return reached

    @cache  # noqa: B019 - one graph a run
    def imports(self, path: str) -> set[str]:
        names, imports, parts = [], set(), path.removesuffix(".py").split("/")
        for part in ast.walk(ast.parse(self.text(path))):
            if isinstance(part, ast.Import):
                names += [alias.name for alias in part.names]
            elif isinstance(part, ast.ImportFrom):
                above = parts[: len(parts) - part.level] if part.level else []
                names += [".".join([*above, *filter(None, [part.module]), alias.name]) for alias in part.names]
            elif isinstance(part, ast.Constant) and path.startswith(("tests/", "devtools/")):
                # The id of a node, a module of the loaded pack, a script.
                imports |= self.strings.get(str(part.value), set())
        packages = {name[:dot] for name in names for dot in (*(m.start() for m in re.finditer(r"\.", name)), None)}
        return imports | {self.modules[name] for name in packages if name in self.modules}


def _git(root: Path, *arguments: str) -> list[str]:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    return done.stdout.split("\n")[:-1] if done.returncode == 0 else []
