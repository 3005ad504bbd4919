"""The one reader and the one writer of files of our own and of what travels on their sockets, by the table of kinds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from torch import Tensor

from ..foreign import is_finite, is_real, shown
from ..own_file import Outline, read_own, shown_name, usable, write_own
from ..text import quoted
from .kinds import Kind

T = TypeVar("T")
Build = Callable[[dict[str, Any], dict[str, Tensor]], T]
_LONGEST = 2**40
_MOST_FURTHER = 3
"""Axes that ``...`` may stand for: frames, height and width."""


def write(
    path: Path | str,
    kind: Kind,
    facts: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    half: bool = False,
    new: bool = False,
) -> Path:
    """Write a file of a kind, which appears complete or not at all.

    Args:
        path: where.
        kind: one of the table.
        facts: those that it names.
        tensors: by name, without the prefix that they have in a file.
        half: as float16, apart from those that must be exact.
        new: see :func:`core.atomic_file.write_bytes`.

    Raises:
        OSError: as there.
        ValueError: a tensor is not finite.
    """
    return write_own(path, stored(kind, tensors, half), marked(kind, facts), new)


def marked(kind: Kind, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Put the name and the version of a kind in front of facts."""
    return {"format": kind.format, "version": kind.version, **facts}


def stored(kind: Kind, tensors: Mapping[str, Tensor], half: bool) -> dict[str, Tensor]:
    """Name tensors as in a file, and round them to float16 if ``half``."""
    return {
        kind.prefix + name: value.half() if half and not kind.exact.fullmatch(name) else value
        for name, value in tensors.items()
    }


