"""Train a DiffAE or HDAE on a folder of pictures (arXiv 2111.15640, 2304.11829): ``hspace train-diffae``.

On many devices ``torchrun --nproc_per_node N -m hspace.cli train-diffae``. The defaults are the paper's for the size.
Then the codes' statistics and, with ``--latent-steps``, the latent network are made; all is one file for Load DiffAE.
``--resume`` goes on exactly where a run stopped, in either part; with the same ``--batch`` times processes also on
another number of devices.
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

from ..atomic_file import check_writable
from ..files.diffae import Autoencoder, NetworkFacts, load_autoencoder, save_autoencoder, write_autoencoder
from ..networks.diffae_config import Injection, Reading
from ..networks.latent_mlp import LatentConfig
from ..networks.vp import Prediction
from ..train.diffae import (
    BASE,
    BATCH,
    IMAGES,
    SCHEDULE,
    Learner,
    Shape,
    Stream,
    Training,
    autoencoder_of,
    new_run,
    train_diffae,
)
from ..train.heads import with_statistics
from ..train.latent_prior import LatentSettings, train_latent
from ..train.pictures import Folder
from ..train.processes import averaging, new_accelerator
from ..train.run import Run
from ..train.session import Console, ResultSession, ScriptSession, add_run_options, write_anyway

_SKETCH = 32
"""Side of the picture that is drawn from the code alone."""
_MANY = 4
"""Codes a coordinate, from which on it is measured how they vary together."""
_FREE = ("out", "resume", "cpu", "save_every", "pictures", "images", "batch", "half", "memory")
"""Options that may change when a run goes on; some are compared in another form."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the autoencoder that the command line describes, or add a latent network to one."""
    a = _parser().parse_args(arguments)
    accelerator = new_accelerator(a.cpu)
    try:
        pictures = Folder(a.pictures, a.size, int(a.memory * 2**30))
        autoencoder, facts = _train(a, accelerator, pictures)
        codes = _codes(a, accelerator, autoencoder, pictures)
        accelerator.wait_for_everyone()
        main_process = accelerator.is_main_process
        accelerator.end_training()
        if main_process:
            _finish(a, autoencoder, codes, facts)
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from error


def _train(a: argparse.Namespace, accelerator: Any, pictures: Folder) -> tuple[Autoencoder, dict[str, Any]]:
    """Train the autoencoder; return it as its file has it, and how long it was trained."""
    device = accelerator.device
    ranks = accelerator.num_processes
    rank = accelerator.process_index
    variant = (a.reading, a.injection, a.patch, a.blocks, a.emb, a.code)
    config = Shape(a.size, tuple(a.channels), a.levels, *variant, tuple(a.attention)).config()
    total = _steps(a, pictures, ranks)
    if not rank:
        check_writable(a.out)
    if not a.resume and _state(a).exists():
        raise ValueError(f"{_state(a)} is there from an earlier run; add --resume to go on with it, or delete it")
    precision = a.precision or ("bf16" if device.type == "cuda" else "fp32")
    torch.manual_seed(a.seed)
    net = Learner(config, _SKETCH if a.sketch else 0, a.dropout).to(device)
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    how = Training(total, a.batch, a.lr, a.warm_up, a.prediction, a.sketch, a.seed, kind, rank, ranks)
    session = ResultSession(
        a.out,
        lambda path, run: _write(a, path, run, how, config.patch),
        _state(a),
        _settings(a, pictures, precision, how),
        resume=a.resume,
        every=a.save_every,
        console=Console(every=100, batch=a.batch * ranks, rank=rank),
        reduce=averaging(accelerator) if ranks > 1 else None,
    )
    if rank == 0:
        weights = sum(v.numel() for v in net.net.parameters())
        print(
            f"{len(pictures)} pictures, {weights / 1e6:.1f} M weights, {total} steps of {a.batch * ranks}, {ranks} x"
            f" {device}",
            flush=True,
        )
    run = new_run(net, how, a.ema, session)
    train_diffae(net, run, Stream(pictures, len(pictures), a.seed, a.flip), how)
    if rank == 0 and not a.out.exists():
        session.store()
    accelerator.wait_for_everyone()
    return load_autoencoder(a.out), _facts(run, how)


