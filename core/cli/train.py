"""Train an edit of a pixel diffusion model without the host: ``hspace train``.

On many devices ``torchrun --nproc_per_node N -m hspace.cli train``; in a checkout the package's name is ``core``.
Every process inverts and sees its own share of the pictures; gradients are averaged at every step (Hugging Face
accelerate).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..atomic_file import check_writable
from ..faces.embedder import load_embedder
from ..files.asyrp import save_asyrp
from ..files.checkpoint import load_denoiser
from ..files.diffusionclip import save_weights
from ..files.rectifier import TrainedRectifier, load_rectifier, save_rectifier
from ..invert.ddim import invert_ddim
from ..networks.asyrp import new_asyrp
from ..networks.rectifier import RectifierNet
from ..networks.vp import VPDenoiser
from ..networks.weight_difference import thinned
from ..sample import reconstruct
from ..schedule import grid_sigmas, rescale_sigma
from ..train.asyrp import AsyrpSettings, train_asyrp
from ..train.clip import ClipEmbedder
from ..train.diffusionclip import DiffusionClipSettings, train_diffusionclip
from ..train.directional import PromptPair
from ..train.pictures import fitted, picture_files
from ..train.processes import averaging, new_accelerator
from ..train.rectifier import FrozenNetwork, RectifierSettings, train_rectifier
from ..train.rectifier_edit import RectifierEditSettings, train_rectifier_edit
from ..train.run import Session
from ..train.session import Console, ScriptSession, add_run_options, write_anyway
from ..train.state import digest_of
from ..trajectory import Trajectory

METHODS = ("asyrp", "diffusionclip", "rectifier", "rectifier-edit")
_PAPER_SIGMA = 3.4
_PAPER_SIZE = 256
_RECTIFIER_STEPS = 1000
_PRINT_EVERY = 50
Write = Callable[[Path], Path]
"""Writes what was trained."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what the command line asks for."""
    a = _parser().parse_args(arguments)
    accelerator = new_accelerator(a.cpu)
    device = accelerator.device
    ranks = accelerator.num_processes
    rank = accelerator.process_index
    if not rank:
        try:
            check_writable(a.out)
        except OSError as error:
            raise SystemExit(str(error)) from error
    started = time.monotonic()
    model = load_denoiser(a.model, device=device)
    pictures = _pictures(a.pictures, a.size, rank, ranks).to(device)
    trajectory = _inverted(model, pictures, a.grid, a.sigma_start)
    session = ScriptSession(
        a.out.with_suffix(".training.safetensors"),
        _facts(a, model, trajectory, ranks),
        resume=a.resume,
        every=a.save_every,
        console=Console(every=_PRINT_EVERY, rank=rank),
        reduce=averaging(accelerator) if ranks > 1 else None,
        # What a chain carries is of this process's pictures alone.
        between_chains=True,
    )
    train = {"asyrp": _asyrp, "diffusionclip": _diffusionclip, "rectifier": _rectifier}.get(a.method, _rectifier_edit)
    write = train(a, model, trajectory, session)
    accelerator.wait_for_everyone()
    if rank == 0:
        file = write_anyway(a.out, write)
        print(f"{file}: {file.stat().st_size / 2**20:.2f} MB, {time.monotonic() - started:.0f} s", flush=True)
        session.forget()
    accelerator.end_training()


def _facts(a: argparse.Namespace, model: VPDenoiser, trajectory: Trajectory, ranks: int) -> dict[str, Any]:
    """Collect what a run depends on, compared when it is resumed."""
    free = ("out", "resume", "cpu", "save_every", "pictures", "model")
    facts: dict[str, Any] = {name: str(value) for name, value in vars(a).items() if name not in free}
    digest = digest_of(trajectory.x0)
    return facts | {"processes": ranks, "model": model.fingerprint, "pictures of the first process": digest}


def _asyrp(a: argparse.Namespace, model: VPDenoiser, trajectory: Trajectory, session: Session) -> Write:
    prompts = _prompts(a, trajectory.x0.device)
    settings = AsyrpSettings(
        _level(a),
        epochs=a.epochs,
        optimiser=a.optimiser,
        **_guided(a),
    )
    one = trajectory.noisiest[:1]
    channels = model.split(one, one.new_full((1,), float(trajectory.sigmas[0]))).h.shape[1]
    shift = new_asyrp(model.net, channels, model.schedule.sigmas, a.seed)
    edit = train_asyrp(model, trajectory, shift, prompts, settings, session=session)
    return lambda file: save_asyrp(file, edit)


def _diffusionclip(a: argparse.Namespace, model: VPDenoiser, trajectory: Trajectory, session: Session) -> Write:
    settings = DiffusionClipSettings(
        steps=a.steps or 6,
        efficient=not a.whole_chain,
        epochs=a.epochs,
        **_guided(a),
    )
    prompts = _prompts(a, trajectory.x0.device)
    weights = train_diffusionclip(model, trajectory, prompts, settings, session=session)
    return lambda file: save_weights(file, thinned(weights, a.rank)[0] if a.rank else weights)


def _rectifier(a: argparse.Namespace, model: VPDenoiser, trajectory: Trajectory, session: Session) -> Write:
    rectifier = RectifierNet.of(model.net, model.schedule.sigmas, seed=a.seed)
    settings = RectifierSettings(a.steps or _RECTIFIER_STEPS, a.batch, a.lr, a.seed)
    rectifier = train_rectifier(FrozenNetwork(model, model.net), trajectory, rectifier, settings, session=session)
    top = float(trajectory.sigmas[0])
    trained = TrainedRectifier(rectifier, model.fingerprint, False, top, "reconstruction")
    return lambda file: save_rectifier(file, trained)


