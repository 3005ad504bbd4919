"""Train the editors that come with the pack: ``python -m scripts.train_face_editors``.

They are Asyrp, DiffusionCLIP and the rectifier on the face world.

Every editor is a file in ``weights/edits``; what it took to train is in its metadata.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from core.faces.embedder import load_embedder
from core.faces.factors import Factors, sample
from core.faces.render import render
from core.files.asyrp import save_asyrp
from core.files.checkpoint import load_denoiser
from core.files.diffusionclip import save_weights
from core.files.rectifier import TrainedRectifier, load_rectifier, save_rectifier
from core.invert.ddim import invert_ddim
from core.networks.asyrp import new_asyrp
from core.networks.rectifier import RectifierNet
from core.networks.vp import VPDenoiser
from core.networks.weight_difference import thinned
from core.sample import reconstruct
from core.schedule import karras
from core.train.asyrp import AsyrpSettings, train_asyrp
from core.train.diffusionclip import DiffusionClipSettings, train_diffusionclip
from core.train.directional import PromptPair
from core.train.rectifier import FrozenNetwork, RectifierSettings, train_rectifier
from core.train.rectifier_edit import RectifierEditSettings, train_rectifier_edit
from core.trajectory import Trajectory
from core.weights_folder import weights_folder

WEIGHTS = weights_folder()
EDITS = {
    "smile": ("face", "smiling face"),
    "red hair": ("face", "face with red hair"),
    "glasses": ("face", "face with glasses"),
    "grey hair": ("face", "face with grey hair"),
}
"""Name of a file -> what the pictures show, and what they are to show."""
SYSTEMS = ("asyrp", "finetuned", "rectifier")
PICTURES, SEED = 32, 11
START = 4.0
"""Noisiest level of fine-tuning and rectifier: hair and glasses of the face world are still open there, its backgrounds
hardly."""
ASYRP = {
    "smile": (4.0, 0.5, 2, 10.0),
    "red hair": (20.0, 1.0, 2, 2.0),
    "glasses": (20.0, 1.0, 4, 2.0),
    "grey hair": (20.0, 1.0, 2, 4.0),
}
"""Name -> noisiest and lowest level, epochs, weight of L1: what is settled in the coarse steps has to be edited
there."""
BLUR = {"smile": 0.008, "red hair": 0.02, "glasses": 0.02, "grey hair": 0.02}
"""Name -> blur in fine-tuning: without it the network draws fine patterns, with more of it a mouth smears."""
EDIT_STEPS = 300  # of the optimiser, for an edit of the rectifier
CODE = 24  # files stay below 3 MB


def training_faces(count: int = PICTURES) -> tuple[Factors, Tensor]:
    """Render the faces that every editor is trained on; return them and their pictures in -1..1."""
    factors = sample(count, torch.Generator().manual_seed(SEED))
    return factors, render(factors, 64)[0] * 2 - 1


def inverted(model: VPDenoiser, pictures: Tensor, steps: int, top: float) -> Trajectory:
    """Invert them by plain DDIM."""
    return reconstruct(model, invert_ddim(model, pictures, karras(steps, top)))


def main() -> None:
    """Train the embedded editors."""
    p = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    p.add_argument("--systems", nargs="*", choices=SYSTEMS, default=list(SYSTEMS))
    p.add_argument("--edits", nargs="*", choices=list(EDITS), default=list(EDITS))
    p.add_argument("--out", type=Path, default=WEIGHTS / "edits")
    a = p.parse_args()
    model = load_denoiser(WEIGHTS / "face_model.safetensors")
    embedder = load_embedder(WEIGHTS / "face_embedder.safetensors")
    pictures = training_faces()[1]
    for system in a.systems:
        folder = a.out / system
        folder.mkdir(parents=True, exist_ok=True)
        {"asyrp": _asyrp, "finetuned": _finetuned, "rectifier": _rectifiers}[system](
            model, embedder, pictures, folder, a.edits
        )


def _asyrp(model: VPDenoiser, embedder, pictures: Tensor, folder: Path, edits: list[str]) -> None:
    channels = model.split(pictures[:1], pictures.new_ones(1)).h.shape[1]
    for name in edits:
        top, low, epochs, l1_weight = ASYRP[name]
        path = inverted(model, pictures, 20, top)
        started = time.perf_counter()
        delta = new_asyrp(model.net, channels, model.schedule.sigmas, SEED)
        settings = AsyrpSettings(
            low, epochs=epochs, batch=4, lr=2e-3, optimiser="adam", clip_weight=1.0, l1_weight=l1_weight, seed=SEED
        )
        found = train_asyrp(model, path, delta, PromptPair(embedder, *EDITS[name]), settings)
        seconds = time.perf_counter() - started
        _said(
            save_asyrp(
                folder / f"{name}.safetensors", replace(found, extra={**found.extra, "seconds": round(seconds, 1)})
            ),
            seconds,
        )


def _finetuned(model: VPDenoiser, embedder, pictures: Tensor, folder: Path, edits: list[str]) -> None:
    path = inverted(model, pictures, 20, START)
    for name in edits:
        started = time.perf_counter()
        settings = DiffusionClipSettings(
            efficient=False, batch=4, lr=5e-5, growth=1.0, l1_weight=2.0, blur=BLUR[name], seed=SEED
        )
        found = train_diffusionclip(model, path, PromptPair(embedder, *EDITS[name]), settings)
        seconds = time.perf_counter() - started
        thin, kept = thinned(found, 16)
        facts = {**thin.extra, "seconds": round(seconds, 1), "rank": 16, "kept": round(kept, 3)}
        _said(save_weights(folder / f"{name}.safetensors", replace(thin, extra=facts)), seconds)


def _rectifiers(model: VPDenoiser, embedder, pictures: Tensor, folder: Path, edits: list[str]) -> None:
    plain = folder / "reconstruction.safetensors"
    if not plain.exists():
        started = time.perf_counter()
        net = RectifierNet.of(model.net, model.schedule.sigmas, code=CODE, seed=SEED)
        path = inverted(model, training_faces(2 * PICTURES)[1], 50, START)
        settings = RectifierSettings(steps=1500, batch=4, lr=2e-3, seed=SEED)
        found = train_rectifier(FrozenNetwork(model, model.net), path, net, settings)
        seconds = time.perf_counter() - started
        _said(save_rectifier(plain, _trained(found, model, False, "reconstruction", seconds)), seconds)
    first, path = load_rectifier(plain).rectifier, inverted(model, pictures, 50, START)
    for name in edits:
        started = time.perf_counter()
        edit = RectifierEditSettings(START, steps=EDIT_STEPS, batch=4, lr=1e-3, seed=SEED)
        prompts = PromptPair(embedder, *EDITS[name])
        found = train_rectifier_edit(FrozenNetwork(model, model.net), path, first, prompts, edit)
        seconds = time.perf_counter() - started
        label = " > ".join(EDITS[name])
        _said(save_rectifier(folder / f"{name}.safetensors", _trained(found, model, True, label, seconds)), seconds)


def _trained(net: RectifierNet, model: VPDenoiser, edit: bool, label: str, seconds: float) -> TrainedRectifier:
    return TrainedRectifier(net, model.fingerprint, edit, START, label, {"seconds": round(seconds, 1)})


def _said(file: Path, seconds: float) -> None:
    print(f"{file}: {file.stat().st_size / 2**20:.2f} MB, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
