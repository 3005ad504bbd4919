"""Pictures of dials for the editor: files in the host's temporary folder, and the message that names them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import folder_paths
from PIL import Image
from torch import Tensor

from ...core.measure.enlarge import enlarge_small, shrink_large

_FOLDER = "hspace_dials"
_LARGEST = 512
"""Side of the pictures that a browser mixes."""
_EXACT = 128
"""Up to this side pictures are stored without loss; larger ones as WebP, which is ten times as fast to send."""
_QUALITY = 90
T = TypeVar("T")
_log = logging.getLogger(__name__)


def for_preview(pictures: Tensor) -> Tensor:
    """Shrink pictures `[b h w 3]` in 0..1 to the size that a browser mixes."""
    return shrink_large(pictures, _LARGEST)


def enlarged(picture: Tensor) -> Tensor:
    """Enlarge a small picture `[1 h w 3]` to about that size."""
    return enlarge_small(picture, _LARGEST)


def save_picture(picture: Tensor, name: str) -> dict[str, str]:
    """Write `[h w 3]` in 0..1 to the temporary folder unless it is there; the file as the host's ``/view`` takes it.

    Args:
        picture: what is shown.
        name: of the file without its ending, by what is in it.

    Raises:
        OSError: the folder cannot be written.
    """
    small = min(picture.shape[:2]) <= _EXACT
    file = Path(folder_paths.get_temp_directory()) / _FOLDER / f"{name}.{'png' if small else 'webp'}"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        whole = file.with_suffix(".part")
        image = Image.fromarray((picture * 255).round().byte().numpy())
        if small:
            image.save(whole, "PNG", compress_level=1)
        else:
            image.save(whole, "WEBP", quality=_QUALITY)
        whole.replace(file)
    return {"filename": file.name, "subfolder": _FOLDER, "type": "temp"}


def if_possible(save: Callable[[], T]) -> T | None:
    """Give what ``save`` gives; None, and a line in the log, if the temporary folder cannot be written."""
    try:
        return save()
    except OSError as error:
        _log.warning("HSpace: the pictures of the dials cannot be shown: %s; the node's outputs are whole", error)
        return None
