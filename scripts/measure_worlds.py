"""Measure how hard the pictures of each embedded model's world are to denoise: ``python -m scripts.measure_worlds``.

It writes ``core/measure/known_worlds.py``, with ComfyUI's own network classes for the text model. The weights stay as
they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from core.api import EMBEDDED, _denoiser, load
from core.denoiser import Denoiser
from core.faces.factors import sample
from core.faces.render import render
from core.measure.domain import WorldReference, denoising_error, middle_level, reference_from

FACES, BATCH, SIDE = 256, 64, 64
FILE = Path("core/measure/known_worlds.py")
HEAD = '''"""How hard the worlds of the embedded models are to denoise, by the fingerprint of the model.

Written by ``python -m scripts.measure_worlds`` from 256 faces that are drawn as the training faces were.
"""

from __future__ import annotations

from .domain import WorldReference

KNOWN_WORLDS = {
'''


def training_faces() -> Tensor:
    """Faces drawn as those of the training, `[256 3 64 64]` in -1..1."""
    return render(sample(FACES, torch.Generator().manual_seed(1964)), SIDE)[0] * 2 - 1


def measured(model: Denoiser, faces: Tensor) -> WorldReference:
    """Measure one model on its own kind of pictures."""
    sigma = middle_level(SIDE)
    errors = torch.cat([denoising_error(model, part, sigma) for part in faces.split(BATCH)])
    return reference_from(errors, sigma, f"{len(faces)} drawn faces")


def coded(name: str, faces: Tensor) -> tuple[str, WorldReference]:
    """Measure an embedded model of the core; an autoencoder under the codes of the faces themselves."""
    model = load(name)
    sigma = middle_level(SIDE)
    parts = [denoising_error(_denoiser(model, part), part, sigma) for part in faces.split(BATCH)]
    return model.fingerprint, reference_from(torch.cat(parts), sigma, f"{len(faces)} drawn faces")


def text_model(faces: Tensor) -> tuple[str, WorldReference]:
    """Measure the text model under the empty prompt."""
    from devtools.inprocess import host, pack

    host(True)
    model, clip = pack("nodes.host.model.face_text").load_face_text(Path("weights/face_text.safetensors"))
    prompt = clip.encode_from_tokens_scheduled(clip.tokenize(""))
    run = pack("nodes.host.model.run")

    def work(denoiser):
        return denoiser.fingerprint, measured(denoiser, faces)

    return run.with_denoiser(model, (BATCH, *faces.shape[1:]), run.Prompts(prompt), work)


def rows() -> Iterator[str]:
    """Make the lines of the table."""
    faces = training_faces()
    found = {name: coded(name, faces) for name in EMBEDDED}
    found["face_text"] = text_model(faces)
    for name, (fingerprint, reference) in found.items():
        numbers = f"{reference.sigma:g}, {reference.quantiles}"
        yield f'    # {name}\n    "{fingerprint}": WorldReference({numbers}, "{reference.source}"),\n'


def main() -> None:
    """Measure all, and write the table."""
    FILE.write_text(HEAD + "".join(rows()) + "}\n", encoding="utf-8")


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
