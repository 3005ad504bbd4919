"""The one way into the bytes of model files made by others; no code of a file is ever run."""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from ..own_file import KEY
from ..schedule import Schedule
from ..stored import all_finite, read_header
from ..text import cleaned, quoted
from .exchange import check_facts
from .kinds import Kind
from .layouts import LATENT, FileError, State, short
from .pickle_claims import CLAIMS
from .pickled import check_pickled

MAX_BYTES = 8 * 2**30
"""Largest file that is opened; the largest released pixel model is 2.2 GB, with optimiser and average about four times
that."""
MAX_JSON = 100_000
SAFE = (".safetensors", ".sft")
PICKLED = (".pt", ".pth", ".ckpt", ".bin")
LEAST_TORCH = (2, 6)
"""Older ones run code of a pickle in spite of ``weights_only`` (CVE-2025-32434, GHSA-53q9-r3pm-6pq6)."""
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_file(path: Path, known: tuple[str, ...] = SAFE + PICKLED) -> None:
    """Refuse what is missing, too large or not named as one of ``known``."""
    if path.suffix.lower() not in known:
        raise FileError(f"cannot be read; expected one of {', '.join(known)}")
    if not path.is_file():
        raise FileError("there is no such file; choose one that exists")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise FileError(
            f"{size / 2**30:.1f} GiB is more than a pixel model can be ({MAX_BYTES / 2**30:.0f} GiB); {LATENT}"
        )


def unreadable(path: Path, error: Exception) -> str:
    """Say what is wrong where foreign bytes caused an error."""
    return (
        f"{cleaned(path.name, 120)}: not a readable {path.suffix} file ({type(error).__name__}: {cleaned(error, 160)});"
        " it is damaged, incomplete or misnamed, download it again"
    )


def open_safetensors(path: Path, kind: Kind) -> tuple[State, dict[str, Any]]:
    """Read tensors, and our own metadata, which must then be of ``kind``; ``{}`` for a foreign file."""
    with path.open("rb") as file:  # what is claimed is compared with what is there before a tensor is made
        read_header(file, path.stat().st_size)
    with safe_open(path, "pt") as f:
        own = _own_facts((f.metadata() or {}).get(KEY), kind)
        return {k: f.get_tensor(k) for k in f.keys()}, own


class Inert:
    """Stands in for whatever a file names besides tensors: takes anything, does nothing, keeps nothing."""

    __slots__ = ()

    def __new__(cls, *_: object) -> Any:
        """Take what the file would call the real one with."""
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        """Drop what the file would fill the real one with."""


class InertMapping(Inert):
    """Stands in for subclasses of dict, which the unpickler fills item by item."""

    __slots__ = ()

    def __new__(cls, *_: object) -> Any:
        """Make a plain dictionary."""
        return OrderedDict()


def open_pickle(path: Path, size: int, objects: bool = False) -> Any:
    """Read what ``torch.save`` wrote; nothing but tensors and plain values is ever made of it.

    Args:
        path: of the file.
        size: of the file in bytes.
        objects: leave out other objects instead of refusing the file, as the files of Lightning need: torch's
            restricted unpickler is told that every name it does not know means :class:`Inert`, so that it has nothing
            else to call. Names of ``os`` and ``sys`` are refused all the same. The names are known to all threads
            meanwhile, which opens nothing to them: they are inert there too.

    Raises:
        FileError: code or other objects in it, more claimed than stored, or a PyTorch that pickles can make run code.
        ValueError: damaged.
    """
    _check_torch(path)
    zipped = check_pickled(path, size, objects)
    try:
        with _stand_ins(path) if objects and zipped else nullcontext():
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except FileError:
        raise
    except Exception as error:
        named = re.search(r"GLOBAL ([\w.]{1,60})", str(error))
        if not named and "weights_only" not in str(error):
            raise
        # torch's own message recommends to run the code, so it is not passed on
        what = (
            f"code or objects besides tensors ({named[1]})" if named else "something other than a dictionary of tensors"
        )
        raise FileError(
            f"it holds {what}, which is never run; get a .safetensors file, or save the state_dict alone"
        ) from error


def _check_torch(path: Path) -> None:
    version = re.match(r"(\d+)\.(\d+)", torch.__version__)
    if version is None or (int(version[1]), int(version[2])) < LEAST_TORCH:
        raise FileError(
            f"a {path.suffix} file is a pickle, and PyTorch {torch.__version__[:20]} can be made to run code while it"
            " reads one, even if weights alone are asked for (CVE-2025-32434); update PyTorch to"
            f" {'.'.join(map(str, LEAST_TORCH))} or later, or get a .safetensors file"
        )


