"""The training loops without the host: ``python -m core.train.cli``, on many devices ``torchrun --nproc_per_node N -m core.train.cli``.

Every process inverts and sees its own share of the pictures; gradients are averaged at every step (Hugging Face accelerate).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..edit.delta_io import save_delta
from ..edit.rectifier_io import TrainedRectifier, load_rectifier, save_rectifier
from ..edit.sample import reconstruct
from ..edit.weights import thinned
from ..edit.weights_io import save_weights
from ..embedder import Embedder
from ..faces.embedder import load_embedder
from ..invert.ddim import invert_ddim
from ..networks.delta import new_delta
from ..networks.read import load_denoiser
from ..networks.rectifier import Rectifier
from ..schedule import grid_sigmas, rescale_sigma
from ..trajectory import Trajectory
from .asyrp import train_asyrp
from .clip import ClipEmbedder
from .diffusionclip import finetune
from .fit import Fit
from .pictures import fitted, picture_files
from .processes import averaging, new_accelerator
from .rectifier import train_edit, train_reconstruction
from .state import digest_of, load_state, save_state

METHODS = ("asyrp", "diffusionclip", "rectifier", "rectifier-edit")
_PAPER_SIGMA, _PAPER_SIZE = 3.4, 256


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line entry."""
    a = _parser().parse_args(arguments)
    accelerator = new_accelerator(a.cpu)
    device, ranks, rank = accelerator.device, accelerator.num_processes, accelerator.process_index
    model = load_denoiser(a.model, device=device)
    path = _inverted(model, _pictures(a.pictures, a.size, rank, ranks).to(device), a.grid, a.sigma_start)
    level = a.sigma_edit or rescale_sigma(_PAPER_SIGMA, _PAPER_SIZE, a.size)
    a.out.parent.mkdir(parents=True, exist_ok=True)
    state, started, saved = a.out.with_suffix(".training.safetensors"), time.monotonic(), [time.monotonic()]
    seen = digest_of(path.x0)
    facts = {k: str(v) for k, v in vars(a).items() if k not in ("out", "resume", "cpu", "save_every", "pictures", "model")}
    facts |= {"processes": ranks, "model": model.fingerprint, "pictures of the first process": seen}
    runs: list[Fit] = []

    def begin(fit: Fit) -> None:
        runs.append(fit)
        if ranks > 1:
            fit.average = averaging(accelerator)
        if a.resume and state.exists():
            load_state(state, fit, facts if not rank else None)

    def step(seen: dict[str, Any]) -> None:
        if rank:
            return
        if seen["i"] % 50 == 0 or seen["i"] + 1 == seen["n"]:
            print(f"step {seen['i'] + 1}/{seen['n']}  loss {seen['smooth']:.4f}  {time.monotonic() - started:.0f} s", flush=True)
        # Between two chains: what a chain carries is of this process's pictures alone.
        if not runs[0].carry and time.monotonic() - saved[0] > a.save_every:
            saved[0] = time.monotonic()
            try:
                save_state(state, runs[0], facts)
            except OSError as error:  # a full disk does not end a run
                print(error, flush=True)

    options: dict[str, Any] = {"batch": a.batch, "lr": a.lr, "seed": a.seed, "callback": step, "begin": begin}
    prompts: Any = () if a.method == "rectifier" else (_embedder(a.embedder, device), a.source, a.target)
    write: Callable[[], Path]
    if a.method == "asyrp":
        one = path.noisiest[:1]
        channels = model.split(one, one.new_full((1,), float(path.sigmas[0]))).h.shape[1]
        delta = new_delta(model.net, channels, model.schedule.sigmas, a.seed)
        edit = train_asyrp(
            model, path, delta, *prompts, sigma_edit=level, epochs=a.epochs, optimiser=a.optimiser, clip_weight=a.clip_weight,
            l1_weight=a.l1_weight, blur=a.blur, **options,
        )  # fmt: skip
        write = lambda: save_delta(a.out, edit)  # noqa: E731
    elif a.method == "diffusionclip":
        weights = finetune(
            model, path, *prompts, steps=a.steps or 6, epochs=a.epochs, efficient=not a.whole_chain, clip_weight=a.clip_weight,
            l1_weight=a.l1_weight, blur=a.blur, **options,
        )  # fmt: skip
        write = lambda: save_weights(a.out, thinned(weights, a.rank)[0] if a.rank else weights)  # noqa: E731
    else:
        top, first = float(path.sigmas[0]), a.method == "rectifier"
        net = Rectifier.of(model.net, model.schedule.sigmas, seed=a.seed) if first else _rebuilding(a.rectifier, model).to(device)
        options["steps"] = a.steps or 1000
        if first:
            found = train_reconstruction(model, model.net, path, net, **options)
        else:
            found = train_edit(
                model,
                model.net,
                path,
                net,
                *prompts,
                sigma_start=level,
                clip_weight=a.clip_weight,
                l1_weight=a.l1_weight,
                blur=a.blur,
                **options,
            )
        label = "reconstruction" if first else f"{a.source} > {a.target}"
        made = TrainedRectifier(found, model.fingerprint, not first, top if first else level, label)
        write = lambda: save_rectifier(a.out, made)  # noqa: E731
    accelerator.wait_for_everyone()
    if rank == 0:
        print(f"{write()}: {a.out.stat().st_size / 2**20:.2f} MB, {time.monotonic() - started:.0f} s", flush=True)
        state.unlink(missing_ok=True)
    accelerator.end_training()


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
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
    p.add_argument("--steps", type=int, default=0, help="of the chain (diffusionclip), or of the optimiser (rectifiers)")
    p.add_argument("--batch", type=int, default=1)
    p.add_argument("--lr", type=float, default=1e-3)
    p.add_argument("--optimiser", choices=("adam", "sgd"), default="adam")
    p.add_argument("--clip-weight", type=float, default=1.0)
    p.add_argument("--l1-weight", type=float, default=1.0)
    p.add_argument("--blur", type=float, default=0.0, help="of the pictures before they are embedded, a share of their side")
    p.add_argument("--whole-chain", action="store_true", help="diffusionclip: one loss at the end of the chain")
    p.add_argument("--rank", type=int, default=0, help="diffusionclip: thin the difference to this rank")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--save-every", type=float, default=60.0, help="seconds between two stored states")
    p.add_argument("--resume", action="store_true", help="go on from the state beside --out")
    p.add_argument("--cpu", action="store_true")
    return p  # fmt: skip


