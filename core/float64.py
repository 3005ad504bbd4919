"""Float64 where a device has it: Apple's (MPS) has none, and raises on every attempt."""

from __future__ import annotations

from torch import Tensor


def widen(x: Tensor) -> Tensor:
    """Give ``x`` in float64 on its device, or in float32 where the device has no float64."""
    return x.float() if x.device.type == "mps" else x.double()
