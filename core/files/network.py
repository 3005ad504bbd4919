"""The one way into the bytes of model files made by others; no code of a file is ever run."""

from __future__ import annotations

import json
import re
import zipfile
from collections import OrderedDict
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors import safe_open
from torch import Tensor

from ..schedule import Betas, Schedule
from .layouts import LATENT, FileError, State, short
from .vp import Prediction

MAX_BYTES = 8 * 2**30
"""Largest file that is opened; the largest released pixel model is 2.2 GB, with optimiser and average about four times that."""
MAX_JSON = 100_000
SAFE, PICKLED = (".safetensors", ".sft"), (".pt", ".pth", ".ckpt", ".bin")
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_file(path: Path, known: tuple[str, ...] = SAFE + PICKLED) -> None:
    """Refuse what is missing, too large or not named as one of ``known``."""
    if path.suffix.lower() not in known:
        raise FileError(f"cannot be read; expected one of {', '.join(known)}")
    if not path.is_file():
        raise FileError("there is no such file; choose one that exists")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise FileError(f"{size / 2**30:.1f} GiB is more than a pixel model can be ({MAX_BYTES / 2**30:.0f} GiB); {LATENT}")


def unreadable(path: Path, error: Exception) -> str:
    """What to say of an error that foreign bytes caused."""
    return (
        f"{path.name}: not a readable {path.suffix} file ({type(error).__name__}: {str(error)[:160]}); "
        "it is damaged, incomplete or misnamed, download it again"
    )


def open_safetensors(path: Path, form: str) -> tuple[State, dict[str, Any]]:
    """Tensors, and our own metadata, which must then be of format ``form``; ``{}`` for a foreign file."""
    with safe_open(path, "pt") as f:
        own = _own_facts((f.metadata() or {}).get("hspace"), form)
        return {k: f.get_tensor(k) for k in f.keys()}, own


class Inert:
    """Stands in for whatever a file names besides tensors: takes anything, does nothing, keeps nothing."""

    __slots__ = ()

    def __new__(cls, *_: object) -> Any:
        """Called with what the file would call the real one with."""
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        """What the file would fill the real one with is dropped."""


class InertMapping(Inert):
    """Stands in for subclasses of dict, which the unpickler fills item by item."""

    __slots__ = ()

    def __new__(cls, *_: object) -> Any:
        """A plain dictionary."""
        return OrderedDict()


def open_pickle(path: Path, size: int, objects: bool = False) -> Any:
    """Content of what ``torch.save`` wrote; nothing but tensors and plain values is ever made of it.

    Args:
        path: of the file.
        size: of the file in bytes.
        objects: leave out other objects instead of refusing the file, as the files of Lightning need: torch's restricted unpickler is
            told that every name it does not know means :class:`Inert`, so that it has nothing else to call. Names of ``os`` and ``sys``
            are refused all the same. The names are known to all threads meanwhile, which opens nothing to them: they are inert there too.

    Raises:
        FileError: compressed, or other objects in it.
    """
    zipped = zipfile.is_zipfile(path)
    if zipped:
        with zipfile.ZipFile(path) as z:
            if any(i.compress_type != zipfile.ZIP_STORED for i in z.infolist()) or sum(i.file_size for i in z.infolist()) > size:
                raise FileError("it is a compressed archive, which torch.save never writes; unpack it, or get the original")
    try:
        with _stand_ins(path) if objects and zipped else nullcontext():
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except FileError:
        raise
    except Exception as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        if not named and "weights_only" not in str(error):
            raise
        # torch's own message recommends to run the code, so it is not passed on
        what = f"code or objects besides tensors ({named[1]})" if named else "something other than a dictionary of tensors"
        raise FileError(f"it holds {what}, which is never run; get a .safetensors file, or save the state_dict alone") from error


def _stand_ins(path: Path) -> AbstractContextManager[None]:
    if not hasattr(torch.serialization, "get_unsafe_globals_in_checkpoint"):
        raise FileError("it holds objects of Lightning, which PyTorch before 2.6 cannot leave out; update PyTorch")
    names = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
    return torch.serialization.safe_globals([(InertMapping if name.lower().endswith("dict") else Inert, name) for name in names])


def _own_facts(text: str | None, form: str) -> dict[str, Any]:
    """Metadata of a network of ours, checked; ``{}`` for a foreign file."""
    if text is None:
        return {}
    meta = json_of(text)
    if not isinstance(meta, dict) or meta.get("format") != form or meta.get("version") != 1:
        kind = ascii(str(meta.get("format"))[:40]) if isinstance(meta, dict) else "unreadable"
        name = form.removeprefix("hspace_").replace("_", " ")
        raise FileError(f"it is marked as {kind} of this pack, not as a {name} of version 1; load it with the node made for it")
    values: list[Any] = [meta.get(k) for k in ("patch", "size", "steps", "beta_start", "beta_end")]
    patch, size, steps, start, end = values
    whole = all(type(v) is int and low <= v <= high for v, low, high in ((patch, 1, 16), (size, 8, 4096), (steps, 2, 100_000)))
    betas = isinstance(start, float) and isinstance(end, float) and 0 < start <= end < 1 and meta.get("betas") in get_args(Betas)
    if not whole or not betas or meta.get("prediction") not in get_args(Prediction):
        raise FileError("its metadata (prediction, betas, patch, size or steps) is out of range; restore the file from the repository")
    return {"prediction": meta["prediction"], "schedule": Schedule(meta["betas"], steps, start, end), "patch": patch, "size": size}


def json_of(text: str) -> Any:
    """Parsed, or None."""
    try:
        return json.loads(text) if len(text) < MAX_JSON else None
    except (ValueError, RecursionError):
        return None


def check_tensors(state: State, size: int) -> None:
    """Refuse tensors that no network could be built of, or that claim more than the ``size`` bytes of their file."""
    for name, value in state.items():
        if not value.numel():
            raise FileError(f"weight {short([name])} is empty; the file is damaged, get another copy")
        if value.layout is not torch.strided or value.device.type != "cpu" or value.dtype not in FLOATS:
            raise FileError(
                f"weight {short([name])} is stored as {str(value.dtype).removeprefix('torch.')}, but only plain float16, bfloat16, "
                "float32 and float64 can be differentiated; get the unquantised release of this model"
            )
    if sum(v.numel() * v.element_size() for v in state.values()) > size:
        raise FileError("its tensors claim more data than the file holds; it is damaged or forged, download it again")


def check_finite(state: State, remedy: str) -> None:
    """Refuse NaN and infinity."""
    bad = [k for k, v in state.items() if not bool(torch.isfinite(v).all())]
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
        raise FileError(f"{found}. The file is a variant of this family that is not known here; use the original release")
