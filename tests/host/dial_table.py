"""For every node: a graph in which each widget says something, the value that it is moved to, and the settings in which
it is refused."""

from __future__ import annotations

from .dials import Dials
from .dials_attention import ATTENTION_DIALS
from .dials_codes import CODES_DIALS
from .dials_discover import DISCOVER_DIALS
from .dials_edit import EDIT_DIALS
from .dials_invert import INVERT_DIALS
from .dials_load import LOAD_DIALS
from .dials_measure import MEASURE_DIALS
from .dials_photo import PHOTO_DIALS
from .dials_train import TRAIN_DIALS

TABLE: dict[str, Dials] = {
    **LOAD_DIALS,
    **PHOTO_DIALS,
    **MEASURE_DIALS,
    **INVERT_DIALS,
    **DISCOVER_DIALS,
    **EDIT_DIALS,
    **ATTENTION_DIALS,
    **CODES_DIALS,
    **TRAIN_DIALS,
}
