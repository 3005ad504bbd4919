"""Linear heads fitted to codes in closed form (DiffAE, arXiv 2111.15640, section 5.3, trains them by logistic regression).

In codes whose coordinates go together, the weight of a logistic regression points where no code is; the ridge discriminant
``(S + ridge * I)^-1 (mean of yes - mean of no)`` and the plain difference of means move a picture further at equal length.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from ..codes import CodeSpace
from ..edit.heads import Heads

METHODS = ("ridge-lda", "mean", "logistic")
"""For attributes with two values; others get least squares."""
_NEWTON, _CLOSE = 50, 1e-10
_FLOOR, _ORDINARY, _MARGIN = 0.01, 0.99, 1.1
"""Least variance along an axis of normalised codes; share of training pictures that are ordinary, and how much further others may lie."""


def fit_heads(codes: Tensor, labels: Mapping[str, Tensor], space: CodeSpace, method: str = "ridge-lda", ridge: float = 0.1) -> Heads:
    """One head an attribute; deterministic.

    Args:
        codes: `[n z]` or `[n l z]`, of at least two pictures of each class.
        labels: name -> `[n]`; an attribute whose labels are all 0 and 1 (or bool) is a yes or no, any other is continuous.
        space: of the codes, with statistics (:func:`with_statistics` measures them).
        method: one of :data:`METHODS`.
        ridge: added to the variances (1 on average) of ``ridge-lda`` and least squares; for ``logistic`` the weight decay per picture.

    Raises:
        ValueError: an unknown method, a negative ridge, labels that do not match the codes, or a class with fewer than two pictures.
    """
    if method not in METHODS or not ridge >= 0:
        raise ValueError(f"method must be one of {', '.join(METHODS)} with a ridge of at least 0, got {method!r:.40} and {ridge}")
    if not labels:
        raise ValueError("no attribute to train a head for; give at least one with its labels")
    normal = space.normalise(codes).double()
    made: list[tuple[Tensor, Tensor, str]] = []
    for name, values in labels.items():
        if values.shape != (len(normal),) or not bool(torch.isfinite(values.double()).all()):
            raise ValueError(f"attribute {name!r:.60} needs one finite label a picture, [{len(normal)}], got {list(values.shape)}")
        y = values.to(normal)
        if bool(((y == 0) | (y == 1)).all()):
            yes = y > 0
            few = min(int(yes.sum()), int((~yes).sum()))
            if few < 2:
                raise ValueError(
                    f"attribute {name!r:.60} needs at least two pictures with it and two without, got {few} of one kind; add some"
                )
            made.append((*_two_classes(normal, yes, method, ridge), method))
        elif bool((y == y[0]).all()):
            raise ValueError(f"attribute {name!r:.60} is {float(y[0]):g} in every picture; give pictures in which it differs")
        else:
            made.append((*_least_squares(normal, y, ridge), "least squares"))
    weight, bias, kinds = zip(*made, strict=True)
    return Heads(tuple(labels), torch.stack(weight).float().cpu(), torch.stack(bias).float().cpu(), space, kinds)


def with_statistics(space: CodeSpace, codes: Tensor, typical: bool = False) -> CodeSpace:
    """``space`` with mean and standard deviation (unbiased, as released) of ``codes`` `[n z]` or `[n l z]`.

    Args:
        space: of the codes.
        codes: of training pictures.
        typical: also measure how they vary together and how far out they lie, from many more pictures than coordinates.

    Raises:
        ValueError: fewer than two codes, or a coordinate that is the same in all of them.
    """
    if len(codes) < 2:
        raise ValueError(f"statistics need at least two codes, got {len(codes)}; encode more pictures, a hundred or better more")
    flat = space.check(codes).double().flatten(1).cpu()
    found = CodeSpace(space.shape, space.fingerprint, flat.mean(0).float(), flat.std(0).float())
    if not typical:
        return found
    normal = found.normalise(codes.cpu()).double()
    values, vectors = torch.linalg.eigh(normal.T @ normal / len(normal))
    whitening = (vectors * (values.clamp_min(0) + _FLOOR).rsqrt()).float()
    lengths = (normal.float() @ whitening).square().mean(1).sqrt()
    return replace(found, whitening=whitening, far=float(lengths.quantile(_ORDINARY)) * _MARGIN)


def _two_classes(x: Tensor, yes: Tensor, method: str, ridge: float) -> tuple[Tensor, Tensor]:
    if method == "logistic":
        return _logistic(x, yes.to(x), ridge)
    first, second = x[yes].mean(0), x[~yes].mean(0)
    w = first - second
    if method == "ridge-lda":
        inside = torch.where(yes[:, None], x - first, x - second)
        w = _solve(inside.T @ inside / (len(x) - 2), ridge, w)
    prior = (yes.sum() / (~yes).sum()).log()
    return w, prior - w @ (first + second) / 2


def _least_squares(x: Tensor, y: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    centre, middle = x - x.mean(0), y.mean()
    w = _solve(centre.T @ centre / len(x), ridge, centre.T @ (y - middle) / len(x))
    return w, middle - w @ x.mean(0)


def _solve(moments: Tensor, ridge: float, right: Tensor) -> Tensor:
    """``(moments + ridge * I)^-1 right``; the pseudo-inverse where there is no ridge and not enough pictures."""
    shifted = moments + ridge * torch.eye(len(moments)).to(moments)
    return torch.linalg.solve(shifted, right) if ridge else torch.linalg.pinv(shifted, hermitian=True) @ right


def _logistic(x: Tensor, y: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """Newton's method with halved steps on the mean cross-entropy plus ``ridge / 2 |w|^2``; the intercept is free."""
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
        curve = (ones * (p * (1 - p))[:, None]).T @ ones / len(y) + torch.diag(decay.clamp_min(1e-12))
        step, size = torch.linalg.solve(curve, slope), 1.0
        while (now := loss(w - size * step)) > least and size > 1e-6:
            size /= 2
        if now >= least - _CLOSE * least.clamp_min(1e-300):
            break
        w, least = w - size * step, now
    return w[:-1], w[-1]
