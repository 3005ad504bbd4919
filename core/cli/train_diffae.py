"""Train a DiffAE or HDAE on a folder of pictures (arXiv 2111.15640, 2304.11829): ``python -m core.train.diffae_cli``.

On many devices ``torchrun --nproc_per_node N -m core.train.diffae_cli``. The defaults are the paper's for the size. Then the codes'
statistics and, with ``--latent-steps``, the latent network are made; all is one file for Load DiffAE. ``--resume`` goes on exactly where a
run stopped, in either part; with the same ``--batch`` times processes also on another number of devices.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from ..networks.diffae import Injection, Reading
from ..networks.diffae_io import Autoencoder, load_autoencoder, save_autoencoder, write_autoencoder
from ..networks.latent_mlp import LatentConfig
from ..networks.vp import Prediction
from .diffae import BASE, BATCH, IMAGES, SCHEDULE, Learner, Shape, Stream, Training, autoencoder_of, new_run, train_diffae
from .heads import with_statistics
from .latent_prior import train_latent
from .long_run import LongRun
from .pictures import Folder
from .processes import averaging, new_accelerator
from .watch import Watch

_SKETCH = 32
"""Side of the picture that is drawn from the code alone."""
_MANY = 4
"""Codes a coordinate, from which on it is measured how they vary together."""
_FREE = ("out", "resume", "cpu", "save_every", "pictures", "images", "batch", "half", "memory")
"""Options that may change when a run goes on; some are compared in another form."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line entry."""
    a = _parser().parse_args(arguments)
    accelerator = new_accelerator(a.cpu)
    try:
        pictures = Folder(a.pictures, a.size, int(a.memory * 2**30))
        made, facts = _train(a, accelerator, pictures)
        codes = _codes(a, accelerator, made, pictures)
        accelerator.wait_for_everyone()
        main_process = accelerator.is_main_process
        accelerator.end_training()
        if main_process:
            _finish(a, made, codes, facts)
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from error


