"""Bars of the house: files and functions stay short enough to read, and nothing is packed or shielded from the formatter."""

import ast
import io
import subprocess
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LONGEST_FILE, LONGEST_FUNCTION, MOST_SKIPS, DENSEST = 350, 90, 30, 10.0
_SILENT = {
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.COMMENT,
    tokenize.ENDMARKER,
}


def sources() -> list[Path]:
    """The Python files of the repository itself, without environments and hosts that were put beside it."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def docstring_lines(tree: ast.Module) -> set[int]:
    """Lines that belong to a docstring."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if ast.get_docstring(node, clean=False) is not None:
            text = node.body[0]
            lines |= set(range(text.lineno, (text.end_lineno or text.lineno) + 1))
    return lines


def tokens_and_lines(source: str) -> tuple[int, int]:
    """Tokens of code, and the lines that hold them; comments and docstrings are neither."""
    docstrings = docstring_lines(ast.parse(source))
    tokens, lines = 0, set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in _SILENT:
            continue
        if token.type == tokenize.STRING and token.start[0] in docstrings:
            continue
        tokens += 1
        lines |= set(range(token.start[0], token.end[0] + 1))
    return tokens, len(lines)


def test_no_file_is_long():
    lengths = {str(f.relative_to(ROOT)): len(f.read_text(encoding="utf-8").splitlines()) for f in sources()}
    assert {name: n for name, n in lengths.items() if n > LONGEST_FILE} == {}


def test_no_function_is_long():
    long = {}
    for file in sources():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > LONGEST_FUNCTION:
                    long[f"{file.relative_to(ROOT)}:{node.name}"] = length
    assert long == {}


def test_the_formatter_has_the_last_word():
    mark = "fmt: " + "skip"
    assert sum(file.read_text(encoding="utf-8").count(mark) for file in sources()) <= MOST_SKIPS


@pytest.mark.parametrize("folder", ["core", "nodes/host"])
def test_code_is_not_packed(folder):
    counts = [tokens_and_lines(f.read_text(encoding="utf-8")) for f in (ROOT / folder).rglob("*.py")]
    tokens, lines = (sum(column) for column in zip(*counts, strict=True))
    assert tokens / lines <= DENSEST
