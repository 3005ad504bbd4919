"""Training on many devices: one process each, gradients averaged at every step (Hugging Face accelerate, optional)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def new_accelerator(cpu: bool):
    """Make what knows of the other processes.

    Raises:
        SystemExit: the package is not installed.
    """
    try:
        from accelerate import Accelerator
    except ImportError:
        raise SystemExit("this needs the package accelerate; install it with: pip install accelerate") from None
    return Accelerator(cpu=cpu)


def averaging(accelerator) -> Callable[[Sequence[Tensor]], None]:
    """Make the function that averages tensors over all processes, in place."""

    def average(gradients: Sequence[Tensor]) -> None:
        # One message for all of them.
        flat = accelerator.reduce(torch.cat([g.flatten() for g in gradients]), reduction="mean")
        done = 0
        for g in gradients:
            g.copy_(flat[done : done + g.numel()].view_as(g))
            done += g.numel()

    return average
