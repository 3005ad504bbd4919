"""Inputs that several nodes share."""

from ..core.directions import Directions
from ..core.edit.schedule import EditSchedule

WINDOW_START = (
    "The edit acts only at or below this noise level. 0: automatic, four times the level at which the directions were found "
    "(noisier steps settle the whole picture)."
)
WINDOW_END = "The edit acts only at or above this noise level; the steps below clean up. Lower it if fine edits are washed out."
MODEL = (
    "A model with a bottleneck: Stable Diffusion 1.x, 2.x, SDXL, Load Face Model, Load Pixel Diffusion Model, or any of them after Steer."
)
VAE = "Needed by models that work in latents (Stable Diffusion); pixel models ignore it."
_ABOVE = 4.0


def edit_schedule(directions: Directions, strength: float, start: float, end: float, normalise: str = "none") -> EditSchedule:
    """The dials of a node as a schedule; ``start`` 0 is taken from the directions.

    Raises:
        ValueError: the window is empty.
    """
    start = start or max(_ABOVE * float(directions.sigmas.max()), end)
    return EditSchedule(strength=strength, sigma_start=start, sigma_end=end, normalise=normalise)