def _pictures(folder: Path, size: int, rank: int, ranks: int) -> Tensor:
    """This process's share, `[b 3 size size]` in -1..1; all shares have one length."""
    files = picture_files(folder)
    if len(files) < ranks:
        raise SystemExit(f"{folder} holds {len(files)} pictures for {ranks} processes; give at least one each")
    files = files[: len(files) - len(files) % ranks][rank::ranks]
    return torch.stack([fitted(f, size) for f in files]).float() / 127.5 - 1


def _inverted(model, pictures: Tensor, steps: int, start: float) -> Trajectory:
    levels = model.schedule.sigmas
    t0 = 999 if not start else int((levels - start).abs().argmin())
    with torch.no_grad():
        parts = [reconstruct(model, invert_ddim(model, x, grid_sigmas(model.schedule, steps, t0=t0))) for x in pictures.split(8)]
    states = torch.cat([p.states for p in parts], 1)
    return Trajectory(parts[0].sigmas, states, model.fingerprint, "ddim B", reconstruction=torch.cat([p.rebuilt for p in parts]))


def _embedder(path: Path | None, device: torch.device) -> Embedder:
    if path is None:
        raise SystemExit("this method is guided by prompts; give --embedder, --source and --target")
    return ClipEmbedder(path).to(device) if path.is_dir() else load_embedder(path, device)


def _rebuilding(path: Path | None, model) -> Rectifier:
    """The rectifier of stage 1, for this model."""
    if path is None:
        raise SystemExit("rectifier-edit starts from a rectifier; give --rectifier with the file that 'rectifier' wrote")
    found = load_rectifier(path)
    found.check_model(model.fingerprint)
    if found.edit:
        raise SystemExit(f"{path} is a rectifier of an edit ({found.label}); give the one that 'rectifier' wrote")
    return found.rectifier


if __name__ == "__main__":
    main()
