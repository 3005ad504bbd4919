"""Training of PADA (Li et al. 2023, arXiv 2303.11086, section 3.3; forms of the losses after SAM, arXiv 2102.02754)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from ..embedder import Embedder
from ..files.code_edits import TrainedCodeEdit
from ..networks.pada import PADA, drawn, kl_to, spread
from .code_readings import CodeEditSettings, EncodedPictures
from .directional import averaged
from .pada_judge import ImageLosses, Judge, TextPairs, triplet
from .run import Optimiser, Run, Session, cosine

Texts = Sequence[tuple[str, float | Sequence[float]]]
"""What may be asked for, and its age 0..1 (or all of its signs)."""
# of three kinds of steps; the one between is guided by a text
_SELF = 0
_PICTURE = 2


@dataclass(frozen=True)
class PadaWeights:
    """Weights of the losses.

    Attributes:
        age: squared error of the age read off the code (0 young, 1 old).
        triplet: nearer to the target text than to the source text, in the image-text space.
        margin: of the triplet.
        identity: squared error of the other attributes.
        normal: Mahalanobis length of the change a coordinate, and of what lies outside of the codes of pictures.
        same: squared change where the target is the picture's own age.
        kl: of the ageing embedding's distribution.
        diversity: of how far ``seek`` is missed.
        seek: least ratio of the distance of two codes to that of their noises (mode seeking, arXiv 1903.05628), counted
            along what varies between pictures.
        image: of the losses on one-step pictures.
    """

    age: float = 20.0
    triplet: float = 1.0
    margin: float = 0.15
    identity: float = 2.0
    normal: float = 1.0
    same: float = 1.0
    kl: float = 0.1
    diversity: float = 30.0
    seek: float = 0.2
    image: float = 1.0


@dataclass(frozen=True)
class PadaSettings(CodeEditSettings):
    """How PADA is trained.

    Attributes:
        weights: of the losses.
    """

    weights: PadaWeights = field(default_factory=PadaWeights)


@dataclass(frozen=True)
class AgeLabels:
    """What is known of the training pictures.

    Attributes:
        ages: 0 young .. 1 old, `[n]`; or `[n s]` with further signs of age (0..1) behind it, such as what young hair
            can look like.
        others: attributes that are to stay, about -1..1, `[n k]`.
    """

    ages: Tensor
    others: Tensor


def train_pada(
    pictures: EncodedPictures,
    embedder: Embedder,
    labels: AgeLabels,
    texts: Texts,
    settings: PadaSettings | None = None,
    *,
    images: ImageLosses | None = None,
    label: str = "",
    session: Session | None = None,
) -> TrainedCodeEdit:
    """Fit the distribution, the change and its two heads; the autoencoder stays as it is.

    A third of the steps asks for the picture's own age, which is to change nothing; of the others half are guided by a
    text, half by another picture.

    Args:
        pictures: of all ages.
        embedder: of ``texts``, in the space of the pictures' embeddings.
        labels: ages and other attributes of the pictures.
        texts: at least a young and an old one.
        settings: how.
        images: also judge pictures; not looked at where their weight is 0.
        label: for people.
        session: what the caller does beside the run.

    Raises:
        ValueError: too few pictures, shapes that do not belong together, or texts of one age.
        RuntimeError: the loss is not finite.
    """
    settings = settings or PadaSettings()
    weights = settings.weights
    images = images if weights.image else None
    if images is not None and len(images.pictures) != len(pictures.codes):
        raise ValueError(
            f"{len(pictures.codes)} codes need the same pictures to be judged on, got {len(images.pictures)}"
        )
    space, normal, embeddings = pictures.normalised()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        net = PADA(space.shape, embeddings.shape[1], settings.width)
    net.to(pictures.codes.device).requires_grad_(True)
    asked = _Asked(embedder, normal, embeddings, labels, texts)
    run = Run(net, Optimiser(settings.lr), settings.steps, session)

    def loss_of(generator: torch.Generator) -> Tensor:
        batch = asked.draw(run.i % 3, settings.batch, net.embedding, generator)
        aged, loss = _code_loss(net, asked, batch, weights)
        if batch.texts is None:
            return loss
        pairs = TextPairs(*batch.texts, weights.margin)
        loss = loss + weights.triplet * triplet(asked.judge.embedding(aged), *pairs)
        if images is None:
            return loss
        shown = slice(0, images.rows)
        pairs = TextPairs(pairs.aim[shown], pairs.source[shown], weights.margin)
        return loss + weights.image * images.loss(space.restore(aged[shown]), batch.rows[shown], pairs, generator)

    run.train(loss_of, settings.seed, cosine)
    net.load_state_dict(run.best)
    extra = {
        "steps": settings.steps,
        "pictures": len(normal),
        "texts": len(texts),
        "images": images is not None,
    }
    return TrainedCodeEdit(net.requires_grad_(False).eval(), space, embedder.space, label, extra)


class _Batch(NamedTuple):
    """What one step asks for.

    Attributes:
        rows: numbers of the pictures `[b]`.
        start: their normalised codes `[b d]`.
        guide: embeddings `[b e]` of texts or pictures.
        aim: readings of age that are asked for `[b s]`; None: the picture's own, nothing is to change.
        noise: of two variants of each, `[2 b e]`.
        texts: embeddings of the texts asked for and of their opposites; None if it is no text that guides.
    """

    rows: Tensor
    start: Tensor
    guide: Tensor
    aim: Tensor | None
    noise: Tensor
    texts: tuple[Tensor, Tensor] | None


class _Asked:
    """The training pictures and texts, from which every step draws."""

    def __init__(self, embedder: Embedder, normal: Tensor, embeddings: Tensor, labels: AgeLabels, texts: Texts):
        self.normal = normal
        self.embeddings = embeddings
        self.ages = labels.ages.to(normal).reshape(len(labels.ages), -1)
        self.judge = Judge(normal, embeddings, self.ages, labels.others.to(normal))
        text_embeddings, levels = _embedded(embedder, texts)
        self.texts = text_embeddings.to(normal)
        self.levels = levels.to(normal)
        if self.levels.shape[1] != self.ages.shape[1]:
            raise ValueError(f"pictures have {self.ages.shape[1]} signs of age, texts {self.levels.shape[1]}")

    def draw(self, kind: int, count: int, width: int, generator: torch.Generator) -> _Batch:
        """Draw a batch of ``count`` pictures; ``width`` is that of the ageing embedding."""
        device = self.normal.device

        def numbers(below: int) -> Tensor:
            return torch.randint(0, below, (count,), generator=generator).to(device)

        rows = numbers(len(self.normal))
        other = numbers(len(self.normal))
        text = numbers(len(self.texts))
        source = _opposite(self.levels[:, 0], self.levels[text, 0], generator)
        noise = torch.randn(2, count, width, generator=generator).to(self.normal)
        start = self.normal[rows]
        if kind == _SELF:
            return _Batch(rows, start, self.embeddings[rows], None, noise, None)
        if kind == _PICTURE:
            aim = self.judge.aim(self.ages[other])
            return _Batch(rows, start, self.embeddings[other], aim, noise, None)
        aim = self.judge.aim(self.levels[text])
        guide = self.texts[text]
        return _Batch(rows, start, guide, aim, noise, (guide, self.texts[source]))


def _code_loss(net: PADA, asked: _Asked, batch: _Batch, w: PadaWeights) -> tuple[Tensor, Tensor]:
    """Age codes `[b d]`, and judge them without texts."""
    judge = asked.judge
    start = batch.start
    guide = spread(batch.guide)
    mean, log_variance = net.distribution(guide)
    aged, second = (net(start, drawn(mean, log_variance, noise)) for noise in batch.noise)
    loss = w.kl * kl_to(mean, log_variance, guide).mean()
    abnormal = judge.length(aged - start) + judge.outside(aged)
    loss = loss + w.normal * abnormal.mean()
    lost = judge.others(aged) - judge.others(start)
    loss = loss + w.identity * lost.square().mean()
    if batch.aim is None:
        return aged, loss + w.same * (aged - start).square().mean()
    # Two noises have to lead to two pictures, or the network learns to ignore them.
    first_noise, second_noise = batch.noise
    apart = judge.visible(aged - second) / (first_noise - second_noise).norm(dim=1)
    missed = (w.seek - apart).clamp_min(0)
    loss = loss + w.diversity * missed.mean()
    error = judge.age(aged) - batch.aim
    return aged, loss + w.age * error.square().sum(1).mean()


def _embedded(embedder: Embedder, texts: Texts) -> tuple[Tensor, Tensor]:
    """Embed the texts `[t e]`, and read their signs of age `[t s]`."""
    signs = [torch.as_tensor(level, dtype=torch.float32).reshape(-1) for _, level in texts]
    levels = torch.stack(signs)
    ages = levels[:, 0]
    one_age = len(texts) < 2 or float(ages.max()) <= float(ages.min())
    if one_age or not 0 <= float(levels.min()) <= float(levels.max()) <= 1:
        raise ValueError("PADA needs at least a text of young and one of old pictures, with ages between 0 and 1")
    return torch.stack([averaged(embedder, text) for text, _ in texts]), levels


def _opposite(levels: Tensor, aims: Tensor, generator: torch.Generator) -> Tensor:
    """Draw for each aim a text of another age, `[b]`: the more so the farther."""
    apart = (levels[None] - aims[:, None]).abs().cpu()
    chances = apart + 1e-6 * torch.ones(len(levels))
    picked = torch.multinomial(chances, 1, generator=generator)
    return picked[:, 0].to(aims.device)