def _train(a: argparse.Namespace, accelerator: Any, pictures: Folder) -> tuple[Autoencoder, dict[str, Any]]:
    """The autoencoder, as its file has it, and how long it was trained."""
    device, ranks, rank = accelerator.device, accelerator.num_processes, accelerator.process_index
    of = (a.reading, a.injection, a.patch, a.blocks, a.emb, a.code)
    config = Shape(a.size, tuple(a.channels), a.levels, *of, tuple(a.attention)).config()
    a.batch = a.batch or max(1, BATCH[a.size] // ranks)
    total = (a.images or IMAGES[a.size]) // (a.batch * ranks)
    if total < 1 or not a.lr > 0:
        raise ValueError(
            f"training needs a learning rate above 0 and at least one step of {a.batch * ranks} images; got --images {a.images}"
        )
    if len(pictures) < 2:
        raise ValueError(f"{a.pictures} holds a single picture; give thousands")
    if a.out.suffix != ".safetensors":
        raise ValueError(f"{a.out.name}: the file to write must end in .safetensors")
    if not a.resume and _state(a).exists():
        raise ValueError(f"{_state(a)} is there from an earlier run; add --resume to go on with it, or delete it")
    precision = a.precision or ("bf16" if device.type == "cuda" else "fp32")
    settings = {k: v for k, v in vars(a).items() if k not in _FREE and not k.startswith("latent_")}
    # Nothing else depends on the length of the run, so that it can be made longer.
    settings |= {"images": total * a.batch * ranks} if a.sketch else {}
    settings |= {"batch of all processes": a.batch * ranks, "digest of the pictures": pictures.digest, "precision": precision}
    torch.manual_seed(a.seed)
    net = Learner(config, _SKETCH if a.sketch else 0, a.dropout).to(device)
    run = new_run(net, a.ema, average=averaging(accelerator) if ranks > 1 else None, settings=settings)
    if a.resume and _state(a).exists():
        run.resume(_state(a))
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    how = Training(total, a.batch, a.lr, a.warm_up, a.prediction, a.sketch, a.seed, kind, rank, ranks)
    if rank == 0:
        weights = sum(v.numel() for v in autoencoder_of(run.params).values())
        print(
            f"{len(pictures)} pictures, {weights / 1e6:.1f} M weights, {total} steps of {a.batch * ranks}, {ranks} x {device}", flush=True
        )
        a.out.parent.mkdir(parents=True, exist_ok=True)
    for _ in train_diffae(net, run, Stream(pictures, len(pictures), a.seed, a.flip), how):
        if rank == 0:
            run.tell(total, a.batch * ranks)
            if run.due(a.save_every / 60, total):
                _save(a, run, how, config.patch)
    if rank == 0 and not a.out.exists():
        _save(a, run, how, config.patch)
    accelerator.wait_for_everyone()
    return load_autoencoder(a.out), _facts(run, how)


def _save(a: argparse.Namespace, run: LongRun, how: Training, patch: int) -> None:
    options: dict[str, Any] = {"size": a.size, "patch": patch, "schedule": SCHEDULE, "prediction": how.prediction, "half": a.half}
    try:
        write_autoencoder(a.out, autoencoder_of(run.ema), more=_facts(run, how), **options)
        run.save(_state(a))
    except OSError as error:  # a full disk does not end a run before its end
        if run.step >= how.steps:
            raise
        print(error, flush=True)


def _facts(run: LongRun, how: Training) -> dict[str, Any]:
    return {"images": run.step * how.batch * how.ranks, "minutes": round(run.seconds / 60, 1)}


@torch.no_grad()
def _codes(a: argparse.Namespace, accelerator: Any, made: Autoencoder, pictures: Folder) -> Tensor:
    """Of all pictures, unflipped, in their order `[n ...]`; every process encodes its share."""
    ranks = accelerator.num_processes
    share = -(-len(pictures) // ranks)
    numbers = [n % len(pictures) for n in range(accelerator.process_index, share * ranks, ranks)]
    encoder = made.net.encoder.to(accelerator.device)
    rows = [encoder(pictures(numbers[i : i + a.batch]).to(accelerator.device)) for i in range(0, share, a.batch)]
    found = accelerator.gather(torch.cat(rows)).cpu()
    return found.unflatten(0, (ranks, share)).transpose(0, 1).flatten(0, 1)[: len(pictures)]


def _finish(a: argparse.Namespace, made: Autoencoder, codes: Tensor, facts: dict[str, Any]) -> None:
    """Statistics and latent network into the file."""
    started, state = time.monotonic(), a.out.with_suffix(".latent.safetensors")
    facts = {**facts, "codes": len(codes)}
    made.net.cpu()
    space = with_statistics(made.space, codes, typical=len(codes) >= _MANY * made.space.size)
    save_autoencoder(a.out, replace(made, space=space), a.half, facts)
    if a.latent_steps:
        settings = {k: v for k, v in vars(a).items() if k.startswith("latent_")} | {"model": made.fingerprint, "seed": a.seed}
        watch = Watch(state, a.resume, settings, a.save_every, "latent network")
        config = LatentConfig(space.size, a.latent_width, a.latent_layers)
        device = "cuda" if torch.cuda.is_available() and not a.cpu else "cpu"
        latent = train_latent(
            codes.to(device), space, config, steps=a.latent_steps, batch=a.latent_batch, lr=a.latent_lr, seed=a.seed,
            callback=watch.step, begin=watch.begin,
        )  # fmt: skip
        save_autoencoder(a.out, replace(made, space=space, latent=latent.cpu()), a.half, facts)
        state.unlink(missing_ok=True)
    print(f"{a.out}: {a.out.stat().st_size / 2**20:.1f} MB, model {made.fingerprint}, {time.monotonic() - started:.0f} s for its codes")
    use = "is done with, unless --latent-steps is to follow" if a.sketch else "can go on with more --images"
    print(f"{_state(a)} {use}; delete it if that is not wanted", flush=True)


def _state(a: argparse.Namespace) -> Path:
    return a.out.with_suffix(".training.safetensors")


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python -m core.train.diffae_cli", description=str(__doc__).splitlines()[0])
    p.add_argument("--pictures", type=Path, required=True, help="a folder of pictures, cropped and aligned alike")
    p.add_argument("--out", type=Path, required=True, help="safetensors file to write; the state goes beside it")
    p.add_argument("--size", type=int, choices=tuple(BASE), default=256, help="pictures are fitted to this square")
    p.add_argument("--images", type=int, default=0, help="length of the training in images seen; 0: the paper's for the size")
    p.add_argument("--batch", type=int, default=0, help="images a step and process; 0: the paper's 128 (64 at 256) over all processes")
    p.add_argument("--lr", type=float, default=1e-4)
    p.add_argument("--warm-up", type=int, default=0, help="steps in which the learning rate rises")
    p.add_argument("--ema", type=float, default=0.9999)
    p.add_argument("--flip", type=float, default=0.5, help="how often a picture is mirrored")
    p.add_argument("--dropout", type=float, default=0.1)
    p.add_argument("--prediction", choices=get_args(Prediction), default="eps", help="v: the code gets more of the gradient")
    p.add_argument("--sketch", type=float, default=0.0, help="weight of a picture drawn from the code alone; fades; small networks: 1")
    p.add_argument("--levels", action="store_true", help="HDAE: one code a level")
    p.add_argument("--reading", choices=get_args(Reading), default="E", help="an HDAE's codes: on the way down, back up, or with skips")
    p.add_argument("--injection", choices=get_args(Injection), default="both", help="which half of the U-Net the codes modulate")
    p.add_argument("--channels", type=int, nargs="+", default=[], help="of the U-Net, finest level first; default: as released")
    p.add_argument("--blocks", type=int, default=2, help="a level")
    p.add_argument("--emb", type=int, default=512, help="width of the step embedding")
    p.add_argument("--code", type=int, default=512, help="width of a code")
    p.add_argument("--patch", type=int, default=1, help="fold so many pixels a side into channels: 2 and 4 are cheaper")
    p.add_argument("--attention", type=int, nargs="*", default=[16], help="sides of the maps that attend")
    p.add_argument("--latent-steps", type=int, default=0, help="of the latent network, for Sample Codes; 0: none (paper: 400000)")
    p.add_argument("--latent-layers", type=int, default=10)
    p.add_argument("--latent-width", type=int, default=2048)
    p.add_argument("--latent-batch", type=int, default=256)
    p.add_argument("--latent-lr", type=float, default=1e-4)
    p.add_argument("--precision", choices=("fp32", "bf16"), default=None, help="default: bf16 on CUDA")
    p.add_argument("--half", action="store_true", help="write float16")
    p.add_argument("--memory", type=float, default=4.0, help="GB of pictures that stay in memory, in every process")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--save-every", type=float, default=600.0, help="seconds between two stored states")
    p.add_argument("--resume", action="store_true", help="go on from the state beside --out")
    p.add_argument("--cpu", action="store_true")
    return p  # fmt: skip


if __name__ == "__main__":
    main()
