"""An inversion on a CPU while another process keeps one core busy. ``python dev.py bench busy_core``.

Twice: as this pack starts its own processes (``OMP_WAIT_POLICY=PASSIVE``), and inside of somebody else's host, which
sets no policy, where the pack chooses the number of threads. Beside them a bare loop of the same calls with all threads
and no policy, which nobody watches. Runs on an idle machine and beside the busy core take turns; seconds are those that
pass, so that a machine that is not idle shows in the load, which is noted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks._faces import held_out
from benchmarks._report import bar, write
from devtools.console import ROOT
from devtools.env import WAITING
from devtools.executor import Executor

STEPS, TURNS = 10, 3
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
WAYS = {
    "as this pack starts its processes": (True, True),
    "inside of somebody else's host": (False, True),
    "a bare loop there, all threads": (False, False),
}
"""Whether the process has the waiting policy, and whether the pack watches the calls."""


@contextmanager
def busy_core() -> Iterator[None]:
    """Another process keeps a core busy."""
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        other.kill()
        other.wait()


def seconds(work: Callable[[], Any]) -> float:
    """Seconds that pass."""
    start = time.monotonic()
    work()
    return time.monotonic() - start


def inversion(host: Executor, watched: bool) -> Callable[[], Any]:
    """A picture of the face model inverted by the node, or as many calls of the bare network."""
    model, vae = host.call("HSpaceLoadFaceModel")[:2]
    image = held_out(1)[1].movedim(1, -1) / 2 + 0.5
    (sigmas,) = host.call("BasicScheduler", model=model, scheduler="karras", steps=STEPS, denoise=1.0)
    given = {"model": model, "image": image, "sigmas": sigmas, "vae": vae}
    if watched:
        return lambda: host.call("HSpaceInvertImage", method="ddim A", preview="residual only", **given)
    net, x, t = model.model.diffusion_model, held_out(1)[1], torch.tensor([500.0])
    return lambda: [net(x, t) for _ in range(STEPS)]


def measure(watched: bool) -> dict[str, Any]:
    """Seconds on an idle machine and beside a busy core, by turns."""
    torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        work = inversion(Executor(Path(folder)), watched)
        work()
        load = os.getloadavg()[0]
        idle, busy = [], []
        for _ in range(TURNS):
            idle.append(seconds(work))
            with busy_core():
                busy.append(seconds(work))
    return {"idle": median(idle), "busy": median(busy), "load": load, "threads": torch.get_num_threads()}


def row(way: str) -> dict[str, Any]:
    """Measure a way in a process of its own."""
    policy, watched = WAYS[way]
    environment = {name: value for name, value in os.environ.items() if name not in (WAITING[0], *_THREADS)}
    environment |= dict([WAITING]) if policy else {}
    command = [sys.executable, "-m", "benchmarks.busy_core", "--inside", str(int(watched))]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.strip().splitlines()[-1])
    return {
        "way": way,
        "threads": found["threads"],
        "seconds, idle": round(found["idle"], 3),
        "seconds, one core busy": round(found["busy"], 3),
        "ratio": round(found["busy"] / found["idle"], 2),
        "load before": round(found["load"], 1),
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--inside", type=int, help=argparse.SUPPRESS)
    inside = parser.parse_args().inside
    if inside is not None:
        print(json.dumps(measure(bool(inside))))
        return
    rows = []
    for way in WAYS:
        rows.append(row(way))
        print(rows[-1], flush=True)
    bars = [
        bar(f"{line['way']}: one core busy over idle", line["ratio"], "<=", 2) for line in rows if WAYS[line["way"]][1]
    ]
    write("busy_core", {"rows": rows, "steps": STEPS}, bars)


if __name__ == "__main__":
    main()
