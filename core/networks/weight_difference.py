"""What fine-tuning added to the weights of a network, kept as a difference.

LoRA, Hu et al. 2021, arXiv 2106.09685, where it is thin.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from ..float64 import widen


@dataclass(frozen=True)
class WeightDelta:
    """Differences of weights.

    Attributes:
        full: name -> difference, as it is.
        thin: name -> ``(up [o r], down [r i])``, whose product is the difference of the weight flattened to `[o i]`.
        fingerprint: of the model they are added to; empty if nobody knows.
        label: for people, "face > red hair".
        extra: figures of the training.
    """

    full: dict[str, Tensor]
    thin: dict[str, tuple[Tensor, Tensor]]
    fingerprint: str
    label: str = ""
    extra: dict = field(default_factory=dict)

    def check_model(self, fingerprint: str, net: nn.Module) -> None:
        """Refuse a network of other weights.

        Raises:
            ValueError: the fingerprints differ (one that is not known passes), or names or shapes of weights do.
        """
        if self.fingerprint and self.fingerprint != fingerprint.partition("+")[0]:
            raise ValueError(
                f"these weights were trained on model {self.fingerprint}, but the model connected here is"
                f" {fingerprint}; connect that model"
            )
        have = {k: tuple(v.shape) for k, v in net.named_parameters()}
        odd = [k for k, v in self.full.items() if have.get(k) != tuple(v.shape)]
        for k, (up, down) in self.thin.items():
            shape = have.get(k, ())
            if len(shape) < 2 or up.shape[0] != shape[0] or down.shape[1] != math.prod(shape[1:]):
                odd.append(k)
        if odd:
            raise ValueError(
                f"these weights belong to another network: {', '.join(sorted(odd)[:3])}{' ...' if len(odd) > 3 else ''}"
                " are missing here or have another shape; connect the model that they were trained on"
            )

    def of(self, name: str, like: Tensor) -> Tensor | None:
        """Compute the difference of one weight, in the shape of ``like``; None if there is none."""
        if name in self.full:
            return self.full[name].to(like)
        if name in self.thin:
            up, down = self.thin[name]
            return (up.to(like) @ down.to(like)).reshape(like.shape)
        return None


def difference(
    tuned: Mapping[str, Tensor],
    base: Mapping[str, Tensor],
    fingerprint: str,
    label: str = "",
    extra: dict | None = None,
) -> WeightDelta:
    """Subtract ``base`` from ``tuned``; weights that did not move are left out.

    Raises:
        ValueError: the two do not have the same weights.
    """
    if set(tuned) != set(base) or any(tuned[k].shape != base[k].shape for k in base):
        odd = sorted(k for k in {*tuned, *base} if k not in base or k not in tuned or tuned[k].shape != base[k].shape)
        raise ValueError(
            f"{label}: these weights belong to another network: {', '.join(odd[:3])}{' ...' if len(odd) > 3 else ''}"
            " differ in name or shape; connect the network that they were fine-tuned from"
        )
    moved = {}
    for name, weight in tuned.items():
        moved[name] = weight.detach().float().cpu() - base[name].detach().float().cpu()
    return WeightDelta({k: v for k, v in moved.items() if bool(v.any())}, {}, fingerprint, label, extra or {})


def thinned(delta: WeightDelta, rank: int) -> tuple[WeightDelta, float]:
    """Replace matrices and convolutions by their best approximation of ``rank``.

    Returns:
        The thin one, and the share of the squared difference that it keeps.

    Raises:
        ValueError: a rank below 1.
    """
    if rank < 1:
        raise ValueError(f"rank must be at least 1, got {rank}; 8 is a good start")
    full = {}
    thin = dict(delta.thin)
    whole = 0.0
    captured = 0.0
    for name, value in delta.full.items():
        flat = value.flatten(1) if value.dim() > 1 else value[None]
        whole += float(flat.square().sum())
        if value.dim() < 2 or rank * sum(flat.shape) >= flat.numel():
            full[name] = value
            captured += float(flat.square().sum())
            continue
        u, s, v = torch.linalg.svd(widen(flat), full_matrices=False)
        root = s[:rank].sqrt()
        left = u[:, :rank] * root
        right = root[:, None] * v[:rank]
        thin[name] = (left.float(), right.float())
        captured += float(s[:rank].square().sum())
    return replace(delta, full=full, thin=thin), captured / whole if whole else 1.0
