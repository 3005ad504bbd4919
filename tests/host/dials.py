"""What the sweep over every dial is told of a node: where its widgets stand, what they are moved to, what is refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .dial_looks import first
from .dial_world import Look


@dataclass(frozen=True)
class To:
    """Values that one widget is moved to, each of which gives another result than all others and than where it starts.

    Attributes:
        values: of the widget.
        given: other inputs that differ from the node's, and the widget itself if it does not start at its default.
        look: what is compared, if not what the node has.
    """

    values: tuple[Any, ...]
    given: dict[str, Any] = field(default_factory=dict)
    look: Look | None = None


def to(*values: Any, look: Look | None = None, **given: Any) -> To:
    """See :class:`To`."""
    return To(values, given, look)


@dataclass(frozen=True)
class Dials:
    """One node.

    Attributes:
        given: sockets, and widgets that are not to stand at their defaults.
        moves: by widget: what it is moved to.
        look: what is compared.
        refused: inputs on top of ``given``, and the one that the message names; everything else stays at its default.
        elsewhere: widgets whose effect is no other result, with the reason; ``test_every_dial.py`` asserts each by
            itself.
    """

    given: dict[str, Any] = field(default_factory=dict)
    moves: dict[str, To] = field(default_factory=dict)
    look: Look = first
    refused: tuple[tuple[dict[str, Any], str], ...] = ()
    elsewhere: dict[str, str] = field(default_factory=dict)


FILE = "a file's name, or what is read of a released file"
SEEN = "only what the editor is told; test_dials.py asserts it"
FAST = "only how much is done at a time; the result is the same"
