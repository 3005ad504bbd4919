"""Training of the delta mapper on pairs of pictures, without a word (Lyu et al. 2023, arXiv 2303.06285, eq. 2-4)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ..codes import CodeSpace
from ..denoiser import Callback
from ..edit.code_edit_io import TrainedCodeEdit
from ..networks.delta_mapper import DeltaMapper
from .code_readings import checked, prepared, ridge
from .fit import Fit

RIDGE = 0.01
_PAIRS = 20_000


def train_delta_mapper(
    codes: Tensor, space: CodeSpace, embeddings: Tensor, embedder: str, *, steps: int = 3000, batch: int = 64, lr: float = 1e-3,
    width: int = 256, seed: int = 0, label: str = "", callback: Callback | None = None, begin: Callable[[Fit], None] | None = None,
) -> TrainedCodeEdit:  # fmt: skip
    """Fit a mapper: the first picture's code and embedding and the change of embeddings to the second -> the change of codes.

    Args:
        codes: of n pictures, `[n z]` or `[n l z]`, not normalised.
        space: of the codes; without statistics, those of ``codes`` are taken.
        embeddings: of the same pictures, unit `[n e]`.
        embedder: names their space.
        steps: of the optimiser (Adam; the rate falls to 0 along a cosine).
        batch: pairs at a time.
        lr: learning rate.
        width: of hidden layers.
        seed: of first weights and pairs.
        label: for people.
        callback, begin: as in :func:`core.train.asyrp.train_asyrp`.

    Raises:
        ValueError: too few pictures, or codes and embeddings that do not belong together.
        RuntimeError: the loss is not finite.
    """
    space, normal, embeddings = prepared(codes, space, embeddings)
    checked(batch=batch, width=width)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = DeltaMapper(space.shape, embeddings.shape[1], width)
    _measure(net, normal, embeddings, seed)
    net.to(codes.device).requires_grad_(True)
    fit = Fit(net, lr, steps, callback=callback)
    if begin is not None:
        begin(fit)
    while fit.i < steps:
        fit.cool()
        first, second = _pairs(len(normal), batch, torch.Generator().manual_seed(seed * 1_000_003 + fit.i), normal.device)
        aim = normal[second] - normal[first]
        with torch.enable_grad():
            made = net(normal[first], embeddings[first], F.normalize(embeddings[second] - embeddings[first], dim=1))
            fit.step(F.mse_loss(made, aim) + (1 - F.cosine_similarity(made, aim, dim=1)).mean())
    net.load_state_dict(fit.best)
    extra = {"steps": steps, "pictures": len(normal), "loss": round(sum(fit.losses[-50:]) / len(fit.losses[-50:]), 4)}
    return TrainedCodeEdit(net.requires_grad_(False).eval(), space, embedder, label, extra)


def _pairs(count: int, batch: int, generator: torch.Generator, device: torch.device) -> tuple[Tensor, Tensor]:
    """Numbers of two different pictures each."""
    first = torch.randint(0, count, (batch,), generator=generator)
    second = (first + torch.randint(1, count, (batch,), generator=generator)) % count
    return first.to(device), second.to(device)


@torch.no_grad()
def _measure(net: DeltaMapper, normal: Tensor, embeddings: Tensor, seed: int) -> None:
    """What an edit needs besides the mapping, see the attributes of :class:`DeltaMapper`."""
    first, second = _pairs(len(normal), _PAIRS, torch.Generator().manual_seed(seed), normal.device)
    change, told = normal[second] - normal[first], embeddings[second] - embeddings[first]
    net.length.copy_(change.norm(dim=1).median())
    net.relevance.copy_(F.normalize(ridge(change, told, RIDGE, offset=False), dim=1))
    net.guess.copy_(ridge(normal, embeddings, RIDGE))
