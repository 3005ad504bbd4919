"""Training of the delta mapper on pairs of pictures, without a word (Lyu et al. 2023, arXiv 2303.06285, eq. 2-4)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..files.code_edits import TrainedCodeEdit
from ..networks.deltaedit import DeltaMapper
from .code_readings import CodeEditSettings, EncodedPictures, ridge
from .run import Optimiser, Run, Session, cosine

RIDGE = 0.01
_PAIRS = 20_000
_LAST_LOSSES = 50


def train_delta_mapper(
    pictures: EncodedPictures,
    embedder: str,
    settings: CodeEditSettings | None = None,
    *,
    label: str = "",
    session: Session | None = None,
) -> TrainedCodeEdit:
    """Fit a mapper from a picture's code and embedding and a change of embeddings to the change of codes.

    Args:
        pictures: to be paired at random.
        embedder: names the space of their embeddings.
        settings: how.
        label: for people.
        session: what the caller does beside the run.

    Raises:
        ValueError: too few pictures, or codes and embeddings that do not belong together.
        RuntimeError: the loss is not finite.
    """
    settings = settings or CodeEditSettings()
    space, normal, embeddings = pictures.normalised()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        net = DeltaMapper(space.shape, embeddings.shape[1], settings.width)
    _measure(net, normal, embeddings, settings.seed)
    net.to(pictures.codes.device).requires_grad_(True)
    run = Run(net, Optimiser(settings.lr), settings.steps, session)

    def loss(generator: torch.Generator) -> Tensor:
        first, second = _pairs(len(normal), settings.batch, generator, normal.device)
        change = normal[second] - normal[first]
        way = F.normalize(embeddings[second] - embeddings[first], dim=1)
        mapped = net(normal[first], embeddings[first], way)
        angle = 1 - F.cosine_similarity(mapped, change, dim=1)
        return F.mse_loss(mapped, change) + angle.mean()

    run.train(loss, settings.seed, cosine)
    net.load_state_dict(run.best)
    last = run.losses[-_LAST_LOSSES:]
    extra = {
        "steps": settings.steps,
        "pictures": len(normal),
        "loss": round(sum(last) / len(last), 4),
    }
    return TrainedCodeEdit(net.requires_grad_(False).eval(), space, embedder, label, extra)


def _pairs(count: int, batch: int, generator: torch.Generator, device: torch.device) -> tuple[Tensor, Tensor]:
    """Draw the numbers of two different pictures each."""
    first = torch.randint(0, count, (batch,), generator=generator)
    further = torch.randint(1, count, (batch,), generator=generator)
    second = (first + further) % count
    return first.to(device), second.to(device)


@torch.no_grad()
def _measure(net: DeltaMapper, normal: Tensor, embeddings: Tensor, seed: int) -> None:
    """Store what an edit needs besides the mapping, see the attributes of :class:`DeltaMapper`."""
    generator = torch.Generator().manual_seed(seed)
    first, second = _pairs(len(normal), _PAIRS, generator, normal.device)
    code_change = normal[second] - normal[first]
    embedding_change = embeddings[second] - embeddings[first]
    net.length.copy_(code_change.norm(dim=1).median())
    relevance = ridge(code_change, embedding_change, RIDGE, offset=False)
    net.relevance.copy_(F.normalize(relevance, dim=1))
    net.guess.copy_(ridge(normal, embeddings, RIDGE))
