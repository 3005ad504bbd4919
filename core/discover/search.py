"""A search for directions of a region, at one noise level or at several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from torch import Tensor

from ..denoiser import Callback, Denoiser
from ..directions import Directions
from ..trajectory import Trajectory
from .find import discover
from .track import track


@dataclass(frozen=True)
class RegionSearch:
    """What is searched for, and how hard.

    Attributes:
        k: how many directions.
        mode: one of :data:`core.discover.region.MODES`.
        tau: balance of ``generalized``.
        rank: outside directions of ``post`` and ``constrained``.
        layer: where h is read.
        iterations: most Krylov blocks.
        seed: of their start.
    """

    k: int = 5
    mode: str = "generalized"
    tau: float = 0.01
    rank: int = 20
    layer: str = "middle"
    iterations: int = 8
    seed: int = 0

    def at(
        self, model: Denoiser, x: Tensor, sigma: float, mask: Tensor | None = None, callback: Callback | None = None
    ) -> tuple[Directions, dict]:
        """Search at one state `[1 c h w]`, see :func:`core.discover.find.discover`."""
        return discover(model, x, sigma, mask, callback=callback, **asdict(self))

    def along(
        self,
        model: Denoiser,
        trajectory: Trajectory,
        steps: Sequence[int],
        mask: Tensor | None = None,
        callback: Callback | None = None,
    ) -> tuple[Directions, dict]:
        """Search at several steps of one image, see :func:`core.discover.track.track`."""
        return track(model, trajectory, mask, steps, callback=callback, **asdict(self))
