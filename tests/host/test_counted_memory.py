"""What the engine takes on the real networks, counted without weights and without a GPU."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_stable_diffusion_at_512_pixels_fits_a_small_card(tmp_path):
    """2.5 GB with one vector a pass, 3.2 with eight, weights included; no large matrix of scores is ever made; and what
    the engine predicts is right."""
    out = tmp_path / "memory.json"
    command = [sys.executable, "-m", "benchmarks.memory", "--cases", "sd15:512", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    bars = json.loads(out.read_text(encoding="utf-8"))["bars"]
    limits = {"<=": float.__le__, "==": float.__eq__}
    assert len(bars) == 5
    assert [b for b in bars if not limits[b["op"]](float(b["value"]), float(b["target"]))] == []
