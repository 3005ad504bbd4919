"""Files of our own: safetensors with one metadata key ``hspace``, whole or not there, nothing in them ever executed."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)
KEY = "hspace"
MAX_HEADER = 2**20
_FLOATS = ("F32", "F16", "BF16")


def write_bytes(path: Path | str, data: bytes) -> Path:
    """Write a file that appears complete or not at all; an existing one is replaced.

    Raises:
        OSError: it cannot be written, such as on a full disk; the file of before is untouched.
    """
    path = Path(path)
    try:
        handle, temporary = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise OSError(
            f"cannot write {path.name!r} ({len(data) / 2**20:.1f} MB): {error.strerror or error}; make room in {path.parent} or let it be "
            "written, and queue again: what was made is still there"
        ) from error
    return path


def write_own(path: Path | str, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Path:
    """Write tensors and what is to be known about them.

    Args:
        path: where.
        tensors: floating point, any device.
        facts: JSON values with ``format`` and ``version``.

    Raises:
        ValueError: a tensor is not finite, so that no reader would take it.
    """
    bad = [name for name, value in tensors.items() if not bool(torch.isfinite(value).all())]
    if bad:
        raise ValueError(f"weights hold NaN or infinite values ({', '.join(bad[:3])}) and are not saved; train with a lower learning rate")
    return write_bytes(path, save({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, {KEY: json.dumps(dict(facts))}))


def filled(make: Callable[[], Module], state: Mapping[str, Tensor]) -> Module:
    """A module with the weights of ``state``, which is compared with it before any memory is taken: shapes in a file can be huge.

    Args:
        make: makes the module; what it makes of no tensors given takes no memory here.
        state: every weight.

    Raises:
        RuntimeError: names or shapes differ.
    """
    with torch.device("meta"):
        made = make()
    made.load_state_dict({k: v.clone() for k, v in state.items()}, assign=True)
    return made


def read_own(path: Path | str, form: str, version: int, most: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read such a file; any bytes whatever give tensors and facts or a ValueError.

    Args:
        path: of the file.
        form: ``format`` that its facts must name.
        version: that they must name.
        most: largest size in bytes.

    Returns:
        Tensors in float32, finite; and the facts.

    Raises:
        ValueError: not such a file, damaged, too large, or with values that are not finite.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            data = file.read(min(most, os.fstat(file.fileno()).st_size) + 1)
    except OSError as error:
        raise ValueError(f"cannot read {path.name!r}: {error.strerror or error}; check that it is there") from error
    try:
        facts = _facts(data, most)
        if facts.get("format") != form:
            raise ValueError(f"it is marked as {ascii(facts.get('format'))[:60]}, expected {form}; load it with the node made for it")
        if type(facts.get("version")) is not int or facts["version"] != version:
            raise ValueError(f"its version must be {version}, got {ascii(facts.get('version'))[:20]}; update the pack")
        tensors = load(data)
        for name, value in tensors.items():
            if not bool(torch.isfinite(value).all()):
                raise ValueError(f"tensor {ascii(name)[:60]} holds NaN or infinite values")
    except Exception as error:  # safetensors, json and torch each raise their own kinds on hostile bytes
        raise ValueError(f"{path.name!r} is not a usable {form} file: {error}; get it again from where it came") from error
    return {k: v.float() for k, v in tensors.items()}, facts


def _facts(data: bytes, most: int) -> dict[str, Any]:
    """Metadata, and every tensor of a plain float type, checked before any tensor is made."""
    if not 8 < len(data) <= most:
        raise ValueError(f"it must have 9 bytes to {most >> 20} MB")
    length = int.from_bytes(data[:8], "little")
    if not 2 <= length <= min(MAX_HEADER, len(data) - 8):
        raise ValueError("its header is damaged or too long")
    header = json.loads(data[8 : 8 + length])
    meta = header.pop("__metadata__", None) if isinstance(header, dict) else None
    if not isinstance(meta, dict) or not isinstance(meta.get(KEY), str):
        raise ValueError("it has no 'hspace' metadata, so it was not saved by this pack")
    kinds = {entry.get("dtype") if isinstance(entry, dict) else None for entry in header.values()}
    if not kinds <= set(_FLOATS):
        raise ValueError(f"its tensors must be {', '.join(_FLOATS)}, got {ascii(sorted(map(str, kinds)))[:80]}")
    facts = json.loads(meta[KEY])
    if not isinstance(facts, dict):
        raise ValueError("its metadata is not a JSON object")
    return facts
