"""A folder of training pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from ..pictures import KINDS, extent, opened, to_bytes, upright


def picture_files(folder: Path) -> list[Path]:
    """List the pictures in a folder, by name.

    Raises:
        ValueError: there is no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; give one with pictures")
    files = sorted(f for f in folder.iterdir() if f.suffix.lower() in KINDS)
    if not files:
        raise ValueError(f"{folder} holds no pictures ({', '.join(KINDS)}); give a folder that does")
    return files


def fitted(file: Path, size: int) -> Tensor:
    """Cut the middle square of a picture, `[3 size size]` bytes.

    Raises:
        ValueError: it cannot be read.
    """
    from PIL import ImageOps

    with opened(file) as picture:
        return to_bytes(ImageOps.fit(upright(picture), (size, size)))


class Folder:
    """Pictures of a folder by number, read when they are asked for; as many as fit stay in memory.

    Args:
        folder: where they are.
        size: side of the square they are fitted to.
        memory: bytes that may stay in memory.

    Raises:
        ValueError: no pictures, one that cannot be read, or one smaller than ``size``: enlarged, it would teach the
            network blur.
    """

    def __init__(self, folder: Path, size: int, memory: int = 4 * 2**30):
        self.files = picture_files(folder)
        self.size = size
        self._room = memory // (3 * size * size)
        self._cache: dict[int, Tensor] = {}
        self._readers = ThreadPoolExecutor(8)
        digest = hashlib.sha256()
        for file, (width, height) in zip(self.files, self._readers.map(extent, self.files), strict=True):
            if min(width, height) < size:
                raise ValueError(
                    f"{file} is {width} x {height}, smaller than {size} x {size}; take it out, or train at a smaller"
                    " size"
                )
            digest.update(f"{file.name} {file.stat().st_size} {width} {height}\n".encode())
        self.digest = digest.hexdigest()[:12]

    def __len__(self) -> int:
        return len(self.files)

    def __call__(self, numbers: Sequence[int]) -> Tensor:
        """Read pictures `[b 3 size size]` in -1..1."""
        return torch.stack(list(self._readers.map(self._bytes, numbers))).float() / 127.5 - 1

    def _bytes(self, number: int) -> Tensor:
        if number not in self._cache:
            picture = fitted(self.files[number], self.size)
            if len(self._cache) >= self._room:
                return picture
            self._cache[number] = picture
        return self._cache[number]
