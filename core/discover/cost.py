"""What one vector through a network takes in memory, and what there is."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")


class Live(TorchDispatchMode):
    """Count the bytes of every tensor that is made inside ``with Live() as live:`` and not yet let go.

    It is exact on any device, ``meta`` included.

    Args:
        known: tensors that are there anyway; what comes out of a call as one of them does not count.

    Attributes:
        now, peak: bytes held now, and at most since :meth:`mark`.
        made: bytes of all that was made, held or not.
        largest: bytes of the largest single tensor.
    """

    def __init__(self, known: Iterable[Tensor] = ()):
        super().__init__()
        # Held, so that their numbers are not given to others.
        self._known = {_memory(t): t.untyped_storage() for t in known}
        self._held: dict[int, int] = {}
        self.now = self.peak = self.largest = self.made = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call, then count what is neither an argument nor a view of one."""
        result = func(*args, **(kwargs or {}))
        before = {_memory(v) for v in tree_leaves((args, kwargs)) if isinstance(v, Tensor)}
        for value in tree_leaves(result):
            if isinstance(value, Tensor) and _memory(value) not in before:
                self._count(value)
        return result

    def mark(self) -> int:
        """Forget the peak so far; returns what is held."""
        self.peak = self.now
        return self.now

    def _count(self, value: Tensor) -> None:
        key = _memory(value)
        if key in self._held or key in self._known:
            return
        storage = value.untyped_storage()
        self._held[key] = storage.nbytes()
        self.now += self._held[key]
        self.made += self._held[key]
        self.peak = max(self.peak, self.now)
        self.largest = max(self.largest, self._held[key])
        weakref.finalize(storage, self._let_go, key)

    def _let_go(self, key: int) -> None:
        self.now -= self._held.pop(key, 0)


class Need:
    """Bytes that a pass takes, known from passes of one and of two vectors.

    A part of a pass needs so much for any number of vectors and so much for every one; a pass, what its largest part
    does.
    """

    def __init__(self) -> None:
        self._parts: dict[int, Sequence[int]] = {}

    @property
    def next(self) -> int | None:
        """How many vectors the next pass should have, to be measured; None if all is known."""
        return next((n for n in (1, 2) if n not in self._parts), None)

    def add(self, vectors: int, parts: Sequence[int]) -> None:
        """Note the bytes of every part of a pass of one or two vectors."""
        self._parts[vectors] = parts

    def of(self, vectors: int) -> int:
        """Bytes of a pass of so many vectors; an upper limit if only one was measured, 0 if none."""
        one = self._parts.get(1, ())
        two = self._parts.get(2, [2 * part for part in one])
        return max((a + (vectors - 1) * max(0, b - a) for a, b in zip(one, two, strict=True)), default=0)


def free_bytes(device: torch.device) -> int | None:
    """Memory that can be taken on a device without anybody being ended for it; None if nobody can tell."""
    if device.type == "cuda":
        return (
            torch.cuda.mem_get_info(device)[0]
            + torch.cuda.memory_reserved(device)
            - torch.cuda.memory_allocated(device)
        )
    if device.type not in ("cpu", "mps"):  # the graphics of a Mac share the machine's memory
        return None
    ways = [_system, _container] if device.type == "cpu" else [_system, _graphics_of_mac]
    known = [free for free in (way() for way in ways) if free is not None]
    return min(known) if known else None


def _graphics_of_mac() -> int | None:
    """What torch may still take; None where there is no such chip."""
    if not torch.backends.mps.is_available():
        return None
    return max(0, torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())


def _system() -> int | None:
    try:
        import psutil
    except ImportError:  # the host brings it; without it Linux can tell
        try:
            lines = dict(line.split(":", 1) for line in _MEMINFO.read_text("ascii").splitlines())
            return int(lines["MemAvailable"].split()[0]) * 1024
        except (OSError, KeyError, ValueError):
            return None
    return psutil.virtual_memory().available


def _container() -> int | None:
    """What is left of the limit of a container (cgroup 2); the cache of files gives way."""
    try:
        limit, used = (int((_CGROUP / f"memory.{name}").read_text("ascii")) for name in ("max", "current"))
        stat = dict(line.split() for line in (_CGROUP / "memory.stat").read_text("ascii").splitlines())
        return max(0, limit - used + int(stat.get("inactive_file", 0)))
    except (OSError, ValueError):  # no limit is written as "max"
        return None


def _memory(value: Tensor) -> int:
    return value.untyped_storage()._cdata  # its own number: nothing is read of it, as some tensors have no address
