"""What the nodes need that train."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from .need import Need, Needs, steps_above
from .runs import Ran


def train_asyrp(needs: Needs, ran: Ran) -> Need:
    """Train Asyrp."""
    trajectory = needs.trajectory(ran.inputs["trajectory"])
    b, epochs = trajectory.states.shape[1], ran.inputs["epochs"]
    chains, steps = math.ceil(b / ran.inputs["batch"]), steps_above(trajectory, ran.inputs["sigma_edit"])
    calls = epochs * chains * steps + chains * steps + 1
    return Need(
        "1.5 a picture, step and epoch, 1 a picture and step for the plain prediction, 1 to measure memory",
        calls,
        1.5 * epochs * b * steps + b * steps + 1,
    )


def train_diffusionclip(needs: Needs, ran: Ran) -> Need:
    """Train DiffusionCLIP."""
    b = needs.trajectory(ran.inputs["trajectory"]).states.shape[1]
    chains = math.ceil(b / ran.inputs["batch"])
    steps = ran.inputs["epochs"] * ran.inputs["steps"]
    return Need("1 a picture, step and epoch, 1 to measure memory", chains * steps + 1, b * steps + 1)


def train_rectifier(needs: Needs, ran: Ran) -> Need:
    """Half of the steps walk down inversions in a number of steps that is drawn: they are drawn here again."""
    rectifier = needs.module("core.train.rectifier")
    trajectory = needs.trajectory(ran.inputs["trajectory"])
    batch, steps = min(ran.inputs["batch"], trajectory.states.shape[1]), ran.inputs["steps"]
    asked: list[int] = []

    class Silent:
        fingerprint, noising = trajectory.fingerprint, trajectory.noising

        def __call__(self, x: Any, sigma: Any) -> Any:
            asked.append(len(x))
            return x * 0

    @dataclass
    class Progress:
        i: int = 0
        carry: Any = None

    walks = rectifier._RectifiedWalks(Silent(), trajectory, ran.inputs["batch"], ran.inputs["seed"])
    for i in range(steps):
        walks.next_step(Progress(i, {}))
    calls = 2 * steps + len(asked) + 2
    return Need("2 a step, the inversions of its walks, 2 to measure memory", calls, 2 * steps * batch + sum(asked) + 2)


def train_rectifier_edit(needs: Needs, ran: Ran) -> Need:
    """Train Rectifier Edit."""
    b = min(ran.inputs["batch"], needs.trajectory(ran.inputs["trajectory"]).states.shape[1])
    calls = 2 * ran.inputs["steps"] + 2
    return Need("2 a step, 2 to measure memory", calls, 2 * ran.inputs["steps"] * b + 2)


def fit_lora(needs: Needs, ran: Ran) -> Need:
    """Fit Image LoRA."""
    calls = ran.inputs["steps"] + 1
    return Need("1 a step, 1 to measure memory", calls, calls * len(ran.inputs["image"]))
