"""What tests of training share: a plain embedder, small pictures and blocks, and runs that are cut or two at a time."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from core.invert.ddim import invert_ddim
from core.networks.asyrp import ShiftBlock, new_asyrp
from core.sample import reconstruct
from core.train.run import Run, Session
from core.train.state import load_state, save_state
from core.trajectory import Trajectory

ROOT = Path(__file__).resolve().parents[2]
SMALL = {"channels": (16, 16), "patch": 4, "blocks": 1, "emb": 32, "code": 16, "attention": (8,)}
"""Shape of a diffusion autoencoder."""
NAMES = {"grey": (0.1, 0.1, 0.1), "red": (1.0, -0.6, -0.6), "blue": (-0.6, -0.6, 1.0)}


class Colours:
    """An embedder whose space is plain: mean colour of a picture, or of a named colour."""

    space = "colours"

    def embed_image(self, images):
        return F.normalize(torch.cat([images.mean((2, 3)), torch.full_like(images[:, :1, 0, 0], 0.5)], 1), dim=1)

    def embed_text(self, prompts):
        rows = [next(v for k, v in NAMES.items() if k in p) for p in prompts]
        return F.normalize(torch.tensor([[*r, 0.5] for r in rows]), dim=1)


def redness(x) -> float:
    """Red over the mean of green and blue."""
    return float((x[:, 0] - x[:, 1:].mean(1)).mean())


class Cancelled(Exception):
    """What the callback of a cancelled run raises."""


def stopped(at: int, file: Path | None = None) -> tuple[Session, list[Run]]:
    """A session that cancels a training run after ``at`` steps, and the run; its state goes to ``file`` if given."""
    runs: list[Run] = []

    def stop(event):
        if event["i"] + 1 == at:
            if file is not None:
                save_state(file, runs[0], {})
            raise Cancelled

    return Session(runs.append, stop), runs


def resumed(file: Path, facts: dict | None = None) -> Session:
    """A session that goes on from a state file."""
    return Session(lambda run: load_state(file, run, facts))


def inverted(model, device, count: int, sigmas: torch.Tensor) -> Trajectory:
    """Pictures of noise, inverted by plain DDIM."""
    g = torch.Generator().manual_seed(2)
    pictures = (torch.rand(count, 3, 16, 16, generator=g) - 0.5).to(device)
    return reconstruct(model, invert_ddim(model, pictures, sigmas))


def block_of(model, seed=0) -> ShiftBlock:
    """An untrained block of Asyrp for the small model."""
    torch.manual_seed(seed)
    return new_asyrp(model.net, 64, model.schedule.sigmas)


def released_for(model) -> dict[str, Any]:
    """What a released file of Asyrp does not say, for the small model."""
    return {
        "net": model.net,
        "levels": model.schedule.sigmas,
        "fingerprint": model.fingerprint,
        "channels": 64,
        "sigma_edit": 1.0,
    }


def run_two_processes(module: str, options: list[str]) -> str:
    """Run a command of training as two processes; returns what they printed."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", module]
    done = subprocess.run(
        [sys.executable, *launcher, *options], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout
