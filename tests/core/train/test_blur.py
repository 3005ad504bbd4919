"""Blur before an embedder: fine patterns vanish, shapes stay, none is none."""

import pytest
import torch

from core.train.blur import blurred


def test_fine_patterns_vanish_and_shapes_stay(device):
    rows = torch.arange(64, device=device)
    checks = ((rows[:, None] // 2 + rows // 2) % 2 * 2.0 - 1).expand(1, 3, 64, 64)
    assert float(blurred(checks, 1 / 48)[..., 8:-8, 8:-8].abs().max()) < 0.05
    shape = torch.zeros(1, 3, 64, 64, device=device)
    shape[..., 16:48, 16:48] = 1
    assert float(blurred(shape, 1 / 48).sum() / shape.sum()) == pytest.approx(1, abs=1e-3)
    assert float(blurred(shape, 1 / 48)[..., 30, 30].min()) == pytest.approx(1, abs=1e-3)
    flat = torch.full((1, 3, 16, 24), 0.3, device=device)
    torch.testing.assert_close(blurred(flat, 0.1), flat)
    assert blurred(shape, 0.0) is shape
    with pytest.raises(ValueError, match="blur must lie in"):
        blurred(shape, 0.5)
