"""Text that strangers wrote: checked before it is kept, made harmless before it is shown.

A terminal obeys escape sequences, a bidirectional mark reorders what stands beside it, and a name of a megabyte hides
the message it is in.
"""

from __future__ import annotations

import re
from typing import Any

LABEL = 300
NAME = 60
MESSAGE = 1000
"""Most characters of a label that a file keeps, of a foreign name inside a message, and of a whole message."""
_CLIMBS = re.compile(r"\.\.[/\\]")
_DEEPEST = 20
_LONG_NUMBER = 4096


def is_plain(text: object, most: int = LABEL) -> bool:
    """Tell whether it is text of at most ``most`` printable characters that climbs no folder.

    No control, format or bidirectional character is printable.
    """
    return isinstance(text, str) and len(text) <= most and text.isprintable() and not _CLIMBS.search(text)


def label(text: str, most: int = LABEL) -> str:
    """Clean what people typed as the label of a file.

    On one line, without what :func:`is_plain` refuses, cut to ``most`` characters.
    """
    line = "".join(c for c in " ".join(text.split()) if c.isprintable())
    while _CLIMBS.search(line):
        line = _CLIMBS.sub("", line)
    return line[:most].strip()


def labels(value: Any) -> Any:
    """Apply :func:`label` to every text in a JSON value, keys included.

    What a reader refuses is not written.
    """
    if isinstance(value, str):
        return label(value)
    if isinstance(value, dict):
        return {label(str(k)): labels(v) for k, v in value.items()}
    return [labels(v) for v in value] if isinstance(value, (list, tuple)) else value


def quoted(value: object, most: int = NAME) -> str:
    """Quote a foreign value inside a message: ASCII, in quotes if it is text, cut to ``most`` characters."""
    if type(value) is int and value.bit_length() > _LONG_NUMBER:  # Python refuses to write out longer ones
        return f"a number of {value.bit_length()} bits"
    return ascii(value[:most] if isinstance(value, str) else value)[:most]


def cleaned(message: object, most: int = 400) -> str:
    """Clean a message or error of which parts may be foreign, as those of libraries.

    On one line, printable, cut to ``most`` characters.
    """
    text = str(message)
    words = " ".join(text[: 4 * most].split())
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in words)
    return line if len(line) <= most else line[: most - 3] + "..."


def check_texts(facts: Any, exempt: tuple[str, ...] = (), depth: int = _DEEPEST) -> None:
    """Refuse a JSON value with a text anywhere in it, keys included, that :func:`is_plain` refuses.

    Args:
        facts: what was read.
        exempt: keys of the outermost object whose values are never shown.
        depth: most levels of nesting.

    Raises:
        ValueError: such a text; or too many levels.
    """
    if depth < 0:
        raise ValueError("its metadata is nested too deeply")
    if isinstance(facts, str):
        if not is_plain(facts):
            raise ValueError(
                f"a text in its metadata must be at most {LABEL} printable characters and name no folder, got"
                f" {quoted(facts)}"
            )
    elif isinstance(facts, dict):
        for key, value in facts.items():
            check_texts(key, depth=depth - 1)
            if key not in exempt:
                check_texts(value, depth=depth - 1)
    elif isinstance(facts, list):
        for value in facts:
            check_texts(value, depth=depth - 1)