def _steps(a: argparse.Namespace, pictures: Folder, ranks: int) -> int:
    """Count the steps of the whole run; fill in the batch.

    Raises:
        ValueError: options that cannot train.
    """
    a.batch = a.batch or max(1, BATCH[a.size] // ranks)
    total = (a.images or IMAGES[a.size]) // (a.batch * ranks)
    if total < 1 or not a.lr > 0:
        raise ValueError(
            f"training needs a learning rate above 0 and at least one step of {a.batch * ranks} images; got --images"
            f" {a.images}"
        )
    if len(pictures) < 2:
        raise ValueError(f"{a.pictures} holds a single picture; give thousands")
    if a.out.suffix != ".safetensors":
        raise ValueError(f"{a.out.name}: the file to write must end in .safetensors")
    return total


def _settings(a: argparse.Namespace, pictures: Folder, precision: str, how: Training) -> dict[str, Any]:
    """Collect what a run depends on, compared when it is resumed."""
    settings = {k: v for k, v in vars(a).items() if k not in _FREE and not k.startswith("latent_")}
    images = how.batch * how.ranks
    if a.sketch:
        # Only the weight of the sketch depends on the length of the run; without one it can be made longer.
        settings["images"] = how.steps * images
    return settings | {
        "batch of all processes": images,
        "digest of the pictures": pictures.digest,
        "precision": precision,
    }


def _write(a: argparse.Namespace, path: Path, run: Run, how: Training, patch: int) -> None:
    write_autoencoder(
        path,
        autoencoder_of(run.average),
        NetworkFacts(a.size, patch, SCHEDULE, how.prediction),
        more=_facts(run, how),
        half=a.half,
    )


def _facts(run: Run, how: Training) -> dict[str, Any]:
    return {"images": run.i * how.batch * how.ranks, "minutes": round(run.seconds / 60, 1)}


@torch.no_grad()
def _codes(a: argparse.Namespace, accelerator: Any, autoencoder: Autoencoder, pictures: Folder) -> Tensor:
    """Encode all pictures, unflipped, in their order `[n ...]`; every process encodes its share."""
    ranks = accelerator.num_processes
    share = -(-len(pictures) // ranks)
    numbers = [n % len(pictures) for n in range(accelerator.process_index, share * ranks, ranks)]
    encoder = autoencoder.net.encoder.to(accelerator.device)
    rows = [encoder(pictures(numbers[i : i + a.batch]).to(accelerator.device)) for i in range(0, share, a.batch)]
    gathered = accelerator.gather(torch.cat(rows)).cpu()
    return gathered.unflatten(0, (ranks, share)).transpose(0, 1).flatten(0, 1)[: len(pictures)]


def _finish(a: argparse.Namespace, autoencoder: Autoencoder, codes: Tensor, facts: dict[str, Any]) -> None:
    """Add statistics and latent network to the file."""
    started = time.monotonic()
    facts = {**facts, "codes": len(codes)}
    autoencoder.net.cpu()
    space = with_statistics(autoencoder.space, codes, typical=len(codes) >= _MANY * autoencoder.space.size)
    file = write_anyway(a.out, lambda path: save_autoencoder(path, replace(autoencoder, space=space), a.half, facts))
    if a.latent_steps:
        file = _add_latent(a, replace(autoencoder, space=space), codes, facts)
    print(
        f"{file}: {file.stat().st_size / 2**20:.1f} MB, model {autoencoder.fingerprint},"
        f" {time.monotonic() - started:.0f} s for its codes"
    )
    use = "is done with, unless --latent-steps is to follow" if a.sketch else "can go on with more --images"
    print(f"{_state(a)} {use}; delete it if that is not wanted", flush=True)


def _add_latent(a: argparse.Namespace, autoencoder: Autoencoder, codes: Tensor, facts: dict[str, Any]) -> Path:
    """Train the latent network, and write it into the file."""
    stored = {k: v for k, v in vars(a).items() if k.startswith("latent_")}
    session = ScriptSession(
        a.out.with_suffix(".latent.safetensors"),
        stored | {"model": autoencoder.fingerprint, "seed": a.seed},
        resume=a.resume,
        every=a.save_every,
        console=Console("latent network"),
    )
    config = LatentConfig(autoencoder.space.size, a.latent_width, a.latent_layers)
    settings = LatentSettings(a.latent_steps, a.latent_batch, a.latent_lr, seed=a.seed)
    device = "cuda" if torch.cuda.is_available() and not a.cpu else "cpu"
    latent = train_latent(codes.to(device), autoencoder.space, config, settings, session=session)
    whole = replace(autoencoder, latent=latent.cpu())
    file = write_anyway(a.out, lambda path: save_autoencoder(path, whole, a.half, facts))
    session.forget()
    return file


def _state(a: argparse.Namespace) -> Path:
    return a.out.with_suffix(".training.safetensors")


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="hspace train-diffae", description=str(__doc__).splitlines()[0])
    p.add_argument("--pictures", type=Path, required=True, help="a folder of pictures, cropped and aligned alike")
    p.add_argument("--out", type=Path, required=True, help="safetensors file to write; the state goes beside it")
    p.add_argument("--size", type=int, choices=tuple(BASE), default=256, help="pictures are fitted to this square")
    p.add_argument(
        "--images", type=int, default=0, help="length of the training in images seen; 0: the paper's for the size"
    )
    p.add_argument(
        "--batch",
        type=int,
        default=0,
        help="images a step and process; 0: the paper's 128 (64 at 256) over all processes",
    )
    p.add_argument("--lr", type=float, default=1e-4)
    p.add_argument("--warm-up", type=int, default=0, help="steps in which the learning rate rises")
    p.add_argument("--ema", type=float, default=0.9999)
    p.add_argument("--flip", type=float, default=0.5, help="how often a picture is mirrored")
    p.add_argument("--dropout", type=float, default=0.1)
    p.add_argument(
        "--prediction", choices=get_args(Prediction), default="eps", help="v: the code gets more of the gradient"
    )
    p.add_argument(
        "--sketch",
        type=float,
        default=0.0,
        help="weight of a picture drawn from the code alone; fades; small networks: 1",
    )
    p.add_argument("--levels", action="store_true", help="HDAE: one code a level")
    p.add_argument(
        "--reading",
        choices=get_args(Reading),
        default="E",
        help="an HDAE's codes: on the way down, back up, or with skips",
    )
    p.add_argument(
        "--injection", choices=get_args(Injection), default="both", help="which half of the U-Net the codes modulate"
    )
    p.add_argument(
        "--channels", type=int, nargs="+", default=[], help="of the U-Net, finest level first; default: as released"
    )
    p.add_argument("--blocks", type=int, default=2, help="a level")
    p.add_argument("--emb", type=int, default=512, help="width of the step embedding")
    p.add_argument("--code", type=int, default=512, help="width of a code")
    p.add_argument("--patch", type=int, default=1, help="fold so many pixels a side into channels: 2 and 4 are cheaper")
    p.add_argument("--attention", type=int, nargs="*", default=[16], help="sides of the maps that attend")
    p.add_argument(
        "--latent-steps", type=int, default=0, help="of the latent network, for Sample Codes; 0: none (paper: 400000)"
    )
    p.add_argument("--latent-layers", type=int, default=10)
    p.add_argument("--latent-width", type=int, default=2048)
    p.add_argument("--latent-batch", type=int, default=256)
    p.add_argument("--latent-lr", type=float, default=1e-4)
    p.add_argument("--precision", choices=("fp32", "bf16"), default=None, help="default: bf16 on CUDA")
    p.add_argument("--half", action="store_true", help="write float16")
    p.add_argument("--memory", type=float, default=4.0, help="GB of pictures that stay in memory, in every process")
    return add_run_options(p, save_every=600.0)


if __name__ == "__main__":
    main()
