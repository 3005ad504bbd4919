"""An atlas of directions: each of them at several strengths, in one labelled sheet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...denoiser import Callback, Denoiser
from ...directions import Directions
from ...edit_schedule import EditSchedule
from ...measure.sheet import strip
from ...sample import known_reconstruction
from ...trajectory import Trajectory
from .steer import Edit, Shift, SteerOptions, edited_steps, steer_trajectory


@dataclass(frozen=True)
class Atlas:
    """What an atlas shows: a row for each direction, a column for each strength.

    Attributes:
        directions: of h.
        schedule: when they act; its strength is multiplied by that of a column.
        strengths: of the columns; 0 is the reconstruction.
    """

    directions: Directions
    schedule: EditSchedule
    strengths: tuple[float, ...]

    @staticmethod
    def of(directions: Directions, schedule: EditSchedule, strength: float, columns: int) -> Atlas:
        """Spread an atlas from -2 ``strength`` to +2 ``strength``.

        Raises:
            ValueError: ``columns`` is even.
        """
        if columns % 2 == 0:
            raise ValueError(
                f"columns must be odd, so that strength 0 stands in the middle, got {columns}; take {columns + 1}"
            )
        return Atlas(directions, schedule, tuple(torch.linspace(-2 * strength, 2 * strength, columns).tolist()))

    def variants(self) -> list[tuple[int, float]]:
        """List direction and strength of every edited picture, row by row."""
        return [(i, strength) for i in range(len(self.directions)) for strength in self.strengths if strength]

    def batches(self, size: int) -> list[list[tuple[int, float]]]:
        """Split the variants into batches of at most ``size``."""
        variants = self.variants()
        return [variants[i : i + size] for i in range(0, len(variants), size)]

    def edit(self, variants: Sequence[tuple[int, float]]) -> Edit:
        """Make the edit that gives each row of a batch one variant."""
        numbers = range(len(self.directions))
        weights = tuple(tuple(strength if i == j else 0.0 for j in numbers) for i, strength in variants)
        return Edit(self.directions, self.schedule, weights)

    def in_order(self, plain: Tensor, edited: Sequence[Tensor]) -> list[Tensor]:
        """Order every picture of the sheet, row by row, out of the reconstruction and the edited ones."""
        rest = iter(edited)
        return [next(rest) if strength else plain for _ in range(len(self.directions)) for strength in self.strengths]

    def arranged(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Put pictures in the order of the sheet.

        Args:
            pictures: the original, the reconstruction and all variants, `[2+n h w 3]`.

        Returns:
            Every picture of the sheet, `[k*columns h w 3]`, and the ends of its rows, `[2k 3 h w]`.
        """
        _, plain, *edited = pictures
        images = torch.stack(self.in_order(plain, edited))
        return images, self.ends(list(images)).movedim(-1, 1)

    def ends(self, images: Sequence[Tensor]) -> Tensor:
        """Take the two ends of every row, the strongest first, `[2k ...]`, out of :meth:`in_order`."""
        columns = len(self.strengths)
        return torch.stack([images[i * columns + j] for i in range(len(self.directions)) for j in (columns - 1, 0)])

    def sheet(
        self, original: Tensor, images: Sequence[Tensor], title: str = "", end_names: Sequence[str] = ()
    ) -> Tensor:
        """Draw the labelled sheet, `[1 H W 3]` in 0..1.

        Args:
            original: `[3 h w]` in -1..1; the first column.
            images: of :meth:`in_order`, of the same kind.
            title: written before the number of each direction.
            end_names: what to write at the two ends of each row, as :meth:`ends` orders them; may be empty.
        """
        columns = len(self.strengths)
        rows = []
        for i in range(len(self.directions)):
            lines = [f"{title} {self.directions.label(i)}".strip(), self._facts(i)]
            if end_names:
                lines += [f"+ {end_names[2 * i]}", f"- {end_names[2 * i + 1]}"]
            rows.append(("\n".join(lines), [original, *images[i * columns : (i + 1) * columns]]))
        heads = [f"{strength:+g}" if strength else "reconstruction" for strength in self.strengths]
        return strip(rows, ["original", *heads])

    def _facts(self, i: int) -> str:
        gain = float(self.directions.gain[:, i].mean())
        leak = float(self.directions.leak[:, i].mean())
        return f"gain {gain:.3g}, leak {leak:.2g}" if gain else ""


def render_variants(
    model: Denoiser,
    trajectory: Trajectory,
    atlas: Atlas,
    size: int,
    *,
    before: Sequence[Shift] = (),
    edited: Callable[[float], bool] | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Render the reconstruction of one picture, then all variants of an atlas, `[1+n c h w]`.

    Args:
        model: the denoiser that was inverted, or one that edits it.
        trajectory: of one picture.
        atlas: what to render.
        size: variants in one batch.
        before: edits that are on the model already.
        edited: whether ``model`` itself is edited at a noise level.
        callback: called after every step.
    """
    plain = None if any(edited_steps(trajectory, before, edited)) else known_reconstruction(trajectory)
    if plain is None:
        first = SteerOptions(start="auto")
        plain = steer_trajectory(model, trajectory, before, first, edited=edited, callback=callback)
    pictures = [plain]
    # Edits of the model itself may act above the window.
    options = SteerOptions(start="auto" if edited else "window")
    for variants in atlas.batches(size):
        edits = [*before, atlas.edit(variants)]
        repeated = trajectory.repeat(len(variants))
        pictures.append(steer_trajectory(model, repeated, edits, options, edited=edited, callback=callback))
    return torch.cat(pictures)
