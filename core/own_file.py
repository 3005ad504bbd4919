"""Files of our own: safetensors with one metadata key ``hspace``, whole or not there, nothing in them ever executed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import torch
from safetensors.torch import save
from torch import Tensor, nn

from .atomic_file import write_bytes
from .stored import Header, all_finite, read_header, read_values
from .text import check_texts, cleaned, quoted


class AnotherFile(ValueError):
    """A sound file, but not the one that is wanted; the message says all there is to say."""


Module = TypeVar("Module", bound=nn.Module)
Outline = Callable[[dict[str, Any], dict[str, Tensor]], object]
KEY = "hspace"
MAX_SHOWN = 120


@dataclass(frozen=True)
class Form:
    """What a file of ours says of itself, and how large it may be.

    Attributes:
        format: names what it holds, in every file.
        version: of the format, the one that is written and read.
        older: versions that are read as well.
        max_bytes: largest file.
        noun: what errors call such a file; empty for "<format> file".
        remedy: what errors advise.
        unshown: facts that are only ever compared, so that their texts may be anything.
        types: data types that its tensors may have, as safetensors names them.
    """

    format: str
    version: int
    max_bytes: int
    noun: str = ""
    remedy: str = "get it again from where it came"
    unshown: tuple[str, ...] = ()
    types: tuple[str, ...] = ("F32", "F16", "BF16")
    older: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """Say what errors call it."""
        return self.noun or f"{self.format} file"


def write_own(path: Path | str, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], new: bool = False) -> Path:
    """Write tensors and what is to be known about them.

    Args:
        path: where.
        tensors: floating point, any device.
        facts: JSON values with ``format`` and ``version``.
        new: see :func:`core.atomic_file.write_bytes`.

    Raises:
        OSError: as there.
        ValueError: a tensor is not finite, so that no reader would take it.
    """
    bad = [name for name, value in tensors.items() if not bool(torch.isfinite(value).all())]
    if bad:
        raise ValueError(
            f"weights hold NaN or infinite values ({', '.join(bad[:3])}) and are not saved; train with a lower learning"
            " rate"
        )
    return write_bytes(path, pack(tensors, facts), new)


def pack(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> bytes:
    """Put tensors and facts into the bytes of a file."""
    apart = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    return save(apart, {KEY: json.dumps(dict(facts))})


def filled(make: Callable[[], Module], state: Mapping[str, Tensor]) -> Module:
    """Build a module with the weights of ``state``.

    They are compared with it before any memory is taken: shapes in a file can be huge.

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


def read_own(
    path: Path | str, form: Form, outline: Outline | None = None
) -> tuple[dict[str, Tensor], dict[str, Any], dict[str, str]]:
    """Read a file of :func:`write_own`; any bytes whatever give tensors and facts or a ValueError.

    Args:
        path: of the file.
        form: what it must be.
        outline: see :func:`read_stream`.

    Returns:
        As :func:`read_stream`.

    Raises:
        ValueError: there is no such file, or as :func:`read_stream`.
    """
    path = Path(path)
    shown = shown_name(path)
    if not path.is_file():  # to open a pipe would wait for ever
        raise ValueError(f"cannot read {shown}: there is no such file; check that it is there")
    try:
        with path.open("rb") as file:
            return read_stream(file, os.fstat(file.fileno()).st_size, shown, form, outline)
    except OSError as error:
        raise ValueError(
            f"cannot read {shown}: {cleaned(error.strerror or str(error), 200)}; check that it is there"
        ) from error


def read_stream(
    file: BinaryIO, size: int, name: str, form: Form, outline: Outline | None = None
) -> tuple[dict[str, Tensor], dict[str, Any], dict[str, str]]:
    """Read what :func:`pack` made.

    Nothing is allocated for a tensor before the header, the facts and, with ``outline``, all names and shapes were
    found to be right.

    Args:
        file: opened, at its start.
        size: of it in bytes.
        name: for messages.
        form: what it must be.
        outline: called with the facts and with tensors that have shapes but no values (on the device "meta"); raises
            on what is not right.

    Returns:
        Tensors in float32, finite; the facts; and the data type in which each tensor is stored.

    Raises:
        ValueError: not such a file, damaged, too large, or with values that are not finite.
        OSError: of the disk.
    """
    with usable(form, name):
        header, facts = _opened(file, size, form)
        if outline is not None:
            outline(facts, header.outlines())
        check_texts(facts, form.unshown)
        tensors = {}
        for key, stored in header.tensors.items():
            tensors[key] = read_values(file, stored)
            if not all_finite(tensors[key]):
                raise ValueError(f"tensor {quoted(key)} holds NaN or infinite values")
        return tensors, facts, {key: stored.kind for key, stored in header.tensors.items()}


@contextmanager
def usable(form: Form, name: str) -> Iterator[None]:
    """Turn whatever hostile bytes or values provoke inside into a ValueError that names the file.

    Raises:
        ValueError: the error, with what to do.
    """
    try:
        yield
    except (AnotherFile, OSError):
        raise
    except Exception as error:  # json and torch each raise their own kinds on hostile bytes
        said = f"it lacks {quoted(error.args[0])}" if isinstance(error, KeyError) and error.args else cleaned(error)
        raise ValueError(f"{name} is not a usable {form.name}: {said}; {form.remedy}") from error


def shown_name(path: Path | str) -> str:
    """Quote the name of a file for a message."""
    return ascii(Path(path).name[:MAX_SHOWN])


def _opened(file: BinaryIO, size: int, form: Form) -> tuple[Header, dict[str, Any]]:
    """Return header and metadata, if the file is of this form."""
    if not 8 < size <= form.max_bytes:
        raise ValueError(f"it must have 9 bytes to {form.max_bytes >> 20} MB")
    header = read_header(file, size)
    facts = _facts(header, form.types)
    if facts.get("format") != form.format:
        raise ValueError(
            f"its format is {quoted(facts.get('format'))}, expected {form.format}; load it with the node made for it"
        )
    if type(facts.get("version")) is not int or facts["version"] not in (form.version, *form.older):
        versions = " or ".join(map(str, (*form.older, form.version)))
        raise ValueError(f"its version must be {versions}, got {quoted(facts.get('version'), 20)}; update the pack")
    return header, facts


def _facts(header: Header, types: tuple[str, ...]) -> dict[str, Any]:
    """Return metadata, if there is one and every tensor is of a type that is allowed."""
    if KEY not in header.metadata:
        raise ValueError("it has no 'hspace' metadata, so it was not saved by this pack")
    odd = {stored.kind for stored in header.tensors.values()} - set(types)
    if odd:
        raise ValueError(f"its tensors must be {' or '.join(types)}, got {quoted(sorted(odd), 80)}")
    facts = json.loads(header.metadata[KEY])
    if not isinstance(facts, dict):
        raise ValueError("its metadata is not a JSON object")
    return facts