def read(path: Path | str, kind: Kind, outline: Outline | None = None) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a file of a kind; any bytes whatever give its facts and tensors or a ValueError.

    Args:
        path: of the file.
        kind: one of the table.
        outline: raises on facts and tensors that do not fit; the tensors have shapes, but no values yet.

    Returns:
        The facts, and tensors in float32, finite, without the prefix of the file.

    Raises:
        ValueError: not such a file, damaged, or out of the limits of its kind.
    """
    tensors, facts, _ = read_own(path, kind, checked(kind, outline))
    return facts, bare(kind, tensors)


def load(path: Path | str, kind: Kind, build: Build[T], outline: Outline | None = None) -> T:
    """Make what a file of a kind holds.

    Args:
        path: of the file.
        kind: one of the table.
        build: makes it of facts and tensors.
        outline: see :func:`read`.

    Raises:
        ValueError: as :func:`read`, or ``build`` refuses the values.
    """
    facts, tensors = read(path, kind, outline)
    with usable(kind, shown_name(path)):
        return build(facts, tensors)


@dataclass(frozen=True)
class Exchange(Generic[T]):
    """How values of one type become files and payloads of a kind, and come back.

    Attributes:
        kind: one of the table.
        facts: those of a value.
        tensors: those of a value, by name, without the prefix that they have in a file.
        build: makes the value of facts and tensors.
        outline: see :func:`read`.
    """

    kind: Kind
    facts: Callable[[T], dict[str, Any]]
    tensors: Callable[[T], Mapping[str, Tensor]]
    build: Build[T]
    outline: Outline | None = None

    def save(self, path: Path | str, value: T, half: bool = True, new: bool = False) -> Path:
        """Write a value, as float16 unless told otherwise; ``new`` as in :func:`core.atomic_file.write_bytes`.

        Raises:
            OSError: as there.
            ValueError: weights that are not finite.
        """
        return write(path, self.kind, self.facts(value), self.tensors(value), half, new)

    def load(self, path: Path | str) -> T:
        """Read a file of :meth:`save`.

        Raises:
            ValueError: not such a file, damaged, or with values that cannot be.
        """
        return load(path, self.kind, self.build, self.outline)

    def to_payload(self, value: T) -> dict[str, Any]:
        """Make what goes onto a socket: the facts, and ``tensors`` by name, float32 on the CPU."""
        tensors = {k: v.detach().float().cpu() for k, v in self.tensors(value).items()}
        return {**marked(self.kind, self.facts(value)), "tensors": tensors}

    def from_payload(self, payload: object) -> T:
        """Make what came in on a socket.

        Raises:
            ValueError: it is of another kind, damaged, or out of the limits of its kind.
        """
        kind = self.kind
        expected = {"format": kind.format, "version": kind.version}
        if not isinstance(payload, dict) or any(payload.get(k) != v for k, v in expected.items()):
            got = payload.get("format") if isinstance(payload, dict) else type(payload).__name__
            raise ValueError(
                f"expected a {kind.name} ({kind.format}, version {kind.version}), got {ascii(got)[:40]}; connect"
                f" {kind.sources}"
            )
        with usable(kind, "this"):
            tensors = payload["tensors"]
            check_facts(kind, payload)
            _check_values(tensors)
            check_shapes(kind, payload, tensors)
            return self.build(payload, {k: v.float() for k, v in tensors.items()})


def checked(kind: Kind, outline: Outline | None) -> Outline:
    """Make the check of a file's facts and shapes: by the table, then by ``outline``."""

    def check(facts: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        names = bare(kind, tensors)
        check_facts(kind, facts)
        check_shapes(kind, facts, names)
        if outline is not None:
            outline(facts, names)

    return check


def check_facts(kind: Kind, facts: Mapping[str, Any]) -> None:
    """Refuse facts that are missing or out of range, and, of a closed kind, further ones.

    Raises:
        ValueError: naming the fact.
    """
    needed = {"format", "version", *(name for name, rule in kind.facts.items() if not rule.optional)}
    if kind.closed and not needed <= set(facts) <= {*needed, *kind.facts}:
        raise ValueError(f"its metadata must have exactly {', '.join(sorted(needed))}")
    for name, rule in kind.facts.items():
        if name in facts:
            rule.check(name, facts[name])
        elif not rule.optional:
            raise ValueError(f"it lacks {name!r}")


def bare(kind: Kind, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Name tensors as on a socket, without the prefix of a file."""
    return {name.removeprefix(kind.prefix): value for name, value in tensors.items()}


def check_shapes(kind: Kind, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors that the table does not name, or of other shapes; those of a network are not looked at.

    Args:
        kind: one of the table.
        facts: found to be right.
        tensors: without the prefix of a file; values are not read.

    Raises:
        ValueError: naming the tensor.
    """
    if not kind.shapes:
        return
    names = {name for name in tensors if not (kind.network and name.startswith(kind.network))}
    if not names <= set(kind.shapes) or not set(kind.shapes) - names <= kind.may_lack:
        raise ValueError(f"it must hold {', '.join(kind.shapes)}, got {quoted(sorted(names)[:9], 80)}")
    sizes = kind.sizes(facts)
    for name, axes in kind.shapes.items():
        if name in tensors:
            _check_shape(kind, name, axes.split(), list(tensors[name].shape), sizes)


def _check_shape(kind: Kind, name: str, axes: list[str], shape: list[int], sizes: dict[str, int]) -> None:
    """Refuse one shape; ``sizes`` of axes gets those that were not known."""
    if axes[-1] == "...":
        _check_further(kind, name, len(axes) - 1, shape)
        axes, shape = axes[:-1], shape[: len(axes) - 1]
    if len(shape) != len(axes):
        raise ValueError(f"tensor {name} must have {len(axes)} axes, got {shape[:8]}")
    for axis, size in zip(axes, shape, strict=True):
        low, high = kind.sides.get(axis, (1, _LONGEST))
        if not low <= size <= high:
            raise ValueError(f"{axis} of tensor {name} must be at least {low} and at most {high}, got {size}")
        sizes.setdefault(axis, size)
    wanted = [sizes[axis] for axis in axes]
    if shape != wanted:
        raise ValueError(f"tensor {name} must be {wanted}, got {shape}; it is of another model")


def _check_further(kind: Kind, name: str, known: int, shape: list[int]) -> None:
    """Refuse a shape whose axes behind the ``known`` ones are too many or too long."""
    if not known <= len(shape) <= known + _MOST_FURTHER:
        raise ValueError(f"tensor {name} must have {known} to {known + _MOST_FURTHER} axes, got {shape[:8]}")
    low, high = kind.sides["..."]
    if any(not low <= size <= high for size in shape[known:]):
        raise ValueError(f"sides of tensor {name} must be at least {low} and at most {high}, got {shape[known:]}")


def _check_values(tensors: Mapping[str, Any]) -> None:
    for name, value in tensors.items():
        if not is_real(value):
            raise ValueError(f"{shown(name)} is out of range: it must be an ordinary tensor, got {shown(value)}")
        if not is_finite(value):
            raise ValueError(f"{shown(name)} holds NaN or infinite values")
