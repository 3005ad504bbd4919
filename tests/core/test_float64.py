"""Apple's devices have no float64: what is widened there stays float32, and what goes to the CPU goes before it is widened."""

import re
from pathlib import Path
from types import SimpleNamespace

import torch

from core.float64 import widen

ROOT = Path(__file__).parents[2]


def test_widened_where_the_device_can(device):
    x = torch.rand(3, device=device, dtype=torch.float16)
    assert torch.equal(widen(x), x.double()) and widen(x).device == x.device


def test_float32_where_it_cannot():
    apple = SimpleNamespace(device=SimpleNamespace(type="mps"), float=lambda: "float32")
    assert widen(apple) == "float32"


def test_nothing_is_widened_before_it_leaves_the_device():
    late = re.compile(r"\.double\(\)(\.\w+\([^()]*\))*\.cpu\(\)")
    found = [
        f"{p.relative_to(ROOT)}: {m[0]}"
        for part in ("core", "nodes")
        for p in (ROOT / part).rglob("*.py")
        for m in late.finditer(p.read_text("utf-8"))
    ]
    assert not found
