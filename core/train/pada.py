"""Training of PADA (Li et al. 2023, arXiv 2303.11086, section 3.3; forms of the losses after SAM, arXiv 2102.02754).

By default everything is judged in code space, by readings off the code (age, the other attributes, the picture's embedding) that are
linear and penalised: freer ones are deceived by codes that no picture has. ``images`` adds the same judgement on one-step pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..codes import CodeSpace
from ..denoiser import Callback
from ..edit.code_edit_io import TrainedCodeEdit
from ..embedder import Embedder
from ..networks.diffae import Coded, DiffAENet
from ..networks.pada import PADA, drawn, kl_to, spread
from ..networks.vp import Prediction, VPDenoiser
from ..schedule import Schedule
from .code_readings import checked, prepared, read, ridge
from .directional import averaged
from .fit import Fit

PENALTY, OFF_MANIFOLD = 1.0, 0.05
"""Of the linear readings, and what is added to the covariance of the codes. At a penalty of 0.1 the readings can still be deceived: they
say grey of a code whose picture is not."""
FARTHEST = 2.5
_SIGMAS = (0.34, 3.4)


@dataclass(frozen=True)
class Weights:
    """Of the losses.

    Attributes:
        age: squared error of the age read off the code (0 young, 1 old).
        triplet: nearer to the target text than to the source text, in the image-text space.
        margin: of the triplet.
        identity: squared error of the other attributes.
        normal: Mahalanobis length of the change a coordinate, and of what lies outside of the codes of pictures.
        same: squared change where the target is the picture's own age.
        kl: of the ageing embedding's distribution.
        diversity: of how far ``seek`` is missed.
        seek: least ratio of the distance of two codes to that of their noises (mode seeking, arXiv 1903.05628), counted along what varies
            between pictures.
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
class ImageLosses:
    """Judgement on pictures: ``x0`` predicted in one step from a noised picture, with the aged code.

    Attributes:
        pictures: of the codes, `[n c h w]` in -1..1, on any device.
        predict: ``predict(x, sigma, code) -> x0`` of the frozen autoencoder in the sigma dialect.
        embedder: of the guides.
        device: of both networks; codes may be elsewhere.
        rows: pictures a step.
    """

    pictures: Tensor
    predict: Callable[[Tensor, Tensor, Tensor], Tensor]
    embedder: Embedder
    device: torch.device | str = "cpu"
    rows: int = 8

    @property
    def sigmas(self) -> tuple[float, float]:
        """Least and greatest noise level: what t = 100 and 500 of the paper leave of its 256 pixels, at the size of these pictures."""
        low, high = (sigma * min(self.pictures.shape[-2:]) / 256 for sigma in _SIGMAS)
        return low, high


def one_step(net: DiffAENet, schedule: Schedule, prediction: Prediction) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The ``predict`` of :class:`ImageLosses` for a frozen autoencoder; differentiable in the code."""

    def predict(x: Tensor, sigma: Tensor, code: Tensor) -> Tensor:
        return VPDenoiser(Coded(net, code), schedule, prediction, fingerprint="frozen")(x, sigma)

    return predict


def ages_between(embedder: Embedder, embeddings: Tensor, young: Sequence[str], old: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Age and everything else of pictures, where no labels are: along and across the direction from the young to the old texts.

    Args:
        embedder: of the texts.
        embeddings: of pictures, unit `[n e]`.
        young, old: texts.

    Returns:
        Ages `[n]`, the 5th and 95th hundredth of the pictures at 0 and 1; and what is left of the embeddings `[n e]`, in deviations.
    """
    ends = [torch.stack([averaged(embedder, text) for text in texts]).mean(0) for texts in (young, old)]
    direction = F.normalize(ends[1] - ends[0], dim=0).to(embeddings)
    along = embeddings @ direction
    low, high = along.quantile(0.05), along.quantile(0.95)
    across = embeddings - along[:, None] * direction
    return ((along - low) / (high - low).clamp_min(1e-6)).clamp(0, 1), (across - across.mean(0)) / across.std().clamp_min(1e-6)