def _stand_ins(path: Path) -> AbstractContextManager[None]:
    names = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
    return torch.serialization.safe_globals(
        [(InertMapping if name.lower().endswith("dict") else Inert, name) for name in names]
    )


def _own_facts(text: str | None, kind: Kind) -> dict[str, Any]:
    """Read the metadata of a network of ours; ``{}`` for a foreign file."""
    if text is None:
        return {}
    facts = json_of(text)
    if not isinstance(facts, dict) or facts.get("format") != kind.format or facts.get("version") != kind.version:
        found = quoted(facts.get("format"), 40) if isinstance(facts, dict) else "unreadable"
        raise FileError(
            f"it is marked as {found} of this pack, not as a {kind.name} of version {kind.version}; load it with the"
            " node made for it"
        )
    try:
        check_facts(kind, facts)
        if not facts["beta_start"] <= facts["beta_end"] < 1:
            raise ValueError("its metadata is out of range: beta_end must be at least beta_start, and below 1")
        schedule = Schedule(facts["betas"], facts["steps"], facts["beta_start"], facts["beta_end"])
    except ValueError as error:
        raise FileError(f"{error}; restore the file from the repository") from error
    return {name: facts[name] for name in ("prediction", "patch", "size")} | {"schedule": schedule}


def json_of(text: str) -> Any:
    """Parse JSON; None if it is none."""
    try:
        return json.loads(text) if len(text) < MAX_JSON else None
    except (ValueError, RecursionError):
        return None


def check_tensors(state: State, size: int) -> None:
    """Refuse tensors that no network could be built of, or that claim more than their file has.

    ``size`` is that of the file in bytes; no value is read.
    """
    for name, value in state.items():
        if not value.numel():
            raise FileError(f"weight {short([name])} is empty; the file is damaged, get another copy")
        if value.layout is not torch.strided or value.device.type != "cpu" or value.dtype not in FLOATS:
            raise FileError(
                f"weight {short([name])} is stored as {str(value.dtype).removeprefix('torch.')}, but only plain"
                " float16, bfloat16, float32 and float64 can be differentiated; get the unquantised release of this"
                " model"
            )
    check_claims(state.values(), size)


def check_claims(tensors: Iterable[Tensor], size: int) -> None:
    """Refuse tensors that claim more than the ``size`` bytes of their file, by distinct storage.

    One tensor under two names is stored once, as the released latent networks have it; one with more entries than its
    storage, as ``expand`` makes it, or more than twice the file in all, would become real as soon as it is copied.
    """
    stored: dict[int, int] = {}
    named = 0
    for value in tensors:
        if value.layout is not torch.strided or value.device.type != "cpu":
            raise FileError(
                f"it holds a tensor that is {str(value.layout).removeprefix('torch.')} on {value.device}, not plain"
                " data"
            )
        if value.numel():
            storage = value.untyped_storage()
            claimed = value.numel() * value.element_size()
            if claimed > storage.nbytes():
                raise FileError(CLAIMS)
            stored[storage.data_ptr()] = max(storage.nbytes(), stored.get(storage.data_ptr(), 0))
            named += claimed
    if sum(stored.values()) > size or named > 2 * size:
        raise FileError(CLAIMS)


def nested_tensors(content: Any, depth: int = 100) -> Iterator[Tensor]:
    """Collect all tensors in nested dictionaries and lists."""
    if isinstance(content, Tensor):
        yield content
    elif isinstance(content, Mapping | list | tuple) and depth:
        for part in content.values() if isinstance(content, Mapping) else content:
            yield from nested_tensors(part, depth - 1)


def check_finite(state: State, remedy: str) -> None:
    """Refuse NaN and infinity."""
    bad = [k for k, v in state.items() if not all_finite(v)]
    if bad:
        raise FileError(f"weights hold NaN or infinite values ({short(bad)}){remedy}")


def compare(expected: dict[str, Tensor], state: State) -> None:
    """Refuse weights that are missing, unexpected or of another shape."""
    problems = {
        "missing": [k for k in expected if k not in state],
        "unexpected": [k for k in state if k not in expected],
        "of another shape": [
            f"{k} {list(state[k].shape)} instead of {list(v.shape)}"
            for k, v in expected.items()
            if k in state and state[k].shape != v.shape
        ],
    }
    found = "; ".join(f"{len(names)} weights {kind}: {short(names)}" for kind, names in problems.items() if names)
    if found:
        raise FileError(
            f"{found}. The file is a variant of this family that is not known here; use the original release"
        )
