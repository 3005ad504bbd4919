"""What a safetensors file claims, compared with its bytes before any tensor is made.

The format is that of huggingface/safetensors, README.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor

MAX_HEADER = 2**20
"""Bytes of a header; one of 10 000 tensors has as many. Its JSON can take thirty times of that in memory."""
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_PART = 2**20


class Stored(NamedTuple):
    """One tensor of a file.

    Attributes:
        kind: data type as the file names it.
        shape: of the tensor.
        begin: first byte, from the start of the file.
        end: behind its last byte.
    """

    kind: str
    shape: tuple[int, ...]
    begin: int
    end: int


class Header(NamedTuple):
    """What stands in front of the tensors: ``tensors`` by name, and ``metadata``, text by name."""

    tensors: dict[str, Stored]
    metadata: dict[str, str]

    def outlines(self) -> dict[str, Tensor]:
        """List tensors without values or memory, float32 whatever is stored: for checks of names and shapes."""
        return {k: torch.empty(v.shape, dtype=torch.float32, device="meta") for k, v in self.tensors.items()}


def read_header(file: BinaryIO, size: int) -> Header:
    """Read the header of a file whose tensors follow each other without a gap up to its end.

    Args:
        file: opened, at its start; afterwards behind the header.
        size: of it in bytes.

    Raises:
        ValueError: anything else.
    """
    length = int.from_bytes(file.read(8), "little") if size >= 8 else 0
    if not 2 <= length <= min(MAX_HEADER, size - 8):
        raise ValueError("its header is damaged or too long")
    try:
        header = json.loads(file.read(length), object_pairs_hook=_unique)
    except RecursionError as error:
        raise ValueError("its header is damaged") from error
    meta = header.pop("__metadata__", {}) if isinstance(header, dict) else None
    if not isinstance(meta, dict) or not all(isinstance(v, str) for v in meta.values()):
        raise ValueError("its header is not a JSON object with metadata of texts")
    stored = {name: _stored(entry, 8 + length) for name, entry in header.items()}
    end = 8 + length
    for one in sorted(stored.values(), key=lambda v: (v.begin, v.end)):
        if one.begin != end:
            raise ValueError("its tensors overlap, or there is a gap between them")
        end = one.end
    if end != size:
        raise ValueError(f"its tensors claim {end} bytes, the file has {size}")
    return Header(stored, meta)


def read_values(file: BinaryIO, stored: Stored) -> Tensor:
    """Read one tensor of the file in float32, in memory of its own.

    Raises:
        ValueError: the file is shorter than it was.
    """
    if stored.begin == stored.end:
        return torch.zeros(stored.shape)
    data = bytearray(stored.end - stored.begin)
    file.seek(stored.begin)
    if file.readinto(data) != len(data):  # type: ignore[attr-defined]
        raise ValueError("it became shorter while it was read")
    return torch.frombuffer(data, dtype=DTYPES[stored.kind]).reshape(stored.shape).float()


def all_finite(value: Tensor) -> bool:
    """Say whether a tensor holds neither NaN nor infinity, without a copy of it."""
    return all(bool(torch.isfinite(part).all()) for part in value.reshape(-1).split(_PART))


def same_shapes(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Refuse tensors of other names or shapes than ``expected``.

    Raises:
        ValueError: naming the first few.
    """
    odd = [
        k for k in {**expected, **found} if k not in expected or k not in found or expected[k].shape != found[k].shape
    ]
    if odd:
        names = ", ".join(ascii(k[:60])[1:-1][:80] for k in odd[:3])
        raise ValueError(f"{len(odd)} of its tensors are missing, unknown or of another shape ({names})")


def _stored(entry: Any, start: int) -> Stored:
    if not isinstance(entry, dict) or not isinstance(entry.get("dtype"), str):
        raise ValueError("an entry of its header is damaged")
    shape, place = (v if isinstance(v, list) else [-1] for v in (entry.get("shape"), entry.get("data_offsets")))
    numbers = all(type(n) is int and 0 <= n < 2**62 for n in [*shape, *place])
    if not numbers or len(place) != 2 or place[0] > place[1]:
        raise ValueError("an entry of its header is damaged")
    known = DTYPES.get(entry["dtype"])
    if known is not None and math.prod(shape) * known.itemsize != place[1] - place[0]:
        raise ValueError("a shape in its header does not fit the bytes it claims")
    return Stored(entry["dtype"], tuple(shape), start + place[0], start + place[1])


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in its header")
    return found
