"""Files that appear whole or not at all, under names that no other process takes away, and leave nothing behind."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import secrets
import sys
import time
from contextlib import suppress
from pathlib import Path

_PART = re.compile(r"\.hspace-([0-9a-f]{8})-(\d{1,10})-[0-9a-f]{8}\.part")
_OLD = 3600.0  # seconds; no write takes so long without touching its part


def write_bytes(path: Path | str, data: bytes, new: bool = False) -> Path:
    """Write a file that appears complete or not at all, with the rights that the umask gives.

    What killed processes left of such writes in the folder is removed.

    Args:
        path: where, in a folder that exists.
        data: content.
        new: the name must be free; otherwise an existing file is replaced.

    Returns:
        The path.

    Raises:
        FileExistsError: with ``new``, somebody has taken the name; their file is untouched.
        OSError: it cannot be written, such as on a full disk; the file of before is untouched.
    """
    path = Path(path)
    part = path.with_name(f".hspace-{_machine()}-{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        _sweep(path.parent)
        try:
            # Not by tempfile, whose files nobody else may read.
            handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            _claim(part, path) if new else os.replace(part, path)
        finally:
            with suppress(OSError):
                os.unlink(part)
    except OSError as error:
        if new and isinstance(error, FileExistsError):
            raise
        raise OSError(
            f"cannot write {path.name!r} ({len(data) / 2**20:.1f} MB): {error.strerror or error}; make room in"
            f" {path.parent} or let it be written, and queue again: what was made is still there"
        ) from error
    return path


def check_writable(path: Path | str) -> None:
    """Make the folder of a file to come and try whether it can be written: before hours of work, not after them.

    Raises:
        OSError: it cannot.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        probe = path.with_name(f".hspace-{_machine()}-{os.getpid()}-{secrets.token_hex(4)}.part")
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        os.unlink(probe)
    except OSError as error:
        raise OSError(
            f"cannot write into {path.parent}: {error.strerror or error}; name another file, or let it be written"
        ) from error


def _claim(part: Path, target: Path) -> None:
    """Give a finished part a name that must be free."""
    try:
        os.link(part, target)
    except FileExistsError:
        raise
    except (
        OSError,
        AttributeError,
        NotImplementedError,
    ):  # file systems and systems without hard links: FAT, some shares, Android
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        try:
            os.replace(part, target)
        except OSError:
            os.unlink(target)
            raise


def _sweep(folder: Path) -> None:
    """Remove parts of processes that are gone, as far as that can be known, and very old ones of others."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            found = _PART.fullmatch(entry.name)
            if found is None:
                continue
            with suppress(OSError):  # somebody else may sweep too
                if _left(found, entry):
                    os.unlink(entry.path)


def _left(found: re.Match[str], entry: os.DirEntry[str]) -> bool:
    machine = found[1]
    process = int(found[2])
    if not entry.is_file(follow_symlinks=False) or (machine == _machine() and process == os.getpid()):
        return False
    if machine == _machine() and _gone(process):
        return True
    # Of another machine on a shared folder, or with a number that another process may have by now.
    return time.time() - entry.stat(follow_symlinks=False).st_mtime > _OLD


def _gone(process: int) -> bool:
    if sys.platform == "win32":  # where asking so would end the process
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # it runs as somebody else
        return False
    return False


def _machine() -> str:
    """Name this machine, and on Linux this container, whose process numbers are its own, in eight hex digits."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return hashlib.sha256(f"{platform.node()} {space}".encode()).hexdigest()[:8]
