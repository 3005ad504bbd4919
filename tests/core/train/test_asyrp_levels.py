"""Where to edit and where to draw noise: the rule on distances that are known."""

import pytest
import torch

from core.files.lpips import lpips_distance
from core.measure.image import structural_distance
from core.schedule import Schedule, grid_sigmas
from core.train.asyrp_levels import edit_levels

from ..tiny import inverted


@pytest.fixture(scope="module")
def path(small, device):
    return inverted(small, device, 2, grid_sigmas(Schedule(), 12, t0=800))


def test_the_rule(small, path):
    def distance(a, b):
        return (a - b).square().mean((1, 2, 3)).sqrt()

    far = [
        float(distance(small(x, x.new_full((2,), s)), path.x0).mean())
        for x, s in zip(path.states, path.sigmas[:-1].tolist(), strict=False)
    ]
    loud = [
        float(distance(x / (1 + s * s) ** 0.5, path.x0).mean())
        for x, s in zip(path.states, path.sigmas[:-1].tolist(), strict=False)
    ]
    edit, boost = sorted(far)[5], sorted(loud)[4]
    found = edit_levels(small, path, 0.5, distance=distance, edit=2 * edit, boost=boost)
    assert found.predicted.tolist() == pytest.approx(far, rel=1e-4) and found.noisy.tolist() == pytest.approx(
        loud, rel=1e-4
    )
    assert found.sigma_edit == min(s for s, d in zip(path.sigmas.tolist(), far, strict=False) if d >= edit * (1 - 1e-6))
    assert found.sigma_boost == min(
        s for s, d in zip(path.sigmas.tolist(), loud, strict=False) if d >= boost * (1 - 1e-6)
    )
    assert found.lpips
    # Prompts that are further apart are edited longer.
    assert edit_levels(small, path, 0.3, distance=distance, edit=2 * edit, boost=boost).sigma_edit <= found.sigma_edit
    quiet = edit_levels(small, path, 0.5, distance=distance, edit=2 * edit, boost=99.0)
    assert quiet.sigma_boost == 0
    with pytest.raises(ValueError, match="by hand"):
        edit_levels(small, path, 1.0, distance=distance, edit=99.0)


def test_the_stand_in_says_what_it_is(small, path):
    found = edit_levels(small, path, 0.01, boost=0.5)
    assert not found.lpips and found.sigma_edit > 0
    assert float(structural_distance(path.x0, path.x0).abs().max()) < 1e-6


def test_lpips_comes_from_this_machine_or_not_at_all(tmp_path, monkeypatch):
    lpips, models = pytest.importorskip("lpips"), pytest.importorskip("torchvision.models")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert lpips_distance() is None
    torch.manual_seed(3)
    trunk = models.alexnet(weights=None)
    (tmp_path / "checkpoints").mkdir()
    torch.save(trunk.state_dict(), tmp_path / "checkpoints" / "alexnet-owt-7be5be79.pth")
    mine = lpips_distance()
    theirs = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).eval()
    for part in range(1, 6):
        for name, layer in getattr(theirs.net, f"slice{part}").named_children():
            layer.load_state_dict(trunk.features[int(name)].state_dict())
    a, b = torch.rand(2, 2, 3, 64, 64) * 2 - 1
    torch.testing.assert_close(mine(a, b), theirs(a, b).flatten())
    assert float(mine(a, a).abs().max()) == 0 and float(mine(a, b).min()) > 0
