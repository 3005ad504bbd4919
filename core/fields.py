"""What a fact of a file or a value on a socket must be: a sentence for people, and a test."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from .fingerprint import PATTERN
from .foreign import is_number, is_real
from .text import LABEL, is_plain, quoted


@dataclass(frozen=True)
class Field:
    """A rule for one fact.

    Attributes:
        says: completes "steps must be ...".
        holds: whether a value, of any type, obeys it.
        optional: files of before may lack it.
    """

    says: str
    holds: Callable[[Any], bool]
    optional: bool = False

    def check(self, name: str, value: object) -> None:
        """Refuse a value that breaks the rule.

        Raises:
            ValueError: it does; the fact is named.
        """
        if not self.holds(value):
            raise ValueError(f"its metadata is out of range: {name} must be {self.says}, got {quoted(value)}")

    def or_missing(self) -> Field:
        """Make the rule that files may lack this fact."""
        return replace(self, optional=True)

    def or_none(self) -> Field:
        """Make the rule that None will do as well."""
        return replace(self, says=f"{self.says} or None", holds=lambda v: v is None or self.holds(v))


def whole(low: int, high: int) -> Field:
    """Ask for a whole number in ``low..high``."""
    return Field(f"a whole number from {low} to {high}", lambda v: type(v) is int and low <= v <= high)


def number(low: float, high: float, above: bool = False) -> Field:
    """Ask for a finite number in ``low..high``; without ``low`` itself if ``above``."""
    words = f"a number {'above' if above else 'from'} {low:g} {'up ' if above else ''}to {high:g}"
    return Field(words, lambda v: is_number(v) and low <= v <= high and not (above and v == low))


def flag() -> Field:
    """Ask for true or false."""
    return Field("true or false", lambda v: type(v) is bool)


def one_of(*names: str) -> Field:
    """Ask for one of some words."""
    return Field(f"one of {', '.join(names)}", lambda v: isinstance(v, str) and v in names)


def text(longest: int = LABEL) -> Field:
    """Ask for a text of printable characters."""
    return Field(f"a text of at most {longest} printable characters", lambda v: is_plain(v, longest))


def matching(pattern: re.Pattern[str], words: str) -> Field:
    """Ask for a text that matches a pattern as a whole."""
    return Field(words, lambda v: isinstance(v, str) and pattern.fullmatch(v) is not None)


def mapping() -> Field:
    """Ask for a JSON object."""
    return Field("an object of names and values", lambda v: isinstance(v, dict))


def each(rule: Field, least: int, most: int) -> Field:
    """Ask for a list of ``least`` to ``most`` entries that obey ``rule``."""

    def holds(value: Any) -> bool:
        return isinstance(value, (list, tuple)) and least <= len(value) <= most and all(map(rule.holds, value))

    return Field(f"a list of {least} to {most} entries, each {rule.says}", holds)


def code_shape(most: int) -> Field:
    """Ask for the shape of a code, ``[z]`` or ``[levels z]``, of at most ``most`` numbers."""
    sides = each(whole(1, most), 1, 2)
    return Field(
        f"the shape of a code, [z] or [levels z], of at most {most} numbers",
        lambda v: sides.holds(v) and math.prod(v) <= most,
    )


def channel_table(entries: int, most: int) -> Field:
    """Ask for the output and input channels of at most ``entries`` convolutions by name."""
    pair = each(whole(1, most), 2, 2)
    name = re.compile(r"[\w.]{1,120}")

    def holds(value: Any) -> bool:
        if not isinstance(value, dict) or not 1 <= len(value) <= entries:
            return False
        return all(isinstance(k, str) and name.fullmatch(k) and pair.holds(v) for k, v in value.items())

    return Field(f"1 to {entries} names of convolutions with out and in channels of at most {most}", holds)


TEXT = Field("a text", lambda v: isinstance(v, str))
NUMBER = Field("a number", lambda v: isinstance(v, (int, float)) and not isinstance(v, bool))
TENSOR = Field("a Tensor of ordinary real numbers", is_real)
LAYER = matching(re.compile(r"middle|up\.\d{1,3}"), "middle or up.k")
ANY_LAYER = matching(re.compile(r"[a-z][a-z_]{0,31}(\.\d{1,3})?"), "middle, up.k or another name of a layer")
FINGERPRINT = matching(PATTERN, "the fingerprint of a model, 6 to 64 hex digits and what was changed on it")
MAYBE_FINGERPRINT = Field(f"{FINGERPRINT.says}, or empty", lambda v: v == "" or FINGERPRINT.holds(v))
