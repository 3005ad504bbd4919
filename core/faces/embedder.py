"""The image-text embedder of the face world: two small towers, trained by ``train_embedder``.

CLIP, arXiv 2103.00020.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..files.kinds import FACE_EMBEDDER
from .shipped import convolutions, load_shipped
from .words import ATTRIBUTES, HUES, SUBJECTS

SIZE = 64
WIDTHS = (32, 64, 96, 128)
DIM = 128
LONGEST = 48
SPACE = "hspace face world 1"
_GLUE = ("a", "an", "the", "of", "with", "and", "in", "wearing", "has", "having")
WORDS = tuple(
    sorted(
        {w for a in ATTRIBUTES for phrases in a.phrases for p in phrases for w in p.split()}
        | {*SUBJECTS, *_GLUE, *HUES}
    )
)
# Of the sentences that a prompt is averaged over (core.train.directional); they say nothing of a face.
_FILLERS = (
    "at bad blurry bright close cropped drawing good itap low painting rendering resolution sketch up who is very"
)
_PASSED = frozenset(_FILLERS.split())
_NUMBER = {word: i + 1 for i, word in enumerate(WORDS)}  # 0 pads


def tokens(prompts: Sequence[str]) -> Tensor:
    """Convert sentences to word numbers `[b n]`, padded with 0.

    Raises:
        ValueError: no prompt, one without a single word that says something, or a word that the face world has not.
    """
    if not prompts:
        raise ValueError("there is no prompt to embed")
    rows = []
    for prompt in prompts:
        words = re.findall(r"[^\W\d_]+", prompt.lower())
        unknown = [w for w in words if w not in _NUMBER and w not in _PASSED]
        row = [_NUMBER[w] for w in words if w in _NUMBER][:LONGEST]
        if unknown or not any(WORDS[i - 1] not in _GLUE for i in row):
            known = ", ".join(w for w in WORDS if w not in _GLUE)
            what = (
                f"knows not {unknown[0]!r:.60} of {prompt!r:.200}"
                if unknown
                else f"knows no word that says something in {prompt!r:.200}"
            )
            raise ValueError(f"the face embedder {what}; it knows {known}")
        rows.append(row)
    width = max(map(len, rows))
    return torch.tensor([row + [0] * (width - len(row)) for row in rows])


class FaceEmbedder(nn.Module):
    """Pictures of 64 pixels and sentences about them in one space of 128 dimensions."""

    space = SPACE

    def __init__(self) -> None:
        super().__init__()
        self.features = convolutions(WIDTHS)
        self.picture = nn.Sequential(nn.Flatten(), nn.Linear(WIDTHS[-1] * 16, 256), nn.SiLU(), nn.Linear(256, DIM))
        self.words = nn.Embedding(len(WORDS) + 1, DIM, padding_idx=0)
        self.places = nn.Parameter(0.02 * torch.randn(LONGEST, DIM))
        layer = nn.TransformerEncoderLayer(DIM, 4, 2 * DIM, 0.0, "gelu", batch_first=True, norm_first=True)
        self.sentence = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.meaning = nn.Linear(DIM, DIM)
        self.scale = nn.Parameter(torch.tensor(2.5))
        self.info: dict = {}

    def embed_image(self, images: Tensor) -> Tensor:
        """See :class:`core.embedder.Embedder`."""
        if images.shape[-1] != SIZE or images.shape[-2] != SIZE:
            images = F.interpolate(images, (SIZE, SIZE), mode="bilinear", antialias=True)
        return F.normalize(self.picture(self.features(images)), dim=-1)

    def sentences(self, numbers: Tensor) -> Tensor:
        """Embed word numbers `[b n]` as unit vectors `[b d]`, with a graph."""
        present = numbers > 0
        x = self.sentence(self.words(numbers) + self.places[: numbers.shape[1]], src_key_padding_mask=~present)
        mean = (x * present[..., None]).sum(1) / present.sum(1, keepdim=True)
        return F.normalize(self.meaning(mean), dim=-1)

    @torch.no_grad()
    def embed_text(self, prompts: Sequence[str]) -> Tensor:
        """See :class:`core.embedder.Embedder`."""
        return self.sentences(tokens(prompts).to(self.places.device))


def load_embedder(path: str | Path, device: torch.device | str = "cpu") -> FaceEmbedder:
    """Load the shipped embedder.

    Raises:
        ValueError: the file is missing or is not an embedder of this version.
    """
    net, facts = load_shipped(FaceEmbedder(), path, FACE_EMBEDDER, "face embedder")
    net.info = facts
    return net.to(device)
