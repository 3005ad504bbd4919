"""Directions of one model on a quantised copy of it."""

from __future__ import annotations

from ....core.directions import Directions
from ....core.discover.quantised import is_rounded
from ..types import Model
from ..ui import say
from .fingerprint import model_fingerprint
from .pixel_model import unet_of


def directions_for(model: Model, directions: Directions, layers: tuple[str, ...]) -> Directions:
    """The directions as a MODEL takes them: those of other weights serve a quantised copy, and the node says so.

    Raises:
        ValueError: they were found on another model, or live at none of ``layers``.
    """
    fingerprint = model_fingerprint(model)
    if is_rounded(unet_of(model)):
        directions, note = directions.on_copy(fingerprint)
        if note:
            say(note)
    directions.check_model(fingerprint, layers)
    return directions
