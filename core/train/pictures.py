"""A folder of training pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

KINDS = (".png", ".jpg", ".jpeg", ".webp")


def picture_files(folder: Path) -> list[Path]:
    """Pictures in a folder, by name.

    Raises:
        ValueError: there is no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; give one with pictures")
    files = sorted(f for f in folder.iterdir() if f.suffix.lower() in KINDS)
    if not files:
        raise ValueError(f"{folder} holds no pictures ({', '.join(KINDS)}); give a folder that does")
    return files


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    from PIL import Image

    try:
        with Image.open(file) as picture:
            yield picture
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{file} cannot be read ({str(error)[:200]}); take it out of the folder, or replace it") from error


def fitted(file: Path, size: int) -> Tensor:
    """The middle square of a picture, `[3 size size]` bytes.

    Raises:
        ValueError: it cannot be read.
    """
    import numpy as np
    from PIL import ImageOps

    with _opened(file) as picture:
        pixels = np.array(ImageOps.fit(picture.convert("RGB"), (size, size)))
    return torch.from_numpy(pixels).movedim(-1, 0)


def extent(file: Path) -> tuple[int, int]:
    """Width and height in pixels.

    Raises:
        ValueError: it cannot be read.
    """
    with _opened(file) as picture:
        return picture.size


class Folder:
    """Pictures of a folder by number, read when they are asked for; as many as fit stay in memory.

    Args:
        folder: where they are.
        size: side of the square they are fitted to.
        keep: bytes that may stay in memory.

    Raises:
        ValueError: no pictures, one that cannot be read, or one smaller than ``size``: enlarged, it would teach the network blur.
    """

    def __init__(self, folder: Path, size: int, keep: int = 4 * 2**30):
        self.files, self.size = picture_files(folder), size
        self._room = keep // (3 * size * size)
        self._kept: dict[int, Tensor] = {}
        self._readers = ThreadPoolExecutor(8)
        digest = hashlib.sha256()
        for file, (width, height) in zip(self.files, self._readers.map(extent, self.files), strict=True):
            if min(width, height) < size:
                raise ValueError(f"{file} is {width} x {height}, smaller than {size} x {size}; take it out, or train at a smaller size")
            digest.update(f"{file.name} {file.stat().st_size} {width} {height}\n".encode())
        self.digest = digest.hexdigest()[:12]

    def __len__(self) -> int:
        return len(self.files)

    def __call__(self, numbers: Sequence[int]) -> Tensor:
        """Pictures `[b 3 size size]` in -1..1."""
        return torch.stack(list(self._readers.map(self._bytes, numbers))).float() / 127.5 - 1

    def _bytes(self, number: int) -> Tensor:
        if number not in self._kept:
            picture = fitted(self.files[number], self.size)
            if len(self._kept) >= self._room:
                return picture
            self._kept[number] = picture
        return self._kept[number]
