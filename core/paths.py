"""File names given by people: one component, safe on every system, never outside its folder."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

MAX_NAME = 100
_FORBIDDEN = set('<>:"/\\|?*')
_DEVICES = {
    "con",
    "prn",
    "aux",
    "nul",
    "clock$",
    "conin$",
    "conout$",
    *(f"{d}{n}" for d in ("com", "lpt") for n in "0123456789¹²³"),
}
_SUFFIX = re.compile(r"\.[a-z0-9]{1,16}")
_TRIES = 10_000
_DEEPEST = 16


def safe_name(name: str) -> str:
    """Return ``name`` (NFC) if it can be a file name on Linux, macOS and Windows and names no other folder.

    Raises:
        ValueError: empty, too long, a path or a drive, a control or reserved character, a leading dot, a dot or blank
            at an end, or the name of a device.
    """
    if not isinstance(name, str):
        raise ValueError(f"the file name must be text, got {type(name).__name__}")
    name = unicodedata.normalize("NFC", name)
    if not name or len(name) > MAX_NAME or len(name.encode("utf-8", "replace")) > 2 * MAX_NAME:
        raise ValueError(
            f"the file name must have 1 to {MAX_NAME} characters, got {len(name)}; type a short name such as 'mouth'"
        )
    bad = sorted({c for c in name if c in _FORBIDDEN or not c.isprintable()})
    if bad:
        shown = " ".join(c if c.isprintable() else f"U+{ord(c):04X}" for c in bad)
        raise ValueError(f"the file name must not contain {shown}; give a plain name without folders, such as 'mouth'")
    if name[0] in ". " or name[-1] in ". ":
        raise ValueError(f"the file name must not begin or end with a dot or a blank, got {name!r}; such as 'mouth'")
    if name.split(".")[0].strip().casefold() in _DEVICES:
        raise ValueError(f"{name!r} is the name of a device on Windows; choose another file name")
    return name


def safe_output_path(root: Path | str, name: str, suffix: str, overwrite: bool = False) -> Path:
    """Choose a path for a new file directly in ``root``.

    Args:
        root: an existing folder.
        name: what a person typed; ``suffix`` at its end is taken off first.
        suffix: ending with its dot, lower case, such as ``.safetensors``.
        overwrite: take the name even if a regular file has it. Otherwise ``_2``, ``_3``, ... is put behind it.

    Returns:
        ``root / (name + suffix)``, with a number if need be; nothing is created.

    Raises:
        ValueError: a name refused by :func:`safe_name`, a malformed suffix, no such folder, or with ``overwrite`` a
            name that is taken by a link or a folder.
    """
    if not _SUFFIX.fullmatch(suffix):
        raise ValueError(f"suffix must be a dot and 1 to 16 small letters or digits, got {suffix!r}")
    if isinstance(name, str) and name.lower().endswith(suffix) and len(name) > len(suffix):
        name = name[: -len(suffix)]
    stem = safe_name(name)
    folder = Path(root).resolve()
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder} to write to; create it first")
    for number in range(1, _TRIES):
        target = folder / (f"{stem}{suffix}" if number == 1 else f"{stem}_{number}{suffix}")
        if target.parent != folder:
            raise ValueError(f"the file name {stem!r} leaves the folder; give a plain name such as 'mouth'")
        if not os.path.lexists(target):
            return target
        if overwrite:
            if target.is_symlink() or not target.is_file():
                raise ValueError(f"{target.name} is a link or a folder, not a file; choose another name")
            return target
    raise ValueError(f"{folder} already holds {_TRIES} files named {stem!r}; choose another name")


def save_new(root: Path | str, name: str, suffix: str, write: Callable[[Path], Path]) -> Path:
    """Write a file under a name that was free.

    Whatever other processes save there meanwhile, each gets a name of its own.

    Args:
        root, name, suffix: see :func:`safe_output_path`.
        write: writes the file to a path, raises FileExistsError if that is taken by then, such as ``save_asyrp(path,
            edit, new=True)``.

    Returns:
        What it wrote.

    Raises:
        ValueError: as :func:`safe_output_path`.
        OSError: it cannot be written.
    """
    for _ in range(_TRIES):
        with suppress(FileExistsError):
            return write(safe_output_path(root, name, suffix))
    raise ValueError(f"the name {name!r} is taken by others again and again; choose another name")


def contained(root: Path | str, relative: str) -> Path:
    """Resolve a path that a file names, below ``root``; nothing needs to exist.

    Args:
        root: folder that it must not leave.
        relative: components divided by ``/``.

    Returns:
        ``root / relative``.

    Raises:
        ValueError: an absolute path, a component refused by :func:`safe_name` (such as ``..``), or a link that leads
            out.
    """
    parts = relative.split("/") if isinstance(relative, str) else [relative]
    if len(parts) > _DEEPEST:
        raise ValueError(f"a path must have at most {_DEEPEST} components, got {len(parts)}")
    path = Path(root).joinpath(*(safe_name(part) for part in parts))
    if not path.resolve().is_relative_to(Path(root).resolve()):
        raise ValueError(f"{ascii(relative)[:80]} leads out of its folder; put the file itself there")
    return path
