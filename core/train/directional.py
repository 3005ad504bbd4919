"""Directional loss of an edit in an image-text space (StyleGAN-NADA, Gal et al. 2021, arXiv 2108.00946, eq. 3; DiffusionCLIP, eq. 6)."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..embedder import Embedder
from .blur import blurred

TEMPLATES = (
    "{}", "a photo of {}", "a picture of {}", "a portrait of {}", "a good photo of {}", "a bad photo of {}", "a close-up photo of {}",
    "a bright photo of {}", "a dark photo of {}", "a cropped photo of {}", "a blurry photo of {}", "a low resolution photo of {}",
    "a painting of {}", "a rendering of {}", "a drawing of {}", "a sketch of {}", "the {}", "itap of {}",
)  # fmt: skip
"""A prompt is embedded in each and averaged; a subset of CLIP's ImageNet templates that suits pictures of people and places."""
_SAME = 1e-3
LONGEST = 140
"""Characters of a prompt: two of them are the label of what was trained."""


def text_direction(embedder: Embedder, source: str, target: str) -> tuple[Tensor, float]:
    """Unit direction `[d]` from one prompt to another, and the cosine between the two.

    Raises:
        ValueError: an empty prompt, or two that mean the same to this embedder.
    """
    for name, prompt in (("source", source), ("target", target)):
        if len(prompt) > LONGEST or not prompt.isprintable():
            raise ValueError(f"the {name} prompt must be one line of at most {LONGEST} characters, got {len(prompt)}; shorten it")
        if not prompt.strip():
            raise ValueError(
                f"the {name} prompt is empty; say what the pictures show now and what they are to show, such as 'face' and 'smiling face'"
            )
    a, b = (averaged(embedder, prompt.strip()) for prompt in (source, target))
    cosine = float(a @ b)
    if _words(source) == _words(target) or float((b - a).norm()) < _SAME:
        raise ValueError(f"the two prompts mean the same to the embedder ({source!r}, {target!r}); name in the target what is to change")
    return F.normalize(b - a, dim=0), cosine


def _words(prompt: str) -> list[str]:
    return [w for w in re.findall(r"\w+", prompt.lower()) if w not in ("a", "an", "the")]


def averaged(embedder: Embedder, prompt: str) -> Tensor:
    """Unit embedding `[d]` of a prompt, the mean over :data:`TEMPLATES`."""
    return F.normalize(embedder.embed_text([t.format(prompt) for t in TEMPLATES]).mean(0), dim=0)


def directional(embedder: Embedder, images: Tensor, origin: Tensor, direction: Tensor, log: bool = True) -> Tensor:
    """``1 - cos(E(images) - E(origin), direction)`` of each sample, `[b]`.

    Args:
        embedder: of the direction.
        images: edited pictures `[b 3 h w]` in -1..1, with a graph.
        origin: embeddings of the unedited ones, `[b d]`.
        direction: unit `[d]`.
        log: as the released codes of DiffusionCLIP and Asyrp have it, ``-log((2 - L) / 2)``: steeper where nothing has moved yet.
    """
    moved = embedder.embed_image(images) - origin
    # An unmoved picture has no direction; the floor keeps its gradient finite.
    loss = 1 - (moved @ direction) / moved.square().sum(1).add(1e-8).sqrt()
    return -((2 - loss).clamp_min(1e-4) / 2).log() if log else loss


def guided(embedder: Embedder, images: Tensor, originals: Tensor, direction: Tensor, blur: float = 0.0) -> Tensor:
    """The mean of :func:`directional` in its log form.

    Args:
        embedder: of the direction.
        images: edited pictures `[b 3 h w]` in -1..1, with a graph.
        originals: the unedited ones.
        direction: unit `[d]`.
        blur: of both before they are embedded, see :func:`core.train.blur.blurred`.
    """
    with torch.no_grad():
        origin = embedder.embed_image(blurred(originals, blur))
    return directional(embedder, blurred(images, blur), origin, direction).mean()


def similarity(embedder: Embedder, images: Tensor, origin: Tensor, texts: Sequence[str]) -> Tensor:
    """S_dir of a finished edit: cosine between how the picture and how the text moved, `[b]`. ``images``, ``origin`` `[b 3 h w]`."""
    direction = text_direction(embedder, *texts)[0].to(images.device)
    with torch.no_grad():
        return F.cosine_similarity(embedder.embed_image(images) - embedder.embed_image(origin), direction[None], dim=1)
