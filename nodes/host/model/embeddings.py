"""Pictures through an embedder, where no gradient is needed."""

from __future__ import annotations

import comfy.model_management
import torch
from torch import Tensor

from .clip import HostEmbedder
from .images import from_image

_BATCH = 64


@torch.no_grad()
def embedded(embedder, image: Tensor, name: str = "image") -> Tensor:
    """IMAGE `[b h w c]` -> unit embeddings `[b e]` on the CPU.

    Raises:
        ValueError: the picture is refused.
    """
    pictures = from_image(image, name)
    rows = []
    if isinstance(embedder, HostEmbedder):
        embedder.load()
        device = pictures.device  # it moves them itself
    else:
        device = next(embedder.parameters()).device
    for part in pictures.split(_BATCH):
        comfy.model_management.throw_exception_if_processing_interrupted()
        rows.append(embedder.embed_image(part.to(device)).float().cpu())
    return torch.cat(rows)
