"""Linear heads on normalised semantic codes: what a code shows, and where to move it.

DiffAE, arXiv 2111.15640, section 5.3.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

import torch
from torch import Tensor

from ..codes import CodeSpace

KINDS = ("classifier", "ridge-lda", "mean", "logistic", "least squares")
"""How a head was found; ``classifier`` is a released one, ``least squares`` is of a continuous attribute, the others of
a yes or no."""
LONGEST = 100
"""Letters of a name."""


@dataclass(frozen=True)
class Heads:
    """One linear function of the normalised code an attribute: ``weight @ normalise(code) + bias``.

    Attributes:
        names: of the k attributes, each once.
        weight: `[k d]` float32.
        bias: `[k]`.
        space: of the codes, with the statistics that the heads were trained with.
        kinds: one of :data:`KINDS` each.
    """

    names: tuple[str, ...]
    weight: Tensor
    bias: Tensor
    space: CodeSpace
    kinds: tuple[str, ...]

    def __post_init__(self) -> None:
        k = len(self.names)
        named = all(isinstance(n, str) and n.strip() and n.isprintable() and len(n) <= LONGEST for n in self.names)
        if not k or not named or len({_plain(n) for n in self.names}) != k:
            given = ascii(", ".join(map(str, self.names)))[:100] if k else "none"
            raise ValueError(
                f"heads need names of up to {LONGEST} letters, each once in whatever spelling, got {given}"
            )
        if self.weight.shape != (k, self.space.size) or self.bias.shape != (k,):
            raise ValueError(
                f"{k} heads on codes of {self.space.size} numbers need weight {[k, self.space.size]} and bias {[k]}, "
                f"got {list(self.weight.shape)} and {list(self.bias.shape)}; they are of another model"
            )
        if not bool(torch.isfinite(self.weight).all() and torch.isfinite(self.bias).all()):
            raise ValueError("the heads hold NaN or infinite values; train them again")
        if len(self.kinds) != k or not set(self.kinds) <= set(KINDS):
            raise ValueError(f"kinds must be {k} of {', '.join(KINDS)}, got {', '.join(map(str, self.kinds))[:100]}")
        if self.space.mean is None:
            raise ValueError(
                "heads work on normalised codes and need their mean and standard deviation; measure them first"
            )

    def index(self, name: str) -> int:
        """Find the head called ``name``; upper and lower case, blanks and underscores are the same.

        Raises:
            ValueError: none is; what is there is named.
        """
        plain = [_plain(n) for n in self.names]
        if _plain(name) in plain:
            return plain.index(_plain(name))
        near = [self.names[plain.index(n)] for n in difflib.get_close_matches(_plain(name), plain, 3)]
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(self.names)}"
        raise ValueError(f"unknown attribute {name!r:.60}; {hint:.1200}")

    def __contains__(self, name: str) -> bool:
        """Say whether :meth:`index` knows ``name``."""
        return _plain(name) in map(_plain, self.names)

    def scores(self, code: Tensor) -> Tensor:
        """Score codes `[b z]` or `[b l z]` -> `[b k]` float32.

        Log odds of a yes, or the value of a continuous attribute in its own units.

        Raises:
            ValueError: codes of another shape.
        """
        return self.space.normalise(code) @ self.weight.to(code.device).T + self.bias.to(code.device)

    def check_space(self, space: CodeSpace) -> None:
        """Refuse codes of another model.

        Raises:
            ValueError: fingerprints or shapes differ.
        """
        if (space.shape, space.fingerprint) != (self.space.shape, self.space.fingerprint):
            raise ValueError(
                f"these heads belong to model {self.space.fingerprint} with codes {list(self.space.shape)}, the code is"
                f" of model {space.fingerprint}, {list(space.shape)}; encode with that model, or train heads for"
                " this one"
            )


def _plain(name: str) -> str:
    return name.strip().casefold().replace("_", " ").replace("-", " ")
