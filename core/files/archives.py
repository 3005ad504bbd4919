"""The directory of an archive of ``torch.save``, read so that torch and Python cannot see different records."""

from __future__ import annotations

import struct
import zipfile
from typing import BinaryIO

from .layouts import FileError

MAX_RECORDS = 50_000
MAX_DIRECTORY = 2**23
"""Records of an archive, and bytes of its directory."""
LARGER = "it has more parts than any model file; it is damaged or forged, download it again"


def read_records(file: BinaryIO, size: int) -> dict[str, zipfile.ZipInfo]:
    """Read the directory of an archive; what torch and Python could see differently is refused."""
    _check_directory(file, size)
    with zipfile.ZipFile(file) as z:
        infos = z.infolist()
    if any(i.compress_type != zipfile.ZIP_STORED for i in infos) or sum(i.file_size for i in infos) > size:
        raise FileError("it is a compressed archive, which torch.save never writes; unpack it, or get the original")
    if not infos or len({i.filename.lower() for i in infos}) != len(infos):
        raise ValueError("its directory is empty, or names a record twice")
    return {i.filename: i for i in infos}


def _check_directory(file: BinaryIO, size: int) -> None:
    """Refuse an archive whose directory is not at its very end, or has more entries than a model has tensors."""
    file.seek(max(0, size - 98))
    tail = file.read(98)
    end = len(tail) - 22
    if end < 0 or tail[end : end + 4] != b"PK\5\6":
        raise ValueError("its directory is missing")
    count, length, start = struct.unpack("<HLL", tail[end + 10 : end + 20])
    if 0xFFFF == count or 0xFFFFFFFF in (length, start) or tail[max(0, end - 20) : max(0, end - 16)] == b"PK\6\7":
        if end < 76 or tail[end - 20 : end - 16] != b"PK\6\7" or tail[end - 76 : end - 72] != b"PK\6\6":
            raise ValueError("its directory is damaged")
        count, length, start = struct.unpack("<QQQ", tail[end - 44 : end - 20])
        end -= 76
    if count > MAX_RECORDS or length > MAX_DIRECTORY:
        raise FileError(LARGER)
    if start + length != size - len(tail) + end:
        raise ValueError("its directory is not where it says")
