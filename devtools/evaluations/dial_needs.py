"""What dials need: a calibration and strips once, and then the levels from the first in the window on."""

from __future__ import annotations

import math

from .look_needs import TOGETHER
from .need import Need, Needs, sides_of
from .runs import Ran

_ROUNDS = 3  # renderings of a calibration at most
_LEVELS = 6  # steps of a strip
_SETS = ("directions", "directions_2", "directions_3")


def dials(needs: Needs, ran: Ran) -> Need:
    """Edit Image by Dials, when nothing is kept of an earlier run."""
    trajectory = needs.trajectory(ran.inputs["trajectory"])
    read = needs.module("core.payload").directions_from_payload
    found = [read(ran.inputs[name]) for name in _SETS if ran.inputs.get(name) is not None]
    schedules = [_window(needs, ran, directions) for directions in found]
    steps = [_steps(trajectory, schedule) for schedule in schedules]
    width, n = max(steps), len(trajectory.sigmas) - 1
    exact = trajectory.is_consistent  # where it is not, the steps above the window are sampled as well
    together = needs.module("nodes.host.memory").rows_at_once(
        ran.inputs["model"], trajectory.states.shape[2:], TOGETHER
    )
    g, b = sides_of(trajectory), trajectory.states.shape[1]

    calls = rows = 0
    for directions, schedule, own in zip(found, schedules, steps, strict=True):
        known = directions.calibration
        if known is None or not (
            known.is_of(trajectory.x0[:1]) and known.has_window(schedule.sigma_start, schedule.sigma_end)
        ):
            pictures = 2 * len(directions) + 1
            above = 0 if exact else n - own
            calls += _ROUNDS * own * math.ceil(pictures / together) + above
            rows += _ROUNDS * own * pictures + above
    if trajectory.reconstruction is None and not exact:
        calls, rows = calls + n, rows + b * n
    frames = ran.inputs.get("frames", 0)
    if frames:
        pictures = 1 + (frames - 1) * sum(map(len, found))
        levels = min(width, _LEVELS + len(found))
        above = 0 if exact else n - width
        calls += levels * math.ceil(pictures / together) + above
        rows += levels * pictures + above
    if any(value for name, value in ran.inputs.items() if name.startswith("dial_")):
        back = width if exact else n
        calls, rows = calls + back, rows + b * back
    return Need(
        "W to turn; once 3 W to calibrate and 6 for the strips, each for 32 pictures, or as many as fit",
        calls,
        rows * g,
    )


def _window(needs: Needs, ran: Ran, directions):
    start, end = ran.inputs.get("sigma_start", 0.0), ran.inputs.get("sigma_end", 0.1)
    return needs.module("nodes.dials").edit_schedule(directions, 1.0, start, end)


def _steps(trajectory, schedule) -> int:
    """Steps from the first level in a window on."""
    levels = trajectory.sigmas.tolist()[:-1]
    return len(levels) - next(i for i, level in enumerate(levels) if schedule.covers(level))
