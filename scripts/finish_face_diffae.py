"""Add to an embedded autoencoder statistics of its codes, attribute heads, and the latent network.

``python -m scripts.finish_face_diffae weights/face_diffae.safetensors`` adds mean, deviation and latent network to the
file that ``train_diffae`` wrote, and writes the heads to ``weights/edits/attributes/``. Codes of training faces only;
ten minutes on a CPU. With ``--resume`` it goes on with the latent network where it stopped.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from core.codes import CodeSpace
from core.faces.code_labels import NUMBERS, YES_NO, numbers, yes_no
from core.faces.factors import Factors, sample
from core.faces.seen import seen
from core.files.diffae import load_autoencoder, save_autoencoder
from core.files.heads import save_heads
from core.measure.auroc import auroc
from core.networks.heads import Heads
from core.networks.latent_mlp import LatentConfig, LatentMLP
from core.own_file import KEY
from core.train.heads import METHODS, fit_heads, with_statistics
from core.train.latent_prior import LatentSettings, train_latent
from core.train.session import Console, ScriptSession

HELD_OUT = 512


def labels(factors: Factors) -> dict[str, Tensor]:
    """List what every face shows, `[b]` by name: yes or no as 0 and 1, the rest in shares of its range."""
    known = dict(zip(YES_NO, yes_no(factors).unbind(1), strict=True))
    return known | {n.replace("_", " "): v for n, v in zip(NUMBERS, numbers(factors).unbind(1), strict=True)}


def report(heads: Heads, codes: Tensor, factors: Factors) -> dict[str, float]:
    """Report on faces not seen: AUROC of every yes or no, correlation of every number."""
    found = {}
    for (name, truth), score in zip(labels(factors).items(), heads.scores(codes).unbind(1), strict=True):
        found[name] = (
            auroc(score, truth) if name in YES_NO else float(torch.corrcoef(torch.stack([score, truth]))[0, 1])
        )
    return found


def add_to_model(path: Path, space: CodeSpace, latent: LatentMLP | None, faces: int) -> None:
    """Add statistics and latent network to the file of an autoencoder, whose weights and facts stay."""
    with safe_open(path, "pt") as f:
        facts = json.loads(f.metadata()[KEY])
    save_autoencoder(
        path, replace(load_autoencoder(path), space=space, latent=latent), half=True, more={**facts, "codes": faces}
    )


def main() -> None:
    """Finish an embedded autoencoder: statistics, latent network and attribute heads."""
    p = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    p.add_argument("model", type=Path)
    p.add_argument("--heads", type=Path, default=None, help="where the heads go")
    p.add_argument("--faces", type=int, default=12_000, help="that are encoded")
    p.add_argument("--method", choices=METHODS, default="ridge-lda")
    p.add_argument("--ridge", type=float, default=1.0)
    p.add_argument("--steps", type=int, default=8_000, help="of the latent network; 0 for none")
    p.add_argument("--batch", type=int, default=256)
    p.add_argument("--lr", type=float, default=1e-3)
    p.add_argument("--average", type=float, default=0.999, help="decay of the latent network's moving average")
    p.add_argument("--hidden", type=int, default=256, help="width of the latent network")
    p.add_argument("--layers", type=int, default=6)
    p.add_argument("--state", type=Path, default=None, help="training state for --resume")
    p.add_argument("--resume", action="store_true")
    p.add_argument("--seed", type=int, default=51)
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    a = p.parse_args()
    a.heads = a.heads or a.model.parent / "edits" / "attributes" / a.model.name
    a.state = a.state or Path("output") / f"{a.model.stem}_latent_state.safetensors"
    made, started = load_autoencoder(a.model), time.perf_counter()
    net = made.net.to(a.device)
    factors = sample(a.faces, torch.Generator().manual_seed(a.seed))
    unseen = sample(HELD_OUT, torch.Generator().manual_seed(a.seed + 1), held_out=True)
    codes, other = (seen(faces, net.encoder, device=a.device)[0] for faces in (factors, unseen))
    space = with_statistics(CodeSpace(made.space.shape, made.fingerprint), codes, typical=True)
    print(f"{a.faces} faces encoded in {time.perf_counter() - started:.0f} s", flush=True)
    heads = fit_heads(codes, labels(factors), space, a.method, a.ridge)
    a.heads.parent.mkdir(parents=True, exist_ok=True)
    save_heads(a.heads, heads)
    print("  ".join(f"{name} {value:.3f}" for name, value in report(heads, other, unseen).items()), flush=True)
    add_to_model(a.model, space, made.latent, a.faces)
    if a.steps:
        config = LatentConfig(space.size, a.hidden, a.layers, 128, 64)
        add_to_model(a.model, space, _latent(a, config, codes.to(a.device), space), a.faces)
    print(
        f"{a.model}: {a.model.stat().st_size / 2**20:.1f} MB, {(time.perf_counter() - started) / 60:.1f} minutes on"
        f" {a.device}"
    )


def _latent(a: argparse.Namespace, config: LatentConfig, codes: Tensor, space: CodeSpace) -> LatentMLP:
    facts = {
        "model": space.fingerprint,
        "faces": a.faces,
        "batch": a.batch,
        "lr": a.lr,
        "seed": a.seed,
        "average": a.average,
    }
    session = ScriptSession(a.state, facts, resume=a.resume, console=Console("latent network"))
    settings = LatentSettings(a.steps, a.batch, a.lr, a.average, a.seed)
    return train_latent(codes, space, config, settings, session=session)


if __name__ == "__main__":
    main()
