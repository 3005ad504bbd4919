"""A diffusion autoencoder and an embedder that a gradient runs through, for losses on pictures (PADA, arXiv
2303.11086).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import comfy.model_management
import torch
from torch import Tensor

from ....core.codes import CodeSpace
from ....core.train.memory import needed
from ....core.train.pada_judge import ImageLosses, one_step
from ..training import gradients, networks_of, ordinary
from ..types import Model
from .coded_model import check_coded
from .images import pixels

_GRAPH = 8  # forward passes whose memory a graph takes, roughly


@contextmanager
def image_losses(model: Model, embedder, space: CodeSpace, image: Tensor) -> Iterator[tuple[ImageLosses, int]]:
    """Judgement on pictures by a MODEL, which is on its device. Inside, autograd works and both networks are frozen.
    With it, what a step takes in bytes.

    Args:
        model: MODEL, a diffusion autoencoder.
        embedder: of the guides.
        space: of the codes that are trained on.
        image: IMAGE of these codes, `[n h w c]`.

    Raises:
        ValueError: another kind of model, or not that of the codes; pictures of a size that it does not take.
    """
    net = check_coded(model)
    if net.space.fingerprint != space.fingerprint:
        raise ValueError(
            f"the codes were made by another model ({space.fingerprint}) than the one connected"
            f" ({net.space.fingerprint}); connect the MODEL that went into Encode Semantic Code, or none to judge codes"
            " alone"
        )
    pictures = pixels(model, image).cpu()
    comfy.model_management.load_models_gpu(
        [model], memory_required=model.memory_required([_GRAPH * ImageLosses.rows, *pictures.shape[1:]])
    )
    guides = networks_of(embedder, model.load_device)
    with gradients(net, *guides):
        losses = ImageLosses(
            ordinary(pictures), one_step(net.net, net.schedule, net.prediction), embedder, model.load_device
        )
        code = torch.zeros(1, *space.shape, device=model.load_device, requires_grad=True)

        def once() -> Tensor:
            shown = losses.predict(losses.pictures[:1].to(code), code.new_ones(1), code)
            return embedder.embed_image(shown).sum()

        yield losses, needed(once, losses.rows, torch.nn.Module(), [net, *guides])
