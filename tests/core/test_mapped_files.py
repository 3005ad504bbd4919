"""What was read from a file does not depend on the file any more: it is cut to nothing while the network is in use."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from core.files.asyrp import load_released_asyrp
from core.files.checkpoint import load_denoiser
from core.files.diffae import load_autoencoder, save_autoencoder
from core.files.dino import load_dino
from core.files.lpips import load_lpips
from core.measure.lpips import LPIPS
from core.measure.structure import DinoKeys
from core.train.run import Optimiser, Run
from core.train.state import load_state, save_state

from .network_files import read_checkpoint

MAPS = Path("/proc/self/maps")


def cut(path: Path) -> None:
    """Take the file away under whoever maps it. A mapping would end this process, so on Linux it is looked for
    first."""
    assert not MAPS.exists() or str(path) not in MAPS.read_text(), f"{path.name} is still mapped"
    path.write_bytes(b"")


def stored(path: Path, state: dict[str, torch.Tensor]) -> Path:
    state = {k: v.detach().clone().contiguous() for k, v in state.items()}
    torch.save(state, path) if path.suffix == ".pth" else save_file(state, path)
    return path


def dino(tmp: Path, suffix: str) -> tuple[Path, Callable[[Path], Any], Callable[[Any], torch.Tensor]]:
    net = DinoKeys(64, 8, 2, 28)
    state = {k: 0.05 * torch.randn_like(v) for k, v in net.state_dict().items()}
    return stored(tmp / f"dino{suffix}", state), load_dino, lambda found: found(torch.full((1, 3, 64, 64), 0.5))


def lpips(tmp: Path, suffix: str) -> tuple[Path, Callable[[Path], Any], Callable[[Any], torch.Tensor]]:
    state = {}
    for name, value in LPIPS().state_dict().items():
        kind, _, rest = name.partition(".")
        state[f"net.slices.0.{rest}" if kind == "net" else f"lin{rest}.model.1.weight"] = torch.rand_like(value)
    return (
        stored(tmp / f"lpips{suffix}", state),
        load_lpips,
        lambda found: found(torch.zeros(1, 3, 64, 64), torch.ones(1, 3, 64, 64)),
    )


def shifts(tmp: Path, suffix: str) -> tuple[Path, Callable[[Path], Any], Callable[[Any], torch.Tensor]]:
    def load(path: Path) -> Any:
        return load_released_asyrp(
            path, torch.nn.Identity(), torch.linspace(0.01, 80, 1000), "0" * 12, channels=4, sigma_edit=3.0
        )

    def use(found: Any) -> torch.Tensor:
        return found[0].shift(torch.zeros(1, 4, 2, 2), torch.tensor([40.0]))

    return stored(tmp / f"smile_LC{suffix}", {"0": torch.randn(1, 4, 2, 2)}), load, use


def network(tmp: Path, suffix: str, small) -> tuple[Path, Callable[[Path], Any], Callable[[Any], torch.Tensor]]:
    path = stored(tmp / f"model{suffix}", small.net.cpu().state_dict())
    return path, load_denoiser, lambda found: found(torch.zeros(1, 3, 16, 16), torch.tensor([2.0]))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("kind", ["dino", "lpips", "shifts", "network"])
def test_networks_outlive_their_files(tmp_path, small, kind, suffix):
    made: dict[str, Callable[[], Any]] = {
        "dino": lambda: dino(tmp_path, suffix),
        "lpips": lambda: lpips(tmp_path, suffix),
        "shifts": lambda: shifts(tmp_path, suffix),
        "network": lambda: network(tmp_path, suffix, small),
    }
    path, load, use = made[kind]()
    found = load(path)
    before = use(found).clone()
    cut(path)
    assert torch.isfinite(before).all() and torch.equal(use(found), before)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_the_weights_of_a_checkpoint_outlive_it(tmp_path, small, suffix):
    path = stored(tmp_path / f"model{suffix}", small.net.cpu().state_dict())
    _, state = read_checkpoint(path)
    cut(path)
    assert all(torch.equal(v, small.net.state_dict()[k]) for k, v in state.items())


def test_an_autoencoder_outlives_its_file(tmp_path):
    from core.files.diffae import NetworkFacts, write_autoencoder
    from core.networks.diffae import DiffAENet
    from core.schedule import Schedule
    from scripts.train_face_diffae import config

    path = tmp_path / "ae.safetensors"
    write_autoencoder(path, DiffAENet(config(0)).state_dict(), NetworkFacts(64, 4, Schedule(), "v"))
    made = load_autoencoder(path)
    save_autoencoder(path, made)  # replaced while it is in use, as it is by what adds statistics to a file
    again = load_autoencoder(path)
    cut(path)
    assert torch.equal(again.net.encoder(torch.zeros(1, 3, 64, 64)), made.net.encoder(torch.zeros(1, 3, 64, 64)))


def test_a_resumed_run_outlives_its_state(tmp_path):
    torch.manual_seed(0)
    path, runs = tmp_path / "state.safetensors", []
    for _ in range(2):
        net = torch.nn.Linear(3, 2)
        runs.append((net, Run(net, Optimiser(1e-3, "adamw"), 5, ema=0.9995)))
    (net, run), (other, again) = runs
    run.step(net(torch.ones(1, 3)).sum())
    save_state(path, run, {})
    load_state(path, again, {})
    cut(path)
    for module, going in runs:
        going.step(module(torch.ones(1, 3)).square().sum())
    assert torch.equal(net.weight, other.weight)
