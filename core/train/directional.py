"""Directional loss of an edit in an image-text space (StyleGAN-NADA, arXiv 2108.00946, eq. 3; DiffusionCLIP, eq. 6)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from ..embedder import Embedder
from ..foreign import named
from ..trajectory import Trajectory
from .blur import blurred

Decode = Callable[[Tensor], Tensor]
"""Denoised state -> picture `[b 3 h w]` in -1..1; the identity for pixel models."""
TEMPLATES = (
    "{}",
    "a photo of {}",
    "a picture of {}",
    "a portrait of {}",
    "a good photo of {}",
    "a bad photo of {}",
    "a close-up photo of {}",
    "a bright photo of {}",
    "a dark photo of {}",
    "a cropped photo of {}",
    "a blurry photo of {}",
    "a low resolution photo of {}",
    "a painting of {}",
    "a rendering of {}",
    "a drawing of {}",
    "a sketch of {}",
    "the {}",
    "itap of {}",
)
"""A prompt is embedded in each and averaged; a subset of CLIP's ImageNet templates that suits pictures of people and
places."""
_SAME = 1e-3
LONGEST = 140
"""Characters of a prompt: two of them are the label of what was trained."""


@dataclass(frozen=True)
class PromptPair:
    """Two prompts, and the embedder that knows the way from one to the other.

    Attributes:
        embedder: of pictures and prompts.
        source: what the pictures show.
        target: what they are to show.
    """

    embedder: Embedder
    source: str
    target: str

    @property
    def label(self) -> str:
        """Name the pair for people."""
        return f"{self.source} > {self.target}"

    def direction(self, device: torch.device | str = "cpu") -> tuple[Tensor, float]:
        """See :func:`text_direction`."""
        direction, cosine = text_direction(self.embedder, self.source, self.target)
        return direction.to(device), cosine


def text_direction(
    embedder: Embedder, source: str, target: str, *, names: tuple[str, str] = ("source", "target")
) -> tuple[Tensor, float]:
    """Compute the unit direction `[d]` from one prompt to another, and the cosine between the two.

    Args:
        embedder: of both.
        source: what is there.
        target: what is to be.
        names: of the inputs that they come from, for errors.

    Raises:
        ValueError: an empty prompt, or two that mean the same to this embedder.
    """
    for name, prompt in zip(names, (source, target), strict=True):
        if len(prompt) > LONGEST or not prompt.isprintable():
            raise ValueError(
                f"the {name} prompt must be one line of at most {LONGEST} characters, got {len(prompt)}; shorten it"
            )
        if not prompt.strip():
            raise ValueError(
                f"the {name} prompt is empty; say what the pictures show now and what they are to show, such as 'face'"
                " and 'smiling face'"
            )
    a, b = (averaged(embedder, prompt.strip(), name) for name, prompt in zip(names, (source, target), strict=True))
    cosine = float(a @ b)
    if _words(source) == _words(target) or float((b - a).norm()) < _SAME:
        raise ValueError(
            f"{names[0]} and {names[1]} mean the same ({source!r}, {target!r}); name in {names[1]} what is to change"
        )
    return F.normalize(b - a, dim=0), cosine


def _words(prompt: str) -> list[str]:
    return [w for w in re.findall(r"\w+", prompt.lower()) if w not in ("a", "an", "the")]


def averaged(embedder: Embedder, prompt: str, name: str = "prompt") -> Tensor:
    """Embed a prompt as a unit vector `[d]`, the mean over :data:`TEMPLATES`.

    Raises:
        ValueError: nothing in it that the embedder knows; the input is named.
    """
    with named(name):
        return F.normalize(embedder.embed_text([t.format(prompt) for t in TEMPLATES]).mean(0), dim=0)


def directional(embedder: Embedder, images: Tensor, origin: Tensor, direction: Tensor, log: bool = True) -> Tensor:
    """Compute ``1 - cos(E(images) - E(origin), direction)`` of each sample, `[b]`.

    Args:
        embedder: of the direction.
        images: edited pictures `[b 3 h w]` in -1..1, with a graph.
        origin: embeddings of the unedited ones, `[b d]`.
        direction: unit `[d]`.
        log: as the released codes of DiffusionCLIP and Asyrp have it, ``-log((2 - L) / 2)``: steeper where nothing has
            moved yet.
    """
    moved = embedder.embed_image(images) - origin
    # An unmoved picture has no direction; the floor keeps its gradient finite.
    loss = 1 - (moved @ direction) / moved.square().sum(1).add(1e-8).sqrt()
    return -((2 - loss).clamp_min(1e-4) / 2).log() if log else loss


def guided(embedder: Embedder, images: Tensor, originals: Tensor, direction: Tensor, blur: float = 0.0) -> Tensor:
    """Average :func:`directional` in its log form.

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


class Guidance(Protocol):
    """Settings of a training that prompts guide.

    Attributes:
        batch: pictures at a time.
        clip_weight: of the directional loss in its log form.
        blur: of the pictures before they are embedded, a share of their side.
    """

    @property
    def batch(self) -> int: ...  # noqa: D102
    @property
    def clip_weight(self) -> float: ...  # noqa: D102
    @property
    def blur(self) -> float: ...  # noqa: D102


class Guide:
    """The directional loss of what becomes of the pictures of a trajectory.

    Args:
        prompts: what the pictures show, and what they are to show.
        trajectory: of the pictures.
        settings: of the training.
        decode: for models of latents.

    Attributes:
        cosine: between the two prompts.

    Raises:
        ValueError: prompts that say nothing.
    """

    def __init__(self, prompts: PromptPair, trajectory: Trajectory, settings: Guidance, decode: Decode | None = None):
        self.embedder = prompts.embedder
        self.x0 = trajectory.x0
        self.settings = settings
        self.decode = decode or (lambda x: x)
        self.direction, self.cosine = prompts.direction(trajectory.states.device)

    @cached_property
    def pictures(self) -> Tensor:
        """Decode the pictures of the trajectory, `[n 3 h w]`; only when training begins."""
        with torch.no_grad():
            return torch.cat([self.decode(part) for part in self.x0.split(self.settings.batch)])

    def loss(self, denoised: Tensor, rows: Tensor) -> Tensor:
        """Compute the weighted loss of ``denoised`` `[b c h w]`, which were the pictures ``rows`` `[b]`."""
        originals = self.pictures[rows]
        moved = guided(self.embedder, self.decode(denoised), originals, self.direction, self.settings.blur)
        return self.settings.clip_weight * moved


def similarity(embedder: Embedder, images: Tensor, origin: Tensor, texts: Sequence[str]) -> Tensor:
    """Measure S_dir of a finished edit: the cosine between how picture and text moved, `[b]`.

    ``images``, ``origin`` `[b 3 h w]`.
    """
    direction = text_direction(embedder, *texts)[0].to(images.device)
    with torch.no_grad():
        return F.cosine_similarity(embedder.embed_image(images) - embedder.embed_image(origin), direction[None], dim=1)
