"""How Jacobian products are made, where that is not left to the engine."""

from __future__ import annotations

from dataclasses import dataclass

FORWARD = ("auto", "exact", "one-sided", "central")
_GRAPHS_SHARE = 1 / 3  # of the free memory, for graphs that are held between passes


@dataclass(frozen=True)
class Route:
    """How products are made, where the choice is not left to the engine.

    Attributes:
        chunk: vectors a pass; None chooses by free memory and what a vector takes.
        forward: ``exact`` (forward mode), or ``one-sided`` or ``central`` differences of decodes where these pass
            their check; ``auto`` takes forward mode where the graphs of all stages are held, else ``one-sided``.
        keep: whether the graphs of all stages are held between passes; None if they take less than a third of what is
            free.

    Raises:
        ValueError: a chunk below 1, or an unknown way.
    """

    chunk: int | None = None
    forward: str = "auto"
    keep: bool | None = None

    def __post_init__(self) -> None:
        if self.chunk is not None and self.chunk < 1:
            raise ValueError(f"chunk must be at least 1, got {self.chunk}; None chooses by free memory")
        if self.forward not in FORWARD:
            raise ValueError(f"forward must be one of {', '.join(FORWARD)}, got {self.forward!r}")

    def room(self, free: int | None) -> int | None:
        """Bytes that graphs may take between passes where so many are free; None for any."""
        if self.keep is not None:
            return None if self.keep else 0
        return None if free is None else int(free * _GRAPHS_SHARE)