def _rectifier_edit(a: argparse.Namespace, model: VPDenoiser, trajectory: Trajectory, session: Session) -> Write:
    prompts = _prompts(a, trajectory.x0.device)
    rebuilding = _rebuilding(a.rectifier, model).to(trajectory.x0.device)
    settings = RectifierEditSettings(
        _level(a),
        steps=a.steps or _RECTIFIER_STEPS,
        **_guided(a),
    )
    frozen = FrozenNetwork(model, model.net)
    rectifier = train_rectifier_edit(frozen, trajectory, rebuilding, prompts, settings, session=session)
    trained = TrainedRectifier(rectifier, model.fingerprint, True, _level(a), prompts.label)
    return lambda file: save_rectifier(file, trained)


def _guided(a: argparse.Namespace) -> dict[str, Any]:
    """Read the settings that every training by prompts has."""
    return {name: getattr(a, name) for name in ("batch", "lr", "clip_weight", "l1_weight", "blur", "seed")}


def _level(a: argparse.Namespace) -> float:
    return a.sigma_edit or rescale_sigma(_PAPER_SIGMA, _PAPER_SIZE, a.size)


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="hspace train", description=str(__doc__).splitlines()[0])
    p.add_argument("method", choices=METHODS)
    p.add_argument("--model", type=Path, required=True, help="a pixel diffusion checkpoint")
    p.add_argument("--pictures", type=Path, required=True, help="a folder of training pictures")
    p.add_argument("--out", type=Path, required=True, help="safetensors file to write")
    p.add_argument("--size", type=int, default=256, help="pictures are fitted to this square")
    p.add_argument("--embedder", type=Path, help="face_embedder.safetensors, or a folder with a CLIP model")
    p.add_argument("--source", default="")
    p.add_argument("--target", default="")
    p.add_argument("--rectifier", type=Path, help="rectifier-edit: the file that 'rectifier' wrote")
    p.add_argument("--grid", type=int, default=40, help="steps of the inversion")
    p.add_argument(
        "--sigma-start",
        type=float,
        default=0.0,
        help="noisiest level of the inversion; 0: the model's own",
    )
    p.add_argument(
        "--sigma-edit",
        type=float,
        default=0.0,
        help="lowest edited level of asyrp, noisiest of rectifier-edit; 0: t = 500, rescaled",
    )
    p.add_argument("--epochs", type=int, default=1)
    p.add_argument(
        "--steps", type=int, default=0, help="of the chain (diffusionclip), or of the optimiser (rectifiers)"
    )
    p.add_argument("--batch", type=int, default=1)
    p.add_argument("--lr", type=float, default=1e-3)
    p.add_argument("--optimiser", choices=("adam", "sgd"), default="adam")
    p.add_argument("--clip-weight", type=float, default=1.0)
    p.add_argument("--l1-weight", type=float, default=1.0)
    p.add_argument(
        "--blur", type=float, default=0.0, help="of the pictures before they are embedded, a share of their side"
    )
    p.add_argument("--whole-chain", action="store_true", help="diffusionclip: one loss at the end of the chain")
    p.add_argument("--rank", type=int, default=0, help="diffusionclip: thin the difference to this rank")
    return add_run_options(p, save_every=60.0)


def _pictures(folder: Path, size: int, rank: int, ranks: int) -> Tensor:
    """Read this process's share, `[b 3 size size]` in -1..1; all shares have one length."""
    files = picture_files(folder)
    if len(files) < ranks:
        raise SystemExit(f"{folder} holds {len(files)} pictures for {ranks} processes; give at least one each")
    files = files[: len(files) - len(files) % ranks][rank::ranks]
    return torch.stack([fitted(f, size) for f in files]).float() / 127.5 - 1


def _inverted(model, pictures: Tensor, steps: int, start: float) -> Trajectory:
    levels = model.schedule.sigmas
    t0 = 999 if not start else int((levels - start).abs().argmin())
    with torch.no_grad():
        parts = [
            reconstruct(model, invert_ddim(model, x, grid_sigmas(model.schedule, steps, t0=t0)))
            for x in pictures.split(8)
        ]
    states = torch.cat([p.states for p in parts], 1)
    return Trajectory(
        parts[0].sigmas, states, model.fingerprint, "ddim B", reconstruction=torch.cat([p.rebuilt for p in parts])
    )


def _prompts(a: argparse.Namespace, device: torch.device) -> PromptPair:
    if a.embedder is None:
        raise SystemExit("this method is guided by prompts; give --embedder, --source and --target")
    embedder = ClipEmbedder(a.embedder).to(device) if a.embedder.is_dir() else load_embedder(a.embedder, device)
    return PromptPair(embedder, a.source, a.target)


def _rebuilding(path: Path | None, model) -> RectifierNet:
    """Load the rectifier of stage 1, for this model."""
    if path is None:
        raise SystemExit(
            "rectifier-edit starts from a rectifier; give --rectifier with the file that 'rectifier' wrote"
        )
    trained = load_rectifier(path)
    trained.check_model(model.fingerprint)
    if trained.edit:
        raise SystemExit(f"{path} is a rectifier of an edit ({trained.label}); give the one that 'rectifier' wrote")
    return trained.rectifier


if __name__ == "__main__":
    main()
