"""Dials of a picture: what is prepared once, kept, and shown; and the exact picture of one setting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..core.calibration import Calibration
from ..core.directions import Directions
from ..core.edit.directions.calibrate import calibrate
from ..core.edit.directions.dials import Dials, Row, WayBack, strip_values, strips
from ..core.edit.directions.steer import SteerOptions, edited_steps
from ..core.edit_schedule import EditSchedule
from ..core.payload import directions_to_payload
from ..core.sample import known_reconstruction, reconstruct
from ..core.trajectory import Trajectory
from .host.dial_pictures import for_preview
from .host.kept import Kept, content_key, path_key
from .host.memory import rows_at_once
from .host.model.images import decode
from .host.model.prompts import Prompts
from .host.model.run import with_denoiser
from .host.model.traits import is_latent
from .host.patches.model_edits import edited, edited_at
from .host.patches.steering import edits_of
from .host.progress import reporter

_TOGETHER = 32  # pictures rendered in one batch, where they fit
_CALIBRATIONS: Kept[Calibration] = Kept(16)
_RESTS: Kept[tuple[Tensor, Tensor]] = Kept(4)
_FILMS: Kept[list[Tensor]] = Kept(4)


@dataclass(frozen=True)
class Turning:
    """One or several pictures on their way back, and sets of directions with the window of each.

    Attributes:
        model: MODEL.
        vae: of a latent model, or None.
        trajectory: on the device of the model.
        sets: directions, and where they act.
        options: how the pictures are sampled.
    """

    model: Any
    vae: Any
    trajectory: Trajectory
    sets: Sequence[tuple[Directions, EditSchedule]]
    options: SteerOptions

    @property
    def _path_key(self) -> str | None:
        """What every rendering depends on beside the MODEL."""
        return path_key(self.trajectory)

    @property
    def _options_key(self) -> str | None:
        return content_key(self.options.protect, self.options.mask)

    def calibrated(self) -> Dials:
        """Give the dials; what has no calibration for this picture and window gets one."""
        return Dials(tuple(replace(one, calibration=self._calibration(one, window)) for one, window in self.sets))

    def _calibration(self, directions: Directions, window: EditSchedule) -> Calibration:
        stored = directions.calibration
        is_here = stored is not None and stored.is_of(self.trajectory.x0[:1])
        if stored is not None and is_here and stored.has_window(window.sigma_start, window.sigma_end):
            return stored
        rows = self._rows()

        def measure() -> Calibration:
            report = reporter(self.model, None, preview=False)
            how = {"latents": is_latent(self.model), "size": rows, "callback": report}
            work = partial(calibrate, trajectory=self.trajectory, directions=directions, schedule=window, **how)
            return self._run(rows, work)

        key = _joined(
            self._path_key,
            content_key({**directions_to_payload(directions), "calibration": None}),
            content_key(window.sigma_start, window.sigma_end),
        )
        return _CALIBRATIONS.get(self.model, key, measure)

    def rest(self) -> tuple[Tensor, Tensor]:
        """Give the pictures with all dials at 0 and those without any edit, `[b c h w]` each: mostly one and the
        same.
        """
        return _RESTS.get(self.model, _joined(self._path_key, self._options_key), self._rendered_rest)

    def _rendered_rest(self) -> tuple[Tensor, Tensor]:
        plain = known_reconstruction(self.trajectory)
        steps = edited_steps(self.trajectory, edits_of(self.model), edited_at(self.model.model_options))
        if plain is not None and not any(steps):
            return plain.cpu(), plain.cpu()

        def work(denoiser) -> tuple[Tensor, Tensor]:
            known = plain if plain is not None else reconstruct(denoiser, self.trajectory).rebuilt
            return self._way(denoiser).picture() if any(steps) else known, known

        rest, known = self._run(len(self.trajectory.x0), work)
        return rest.cpu(), known.cpu()

    def exact(self, dials: Dials, values: Row) -> Tensor:
        """Render one setting, `[b c h w]`; with all dials at 0 it is :meth:`rest`, bit for bit."""
        if not any(values):
            return self.rest()[0]
        edits = dials.edits([values])
        return self._run(len(self.trajectory.x0), lambda denoiser: self._way(denoiser).picture(edits)).cpu()

    def films(self, dials: Dials, frames: int) -> list[Tensor]:
        """Render a strip for every dial of the first picture: its frames beside each other, `[h n*w 3]` in 0..1."""
        setting = (directions_to_payload(directions) for directions in dials.sets)
        key = _joined(self._path_key, self._options_key, content_key(frames, *setting))
        beside = (self.vae,) if is_latent(self.model) else ()
        return _FILMS.get(self.model, key, lambda: self._rendered_films(dials, frames), *beside)

    def _rendered_films(self, dials: Dials, frames: int) -> list[Tensor]:
        values = strip_values(frames)
        rows = self._rows()
        picture = self._of_first()

        def work(denoiser) -> tuple[Tensor, Tensor]:
            return strips(picture._way(denoiser), dials, values, rows)

        plain, turned = self._run(rows, work)
        rest = self.seen(self.rest()[0][:1])
        before = self.seen(plain)
        return [_film(rest, self.seen(one) - before, values) for one in turned]

    def _of_first(self) -> Turning:
        return replace(self, trajectory=self.trajectory.image(0))

    def seen(self, states: Tensor) -> Tensor:
        """Decode states, `[b h w 3]` in 0..1."""
        return decode(self.model, self.vae, states)

    def _rows(self) -> int:
        return rows_at_once(self.model, self.trajectory.states.shape[2:], _TOGETHER)

    def _way(self, denoiser) -> WayBack:
        acts = edited_at(self.model.model_options)
        report = reporter(self.model, None, preview=False)
        return WayBack(edited(denoiser, self.model), self.trajectory, edits_of(self.model), acts, self.options, report)

    def _run(self, rows: int, work: Callable) -> Any:
        shape = (rows, *self.trajectory.states.shape[2:])
        return with_denoiser(self.model, shape, Prompts.of(self.trajectory), work)


def _film(rest: Tensor, changes: Tensor, values: Sequence[float]) -> Tensor:
    """Put changes `[n h w 3]`, one for each value other than 0, on the picture at rest `[1 h w 3]`, side by side."""
    turned = iter(rest + changes)
    pictures = torch.stack([next(turned) if value else rest[0] for value in values])
    return torch.cat(list(for_preview(pictures.clamp(0, 1))), 1)


def _joined(*keys: str | None) -> str | None:
    """Join keys; None if one of them is."""
    return None if None in keys else " ".join(key for key in keys if key is not None)
