"""How many threads a network takes on a CPU in somebody else's process: all, or one while another process keeps a core
busy. OpenMP's threads spin at each barrier, and beside one busy core all of them take 60 times as long as one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import TypeVar

import torch
from torch import Tensor

from .types import Model

T = TypeVar("T")
_SLOWER = 1.5  # threads that take so much longer than one of them wait for each other instead of working
_STALLED = 4.0  # a call that takes so many times as long as the shortest of its kind
_SHORT = 0.1  # seconds; below, a call may take several times as long by chance
_PATIENCE = 5.0  # seconds between two choices in one run
_TRIES = 15
_LONGEST = 0.2  # seconds of tries
_SMALL = 4e8  # bytes of weights; a larger network has enough to do between two barriers

_log = logging.getLogger(__name__)


class Pace:
    """Watches how long calls of the network take, and chooses the number of threads anew when one of them stalls.

    Args:
        most: threads that the host gives to a call.
    """

    def __init__(self, most: int):
        self._most = most
        self._shortest: dict[Hashable, float] = {}
        self._chosen_at = time.monotonic()

    def run(self, kind: Hashable, call: Callable[[], T]) -> T:
        """Result of ``call``, one of a ``kind`` of calls that take equally long."""
        start = time.monotonic()
        answer = call()
        end = time.monotonic()
        shortest = self._shortest.setdefault(kind, end - start)
        self._shortest[kind] = min(shortest, end - start)
        if end - start > max(_STALLED * shortest, _SHORT) and end - self._chosen_at > _PATIENCE:
            torch.set_num_threads(choose(self._most))
            self._chosen_at = time.monotonic()
        return answer


@contextmanager
def working_threads(model: Model) -> Iterator[Pace | None]:
    """Inside, torch takes a number of threads that work; as many as before afterwards. For a large network, elsewhere
    than on a CPU, and where there is one thread alone, it does nothing and gives None.

    The last bits of a network's answer depend on the number of threads, so it is chosen by the machine and not by the
    call: all of them wherever they work.
    """
    most = torch.get_num_threads()
    if model.load_device.type != "cpu" or most == 1 or model.model_size() > _SMALL:
        yield None
        return
    try:
        torch.set_num_threads(choose(most))
        yield Pace(most)
    finally:
        torch.set_num_threads(most)


def choose(most: int) -> int:
    """``most``, or 1 where so many threads take much longer over a layer than one does."""
    x, weight = torch.zeros(1, 64, 32, 32), torch.zeros(64, 64, 3, 3)
    together, alone = (_usual_time(threads, x, weight) for threads in (most, 1))
    if together <= _SLOWER * alone:
        return most
    _log.info(
        "HSpace: %d threads take %.0f times as long as one on this busy machine; one is taken. OMP_WAIT_POLICY=PASSIVE"
        " in ComfyUI's environment lets all of them work",
        most,
        together / alone,
    )
    return 1


def _usual_time(threads: int, x: Tensor, weight: Tensor) -> float:
    """Seconds for a small layer, the median of a few tries: among many stalls there is a lucky one now and then."""
    torch.set_num_threads(threads)
    times = []
    for _ in range(_TRIES):
        start = time.monotonic()
        torch.nn.functional.silu(torch.nn.functional.conv2d(x, weight, padding=1))
        times.append(time.monotonic() - start)
        if sum(times) > _LONGEST:
            break
    return median(times)
