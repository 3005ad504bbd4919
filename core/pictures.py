"""The one reader of pictures from files: upright, 8 bits, three colours; only PNG, JPEG and WebP are ever decoded.

As ComfyUI's Load Image does, a picture is turned by its EXIF orientation and its transparency is dropped, not blended:
the colours that a file stores under transparent pixels are what is read. Of an animation the first frame is read. No
process is started: other formats, whose decoders run programs (PostScript) or are seldom tested, are not even tried.
Pillow is 12.3 or later (requirements.txt): older ones write outside of their memory in crop and paste, with which
pictures are fitted here (CVE-2026-59199).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .text import cleaned

KINDS = (".png", ".jpg", ".jpeg", ".webp")
FORMATS = ("PNG", "JPEG", "WEBP")
MAX_PIXELS = 2**26
"""Pixels of a picture at most, 8192 x 8192: a small file can unfold to any number."""
_TURNED = (5, 6, 7, 8)
_ORIENTATION = 0x0112


@contextmanager
def opened(file: Path, most: int = MAX_PIXELS) -> Iterator[Any]:
    """Open a Pillow image, not yet decoded.

    Whatever goes wrong with it inside of the block is a ValueError that names the file.

    Raises:
        ValueError: no such picture, of another kind, damaged, cut off, or of more than ``most`` pixels.
    """
    from PIL import Image

    try:
        if file.suffix.lower() not in KINDS:
            raise ValueError(f"pictures end in {', '.join(KINDS)}")
        if not file.is_file():  # to open a pipe would wait for ever
            raise ValueError("there is no such file")
        with Image.open(file, formats=FORMATS) as picture:
            if picture.width * picture.height > most:
                raise ValueError(
                    f"it has {picture.width} x {picture.height} pixels, at most {most} are read; scale it down first"
                )
            yield picture
    except Exception as error:  # Pillow raises many kinds on hostile bytes
        raise ValueError(
            f"{cleaned(file, 300)} cannot be read as a picture ({cleaned(error, 200)}); take it out, or replace it"
        ) from error


def upright(picture: Any) -> Any:
    """Turn a Pillow image as people see it, in RGB of 8 bits.

    Raises:
        ValueError: brightness of a kind whose range is unknown.
    """
    from PIL import Image, ImageOps

    if picture.mode.startswith("I"):  # grey of 16 bits; Pillow's own conversion to 8 clips all above 255 to white
        import numpy as np

        # (a * 255 + 32767) // 65535 rounds to the nearest
        grey = (np.asarray(picture).astype(np.uint32) * 255 + 32767) // 65535
        turned = picture.getexif().get(_ORIENTATION)
        picture = Image.fromarray(grey.astype(np.uint8))
        if turned is not None:
            picture.getexif()[_ORIENTATION] = turned
    elif picture.mode == "F":
        raise ValueError("its brightness is in floating point, whose white is unknown; save it as PNG of 8 or 16 bits")
    return ImageOps.exif_transpose(picture).convert("RGB")


def read_pixels(file: Path, most: int = MAX_PIXELS) -> Tensor:
    """Read a picture, `[3 h w]` bytes.

    Raises:
        ValueError: it cannot be read, or has more than ``most`` pixels.
    """
    with opened(file, most) as picture:
        return to_bytes(upright(picture))


def to_bytes(picture: Any) -> Tensor:
    """Convert a Pillow image in RGB to `[3 h w]` bytes."""
    import numpy as np

    return torch.from_numpy(np.array(picture)).movedim(-1, 0)


def extent(file: Path) -> tuple[int, int]:
    """Read width and height in pixels of a picture as people see it; it is not decoded.

    Raises:
        ValueError: it cannot be read.
    """
    with opened(file) as picture:
        width, height = picture.size
        return (height, width) if picture.getexif().get(_ORIENTATION) in _TURNED else (width, height)
