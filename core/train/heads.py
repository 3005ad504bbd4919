"""Linear heads fitted to codes in closed form (DiffAE, arXiv 2111.15640, section 5.3, trains by logistic regression).

In codes whose coordinates go together, the weight of a logistic regression points where no code is; the ridge
discriminant ``(S + ridge * I)^-1 (mean of yes - mean of no)`` and the plain difference of means move a picture further
at equal length.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from ..codes import CodeSpace
from ..measure.auroc import auroc
from ..networks.heads import Heads

METHODS = ("ridge-lda", "mean", "logistic")
"""For attributes with two values; others get least squares."""
_NEWTON = 50
_CLOSE = 1e-10
_FLOOR = 0.01
"""Least variance along an axis of normalised codes."""
_ORDINARY = 0.99
_MARGIN = 1.1
"""Share of training pictures that are ordinary, and how much further others may lie."""
_FOLDS = 5
FEWEST = 20
"""Pictures of a kind from which on a head is worth fitting."""


def fit_heads(
    codes: Tensor, labels: Mapping[str, Tensor], space: CodeSpace, method: str = "ridge-lda", ridge: float = 0.1
) -> Heads:
    """Fit one head an attribute; deterministic.

    Args:
        codes: `[n z]` or `[n l z]`, of at least two pictures of each class.
        labels: name -> `[n]`; an attribute whose labels are all 0 and 1 (or bool) is a yes or no, any other is
            continuous.
        space: of the codes, with statistics (:func:`with_statistics` measures them).
        method: one of :data:`METHODS`.
        ridge: added to the variances (1 on average) of ``ridge-lda`` and least squares; for ``logistic`` the weight
            decay per picture.

    Raises:
        ValueError: an unknown method, a negative ridge, labels that do not match the codes, or a class with fewer than
            two pictures.
    """
    if method not in METHODS or not ridge >= 0:
        raise ValueError(
            f"method must be one of {', '.join(METHODS)} with a ridge of at least 0, got {method!r:.40} and {ridge}"
        )
    if not labels:
        raise ValueError("no attribute to train a head for; give at least one with its labels")
    normal = space.normalise(codes).double()
    fitted = [_fit_head(normal, name, values, method, ridge) for name, values in labels.items()]
    weight, bias, kinds = zip(*fitted, strict=True)
    return Heads(
        tuple(labels),
        torch.stack(weight).float().cpu(),
        torch.stack(bias).float().cpu(),
        space,
        kinds,
    )


def is_binary(labels: Tensor) -> bool:
    """Say whether labels say yes and no: all are 0 or 1."""
    return bool(((labels == 0) | (labels == 1)).all())


def validate_head(
    codes: Tensor, labels: Tensor, space: CodeSpace, method: str = "ridge-lda", ridge: float = 0.1
) -> float:
    """Measure how well a head tells pictures apart that it was not fitted to: five folds.

    Args:
        codes: `[n z]` or `[n l z]`.
        labels: `[n]`.
        space: of the codes, with statistics.
        method, ridge: as in :func:`fit_heads`.

    Returns:
        The area under the ROC curve for yes and no, the correlation for other labels.
    """
    scores = torch.empty(len(codes))
    order = torch.randperm(len(codes), generator=torch.Generator().manual_seed(0))
    for fold in range(_FOLDS):
        others = torch.ones(len(codes), dtype=torch.bool)
        others[order[fold::_FOLDS]] = False
        heads = fit_heads(codes[others], {"it": labels[others]}, space, method, ridge)
        scores[~others] = heads.scores(codes[~others])[:, 0]
    if is_binary(labels):
        return auroc(scores, labels)
    return float(torch.corrcoef(torch.stack([scores, labels]))[0, 1])


@dataclass(frozen=True)
class Attribute:
    """An attribute that is learnt from codes.

    Attributes:
        name: of it.
        method: one of :data:`METHODS`.
        ridge: see :func:`fit_heads`.
    """

    name: str
    method: str = "ridge-lda"
    ridge: float = 0.1

    def learn(self, codes: Tensor, labels: Tensor, space: CodeSpace, before: Heads | None = None) -> tuple[Heads, str]:
        """Fit a head, and measure it on pictures that were left out.

        Args:
            codes: `[n z]` or `[n l z]`.
            labels: `[n]`, see :func:`fit_heads`.
            space: of the codes; its statistics are measured if it has none.
            before: heads that this one joins, with their statistics.

        Returns:
            The heads, and a line for people.

        Raises:
            ValueError: too few pictures, or heads of another space.
        """
        check_enough(labels)
        if before is not None:
            before.check_space(space)
            space = before.space
        elif space.mean is None:
            space = with_statistics(space, codes)
        heads = fit_heads(codes, {self.name.strip(): labels}, space, self.method, self.ridge)
        quality = validate_head(codes, labels, space, self.method, self.ridge)
        told = f"correlation {quality:.3f} on pictures left out"
        if is_binary(labels):
            told = f"AUROC {quality:.3f} on pictures left out (0.5 is chance; below 0.8 it will hardly move pictures)"
        text = f"{self.name}: {len(codes)} pictures, {told}"
        return (join_heads(before, heads) if before else heads), text


def check_enough(labels: Tensor) -> None:
    """Refuse labels `[n]` of fewer than :data:`FEWEST` pictures of a kind.

    Raises:
        ValueError: they are.
    """
    few = min(int((labels == v).sum()) for v in (0, 1)) if is_binary(labels) else len(labels)
    if few < FEWEST:
        raise ValueError(
            f"{few} pictures are too few to find an attribute; encode {FEWEST} or more of each kind as one batch"
        )


def parse_labels(text: str, count: int) -> Tensor:
    """Read a number for each picture, `[count]`, separated by commas or blanks.

    Raises:
        ValueError: something else, or another number of them.
    """
    try:
        numbers = [float(v) for v in text.replace(",", " ").split()]
    except ValueError as error:
        raise ValueError(f"values must be numbers: {error}") from error
    if len(numbers) != count:
        raise ValueError(f"values must hold a number for each of the {count} pictures, got {len(numbers)}")
    if not all(map(math.isfinite, numbers)):
        raise ValueError(
            "values must be finite numbers, got NaN or infinity among them; write a number for each picture"
        )
    return torch.tensor(numbers)


def join_heads(before: Heads, new: Heads) -> Heads:
    """Join the attributes of one model; one of the same name is replaced by the new one."""
    rows = [i for i, name in enumerate(before.names) if name not in new]
    return Heads(
        (*(before.names[i] for i in rows), *new.names),
        torch.cat([before.weight[rows], new.weight]),
        torch.cat([before.bias[rows], new.bias]),
        before.space,
        (*(before.kinds[i] for i in rows), *new.kinds),
    )


def _fit_head(normal: Tensor, name: str, values: Tensor, method: str, ridge: float) -> tuple[Tensor, Tensor, str]:
    """Fit weight `[d]`, bias and method of one attribute."""
    if values.shape != (len(normal),) or not bool(torch.isfinite(values.double()).all()):
        raise ValueError(
            f"attribute {name!r:.60} needs one finite label a picture, [{len(normal)}], got {list(values.shape)}"
        )
    y = values.to(normal)
    if is_binary(y):
        yes = y > 0
        few = min(int(yes.sum()), int((~yes).sum()))
        if few < 2:
            raise ValueError(
                f"attribute {name!r:.60} needs at least two pictures with it and two without, got {few} of one kind;"
                " add some"
            )
        return *_two_classes(normal, yes, method, ridge), method
    if bool((y == y[0]).all()):
        raise ValueError(
            f"attribute {name!r:.60} is {float(y[0]):g} in every picture; give pictures in which it differs"
        )
    return *_least_squares(normal, y, ridge), "least squares"


def with_statistics(space: CodeSpace, codes: Tensor, typical: bool = False) -> CodeSpace:
    """Give ``space`` mean and standard deviation (unbiased, as released) of ``codes`` `[n z]` or `[n l z]`.

    Args:
        space: of the codes.
        codes: of training pictures.
        typical: also measure how they vary together and how far out they lie, from many more pictures than coordinates.

    Raises:
        ValueError: fewer than two codes, or a coordinate that is the same in all of them.
    """
    if len(codes) < 2:
        raise ValueError(
            f"statistics need at least two codes, got {len(codes)}; encode more pictures, a hundred or better more"
        )
    flat = space.check(codes).cpu().double().flatten(1)
    mean = flat.mean(0).float()
    std = flat.std(0).float()
    measured = CodeSpace(space.shape, space.fingerprint, mean, std)
    if not typical:
        return measured
    normal = measured.normalise(codes.cpu()).double()
    covariance = normal.T @ normal / len(normal)
    values, vectors = torch.linalg.eigh(covariance)
    scales = (values.clamp_min(0) + _FLOOR).rsqrt()
    whitening = (vectors * scales).float()
    lengths = (normal.float() @ whitening).square().mean(1).sqrt()
    ordinary = float(lengths.quantile(_ORDINARY))
    return replace(measured, whitening=whitening, far=ordinary * _MARGIN)


def _two_classes(x: Tensor, yes: Tensor, method: str, ridge: float) -> tuple[Tensor, Tensor]:
    if method == "logistic":
        return _logistic(x, yes.to(x), ridge)
    first = x[yes].mean(0)
    second = x[~yes].mean(0)
    w = first - second
    if method == "ridge-lda":
        inside = torch.where(yes[:, None], x - first, x - second)
        covariance = inside.T @ inside / (len(x) - 2)
        w = _solve(covariance, ridge, w)
    odds = yes.sum() / (~yes).sum()
    return w, odds.log() - w @ (first + second) / 2


def _least_squares(x: Tensor, y: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    mean = x.mean(0)
    middle = y.mean()
    centred = x - mean
    covariance = centred.T @ centred / len(x)
    moment = centred.T @ (y - middle) / len(x)
    w = _solve(covariance, ridge, moment)
    return w, middle - w @ mean


def _solve(moments: Tensor, ridge: float, right: Tensor) -> Tensor:
    """Solve ``(moments + ridge * I)^-1 right``; by the pseudo-inverse without ridge and enough pictures."""
    shifted = moments + ridge * torch.eye(len(moments)).to(moments)
    if ridge:
        return torch.linalg.solve(shifted, right)
    return torch.linalg.pinv(shifted, hermitian=True) @ right


def _logistic(x: Tensor, y: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """Minimise the mean cross-entropy plus ``ridge / 2 |w|^2`` by Newton with halved steps; the intercept is free."""
    ones = torch.cat([x, torch.ones_like(y)[:, None]], 1)
    decay = torch.full_like(ones[0], max(ridge, 1e-9))
    decay[-1] = 0

    def loss(w: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(ones @ w, y) + (decay * w * w).sum() / 2

    w = torch.zeros_like(ones[0])
    least = loss(w)
    for _ in range(_NEWTON):
        p = torch.sigmoid(ones @ w)
        slope = ones.T @ (p - y) / len(y) + decay * w
        weighted = ones * (p * (1 - p))[:, None]
        curve = weighted.T @ ones / len(y) + torch.diag(decay.clamp_min(1e-12))
        step = torch.linalg.solve(curve, slope)
        size = 1.0
        while (now := loss(w - size * step)) > least and size > 1e-6:
            size /= 2
        if now >= least - _CLOSE * least.clamp_min(1e-300):
            break
        w = w - size * step
        least = now
    return w[:-1], w[-1]