def train_pada(
    codes: Tensor, space: CodeSpace, embeddings: Tensor, embedder: Embedder, ages: Tensor, others: Tensor,
    texts: Sequence[tuple[str, float | Sequence[float]]], *, steps: int = 3000, batch: int = 64, lr: float = 1e-3, width: int = 256,
    seed: int = 0, weights: Weights | None = None, images: ImageLosses | None = None, label: str = "", callback: Callback | None = None,
    begin: Callable[[Fit], None] | None = None,
) -> TrainedCodeEdit:  # fmt: skip
    """Fit the distribution, the change and its two heads; the autoencoder stays as it is.

    A third of the steps asks for the picture's own age, which is to change nothing; of the others half are guided by a text, half by
    another picture.

    Args:
        codes: of n pictures, `[n z]` or `[n l z]`, not normalised.
        space: of the codes; without statistics, those of ``codes`` are taken.
        embeddings: of the same pictures, unit `[n e]`.
        embedder: of ``texts``, in the same space.
        ages: 0 young .. 1 old, `[n]`; or `[n s]` with further signs of age (0..1) behind it, such as what young hair can look like.
        others: attributes that are to stay, about -1..1, `[n k]`.
        texts: what may be asked for, and its age 0..1 (or all of its signs); at least a young and an old one.
        steps, batch, lr, width, seed, label, callback, begin: as in :func:`core.train.deltaedit.train_delta_mapper`.
        weights: of the losses.
        images: also judge pictures; not looked at where their weight is 0.

    Raises:
        ValueError: too few pictures, shapes that do not belong together, or texts of one age.
        RuntimeError: the loss is not finite.
    """
    space, normal, embeddings = prepared(codes, space, embeddings)
    checked(batch=batch, width=width)
    w = weights or Weights()
    images = images if w.image else None
    if images is not None and len(images.pictures) != len(codes):
        raise ValueError(f"{len(codes)} codes need the same pictures to be judged on, got {len(images.pictures)}")
    ages = ages.to(normal).reshape(len(ages), -1)
    judge = _Judge(normal, embeddings, ages, others.to(normal))
    told, levels = _texts(embedder, texts)
    told, levels = told.to(normal), levels.to(normal)
    if levels.shape[1] != ages.shape[1]:
        raise ValueError(f"pictures have {ages.shape[1]} signs of age, texts {levels.shape[1]}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = PADA(space.shape, embeddings.shape[1], width)
    net.to(codes.device).requires_grad_(True)
    fit = Fit(net, lr, steps, callback=callback)
    if begin is not None:
        begin(fit)
    while fit.i < steps:
        fit.cool()
        g = torch.Generator().manual_seed(seed * 1_000_003 + fit.i)
        rows, other = (torch.randint(0, len(normal), (batch,), generator=g).to(normal.device) for _ in range(2))
        text = torch.randint(0, len(told), (batch,), generator=g).to(normal.device)
        source = _opposite(levels[:, 0], levels[text, 0], g)
        noise = torch.randn(2, batch, net.embedding, generator=g).to(normal)
        kind = fit.i % 3  # its own age, a text, another picture
        guide, aim = (
            (embeddings[rows], None), (told[text], judge.aim(levels[text])), (embeddings[other], judge.aim(ages[other])),
        )[kind]  # fmt: skip
        with torch.enable_grad():
            mean, log_variance = net.distribution(spread(guide))
            start = normal[rows]
            aged, second = (net(start, drawn(mean, log_variance, n)) for n in noise)
            loss = (
                w.kl * kl_to(mean, log_variance, spread(guide)).mean()
                + w.normal * (judge.length(aged - start) + judge.outside(aged)).mean()
            )
            loss = loss + w.identity * (judge.others(aged) - judge.others(start)).square().mean()
            if aim is None:
                loss = loss + w.same * (aged - start).square().mean()
            else:
                apart = judge.visible(aged - second) / (noise[0] - noise[1]).norm(dim=1)
                loss = loss + w.diversity * (w.seek - apart).clamp_min(0).mean() + w.age * (judge.age(aged) - aim).square().sum(1).mean()
            if kind == 1:
                loss = loss + w.triplet * triplet(judge.embedding(aged), told[text], told[source], w.margin)
                if images is not None:
                    part = slice(0, images.rows)
                    loss = loss + w.image * _on_pictures(images, space, aged[part], rows[part], told[text][part], told[source][part], w, g)
            fit.step(loss)
    net.load_state_dict(fit.best)
    extra = {"steps": steps, "pictures": len(normal), "texts": len(texts), "images": images is not None}
    return TrainedCodeEdit(net.requires_grad_(False).eval(), space, embedder.space, label, extra)


def triplet(found: Tensor, aim: Tensor, source: Tensor, margin: float) -> Tensor:
    """``max(0, margin + d(found, aim) - d(found, source))`` in cosine distance, mean over `[b e]`; the modality gap cancels."""
    return (margin - F.cosine_similarity(found, aim) + F.cosine_similarity(found, source)).clamp_min(0).mean()


class _Judge:
    """What is read off normalised codes, linearly."""

    def __init__(self, normal: Tensor, embeddings: Tensor, ages: Tensor, others: Tensor):
        if len(ages) != len(normal) or others.dim() != 2 or len(others) != len(normal):
            raise ValueError(
                f"{len(normal)} codes need as many ages and rows of attributes, got {list(ages.shape)} and {list(others.shape)}"
            )
        if float(ages.min()) < -1e-6 or float(ages.max()) > 1 + 1e-6 or float(ages.std(0).min()) < 1e-3:
            raise ValueError("ages must differ, from 0 (young) to 1 (old); connect pictures of both")
        self._age, self._others = (ridge(normal, y, PENALTY) for y in (ages, others))
        self._embedding = ridge(normal, embeddings, PENALTY)
        found = self.age(normal)
        self._typical = torch.cat([ridge(ages[:, k, None], found[:, k, None], 0.0) for k in range(ages.shape[1])], 1)
        spread_ = normal.T @ normal / len(normal)
        self._inverse = torch.linalg.inv(spread_ + OFF_MANIFOLD * torch.eye(len(spread_)).to(spread_))
        variances, axes = torch.linalg.eigh(spread_)
        variances = variances.clamp_min(0)
        self._white = axes / (variances + OFF_MANIFOLD).sqrt()
        self._root = (axes * (variances * variances.sum() / variances.square().sum()).sqrt()) @ axes.T

    def age(self, normal: Tensor) -> Tensor:
        """`[b s]`, 0 young .. 1 old."""
        return read(normal, self._age)

    def aim(self, ages: Tensor) -> Tensor:
        """What is read, on average, off pictures of ``ages`` `[b s]`: a penalised reading keeps to the middle."""
        return ages * self._typical[0] + self._typical[1]

    def others(self, normal: Tensor) -> Tensor:
        """`[b k]`."""
        return read(normal, self._others)

    def embedding(self, normal: Tensor) -> Tensor:
        """`[b e]`, about unit."""
        return read(normal, self._embedding)

    def outside(self, normal: Tensor) -> Tensor:
        """How far a code lies beyond :data:`FARTHEST` deviations along any axis of the codes, squared and summed, `[b]`."""
        return ((normal @ self._white).abs() - FARTHEST).clamp_min(0).square().sum(1)

    def visible(self, change: Tensor) -> Tensor:
        """Length `[b]`, directions weighted by how much pictures differ along them, pictures as far apart as by the plain length."""
        return (change @ self._root).norm(dim=1)

    def length(self, change: Tensor) -> Tensor:
        """Squared Mahalanobis length a coordinate, `[b]`: long where codes do not vary."""
        return ((change @ self._inverse) * change).mean(1)


def _texts(embedder: Embedder, texts: Sequence[tuple[str, float | Sequence[float]]]) -> tuple[Tensor, Tensor]:
    levels = torch.stack([torch.as_tensor(level, dtype=torch.float32).reshape(-1) for _, level in texts])
    if len(texts) < 2 or float(levels[:, 0].max()) <= float(levels[:, 0].min()) or not 0 <= float(levels.min()) <= float(levels.max()) <= 1:
        raise ValueError("PADA needs at least a text of young and one of old pictures, with ages between 0 and 1")
    return torch.stack([averaged(embedder, text) for text, _ in texts]), levels


def _opposite(levels: Tensor, aims: Tensor, generator: torch.Generator) -> Tensor:
    """For each aim a text of another age, `[b]`: the more so the farther."""
    chances = (levels[None] - aims[:, None]).abs().cpu() + 1e-6 * torch.ones(len(levels))
    return torch.multinomial(chances, 1, generator=generator)[:, 0].to(aims.device)


def _on_pictures(
    images: ImageLosses, space: CodeSpace, aged: Tensor, rows: Tensor, aim: Tensor, source: Tensor, w: Weights, generator: torch.Generator
) -> Tensor:
    """Triplet in the embedder's own eyes, and what the picture keeps."""
    x0 = images.pictures[rows.to(images.pictures.device)].to(images.device)
    low, high = images.sigmas
    sigma = (low * (high / low) ** torch.rand(len(x0), generator=generator)).to(x0)
    x = x0 + sigma[:, None, None, None] * torch.randn(x0.shape, generator=generator).to(x0)
    shown = images.predict(x, sigma, space.restore(aged.to(x0)))
    return (triplet(images.embedder.embed_image(shown), aim.to(x0), source.to(x0), w.margin) + F.l1_loss(shown, x0)).to(aged)
