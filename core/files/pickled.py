"""Refuse a file of ``torch.save`` whose pickles would make anything but tensors and plain values that it holds."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from .archives import read_records
from .layouts import FileError
from .pickle_claims import CLAIMS, MAX_PICKLE, Claims

_MAGIC = 0x1950A86A20F9469CFC6C


def check_pickled(path: Path, size: int, objects: bool) -> bool:
    """Refuse a file of ``torch.save`` that is more than tensors and plain values, or less than it claims.

    Args:
        path: of the file.
        size: of the file in bytes.
        objects: see :func:`core.files.network.open_pickle`.

    Returns:
        Whether it is an archive, as files are since PyTorch 1.6.

    Raises:
        FileError: it is.
        ValueError: it is damaged.
    """
    claims = Claims(objects)
    with path.open("rb") as file:
        if file.read(4) == b"PK\3\4":
            records = read_records(file, size)
            prefix = next(iter(records)).partition("/")[0]
            content = records.get(f"{prefix}/data.pkl")
            if content is None or content.file_size > MAX_PICKLE:
                raise ValueError("there is no pickle of a common size in it")
            with zipfile.ZipFile(file) as z:
                claims.follow(io.BytesIO(z.read(content)))
            for key, claimed in claims.stored.items():
                found = records.get(f"{prefix}/data/{key}")
                if found is None or claimed > found.file_size:
                    raise FileError(CLAIMS)
            return True
        claims.objects = False  # torch names them in archives only
        file.seek(0)
        head = io.BytesIO(file.read(MAX_PICKLE))
        if claims.follow(head) != _MAGIC:
            raise ValueError("it was not written by torch.save")
        for _ in range(4):  # version, machine, content, names of the storages
            claims.follow(head)
        if sum(claims.stored.values()) > size:
            raise FileError(CLAIMS)
        return False
