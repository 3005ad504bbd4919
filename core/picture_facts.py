"""What a trajectory remembers of its pictures: how they were fitted, and whether they are of the model's world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from .foreign import is_number, shown

_MOST = 2**24  # pixels of a side


@dataclass(frozen=True)
class PictureFit:
    """What was cut out of pictures, and what it was scaled to.

    Attributes:
        source: height and width of the pictures, in pixels.
        box: left, top, right and bottom of what was taken; beyond the pictures their edge goes on.
        size: height and width of the result.
    """

    source: tuple[int, int]
    box: tuple[int, int, int, int]
    size: tuple[int, int]

    def __post_init__(self) -> None:
        sides = (*self.source, *self.size)
        if not all(type(n) is int and 0 < n <= _MOST for n in sides):
            raise ValueError(f"source and size of a fit must be heights and widths in pixels, got {shown(sides)}")
        left, top, right, bottom = self.box
        inside = all(type(n) is int and abs(n) <= _MOST for n in self.box)
        if not inside or left >= right or top >= bottom:
            raise ValueError(f"box of a fit must be left, top, right and bottom in pixels, got {list(self.box)}")

    @property
    def scale(self) -> float:
        """Pixels of the result for one of the picture."""
        return self.size[1] / (self.box[2] - self.box[0])


@dataclass(frozen=True)
class WorldFact:
    """How hard pictures are for a model to denoise, against those that it draws.

    Attributes:
        sigma: level at which they were denoised.
        ratios: error of each picture over the median of the reference.
        usual: ratios up to here are nothing to be told.
        limit: ratios above it are no pictures of the model's world.
    """

    sigma: float
    ratios: tuple[float, ...]
    usual: float
    limit: float

    def __post_init__(self) -> None:
        numbers = (self.sigma, self.usual, self.limit, *self.ratios)
        if not self.ratios or not all(is_number(v) and v >= 0 for v in numbers):
            raise ValueError("a fact about the model's world must hold finite numbers of 0 or more, a ratio a picture")
        if self.usual > self.limit:
            raise ValueError(f"usual must lie below limit, got {self.usual:g} and {self.limit:g}")

    @property
    def worst(self) -> float:
        """Take the ratio of the picture that is hardest to denoise."""
        return max(self.ratios)

    @property
    def is_usual(self) -> bool:
        """Say whether there is nothing to tell."""
        return self.worst <= self.usual

    @property
    def is_outside(self) -> bool:
        """Say whether a picture is none of the model's world."""
        return self.worst > self.limit

    def of(self, index: int) -> WorldFact:
        """Take the fact of one picture."""
        return replace(self, ratios=self.ratios[index : index + 1])

    def repeat(self, n: int) -> WorldFact:
        """Repeat the facts ``n`` times."""
        return replace(self, ratios=self.ratios * n)


def fact_to_dict(fact: PictureFit | WorldFact | None) -> dict[str, Any] | None:
    """Make what travels on a socket: lists and numbers."""
    if fact is None:
        return None
    return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(fact).items()}


def fit_from_dict(values: Mapping[str, Any]) -> PictureFit:
    """Read what :func:`fact_to_dict` made.

    Raises:
        ValueError: it is damaged.
    """
    source = _row(values, "source", 2)
    box = _row(values, "box", 4)
    size = _row(values, "size", 2)
    return PictureFit(source, box, size)


def world_from_dict(values: Mapping[str, Any]) -> WorldFact:
    """Read what :func:`fact_to_dict` made.

    Raises:
        ValueError: it is damaged.
    """
    sigma = values.get("sigma")
    usual = values.get("usual")
    limit = values.get("limit")
    if not is_number(sigma) or not is_number(usual) or not is_number(limit):
        raise ValueError(f"a fact about the model's world must hold sigma, usual and limit, got {shown(values)}")
    return WorldFact(sigma, _row(values, "ratios"), usual, limit)


def _row(values: Mapping[str, Any], name: str, count: int | None = None) -> Any:
    row = values.get(name)
    if not isinstance(row, Sequence) or isinstance(row, str) or count not in (None, len(row)):
        raise ValueError(f"{name} must be a list of {count or 'numbers'}, got {shown(row)}")
    return tuple(row)
