"""Train the embedded delta mapper and PADA (arXiv 2303.06285, 2303.11086) on codes of the renderer's stream.

``python -m scripts.train_face_code_editors --model weights/face_diffae.safetensors``. Faces are rendered and encoded
once; the rest is vectors and takes minutes on a CPU. The face world has no age. Its sign of age is grey hair; length
and shade of hair are left free to vary with it, everything else is held.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from core.faces.embedder import load_embedder
from core.faces.factors import HAIR_COLORS, Factors, sample
from core.faces.regressor import SLICES, encode
from core.faces.seen import seen
from core.files.code_edits import TrainedCodeEdit, save_code_edit
from core.files.diffae import load_autoencoder
from core.train.code_readings import CodeEditSettings, EncodedPictures
from core.train.deltaedit import train_delta_mapper
from core.train.pada import AgeLabels, PadaSettings, PadaWeights, train_pada
from core.train.pada_judge import ImageLosses, one_step
from core.train.session import Console, ScriptSession, write_anyway
from core.weights_folder import weights_folder

SEED = 17
AGE = "grey hair, the face world's sign of age"
FREE = ("hair_color", "hair_length", "hair_shade")
"""What may change with age; every other factor is held."""
SIGNS = ("grey", *(color for color in HAIR_COLORS if color != "grey"))
"""Colours of hair, the age first: young hair has one of the others."""
TEXTS = [(f"face with {color} hair", [float(color == sign) for sign in SIGNS]) for color in SIGNS]
SETTINGS = {
    "delta_mapper": {"steps": 4000, "batch": 128, "lr": 1e-3, "width": 256},
    "pada": {"steps": 2000, "batch": 64, "lr": 1e-3, "width": 192},
}


def judged(factors: Factors) -> tuple[Tensor, Tensor]:
    """Read signs of age `[n s]`, 1 in the first for grey hair, and all that age leaves alone `[n k]`."""
    scores = encode(factors)
    kept = [scores[:, part] for name, part in SLICES.items() if name not in FREE]
    return torch.stack([(factors["hair_color"] == HAIR_COLORS.index(sign)).float() for sign in SIGNS], 1), torch.cat(
        kept, 1
    )


def main() -> None:
    """Train the embedded editors of codes."""
    p = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    p.add_argument(
        "--model",
        type=Path,
        default=weights_folder() / "face_diffae.safetensors",
        help="DiffAE or HDAE of the face world",
    )
    p.add_argument("--embedder", type=Path, default=weights_folder() / "face_embedder.safetensors")
    p.add_argument("--methods", nargs="*", choices=list(SETTINGS), default=list(SETTINGS))
    p.add_argument(
        "--out", type=Path, default=weights_folder() / "edits", help="files go to delta_mapper/ and pada/ in it"
    )
    p.add_argument("--faces", type=int, default=12_000)
    p.add_argument("--steps", type=int, default=0, help="of the optimiser; 0: as the embedded files were trained")
    p.add_argument(
        "--images", type=float, default=0.0, metavar="WEIGHT", help="of PADA's losses on pictures; 0: code space only"
    )
    p.add_argument("--resume", action="store_true")
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    a = p.parse_args()
    source = load_autoencoder(a.model)
    net = source.net.to(a.device)
    embedder = load_embedder(a.embedder, a.device)
    started = time.perf_counter()
    factors = sample(a.faces, torch.Generator().manual_seed(SEED))
    codes, embeddings, *pictures = seen(
        factors, net.encoder, embedder.embed_image, *([nn.Identity()] if a.images else []), device=a.device
    )
    codes, embeddings = codes.to(a.device), embeddings.to(a.device)
    images = (
        ImageLosses(pictures[0], one_step(net, source.schedule, source.prediction), embedder, a.device)
        if pictures
        else None
    )
    print(f"{a.faces} faces encoded in {time.perf_counter() - started:.0f} s", flush=True)
    for method in a.methods:
        settings = {**SETTINGS[method], **({"steps": a.steps} if a.steps else {})}
        if method == "delta_mapper" and net.config.levels:
            settings["width"] = 176  # a group of mappers a level: files stay below 2 MB
        file = a.out / method / f"{a.model.stem.removeprefix('face_')}.safetensors"
        state = Path("output") / f"{a.model.stem}_{method}_state.safetensors"
        started = time.perf_counter()
        facts = {"model": source.fingerprint, "faces": a.faces, **settings, **({"images": a.images} if images else {})}
        session = ScriptSession(state, facts, resume=a.resume, console=Console(method.replace("_", " ")))
        encoded, how = EncodedPictures(codes, source.space, embeddings), CodeEditSettings(**settings, seed=SEED)
        if method == "pada":
            found = train_pada(
                encoded,
                embedder,
                AgeLabels(*judged(factors)),
                TEXTS,
                PadaSettings(**vars(how), weights=PadaWeights(image=a.images)),
                images=images,
                label=AGE,
                session=session,
            )
        else:
            found = train_delta_mapper(encoded, embedder.space, how, label="the embedded faces", session=session)
        _write(file, found, time.perf_counter() - started)
        session.forget()


def _write(file: Path, found: TrainedCodeEdit, seconds: float) -> None:
    found.extra["seconds"] = round(seconds, 1)
    file = write_anyway(file, lambda path: save_code_edit(path, found))
    print(f"{file}: {file.stat().st_size / 2**20:.2f} MB, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
