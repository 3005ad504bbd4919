"""DeltaEdit in code space: a text's change as a change of the code (Lyu et al. 2023, arXiv 2303.06285, section 3.4).

The mapper has only ever seen pictures: what a text changes stands in for what changes between two pictures, since
differences of embeddings agree between texts and pictures where the embeddings themselves do not.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ...codes import CodeSpace
from ...files.code_edits import TrainedCodeEdit

STRENGTHS = (0.0, 3.0)


def relevant(relevance: Tensor, change: Tensor, quantile: float) -> Tensor:
    """Mark which coordinates bear on a change, `[d]` of 0 and 1: the ``1 - quantile`` most relevant, at least one.

    Args:
        relevance: unit rows `[d e]`.
        change: `[e]`.
        quantile: 0..1, share of coordinates left alone; 0 is off.

    Raises:
        ValueError: a quantile outside 0..1.
    """
    if not 0 <= quantile <= 1:
        raise ValueError(f"the relevance quantile must lie in 0..1, got {quantile:g}; 0 is off")
    score = (relevance @ change).abs()
    count = max(1, round((1 - quantile) * len(score)))
    mask = torch.zeros_like(score)
    mask[score.topk(count).indices] = 1
    return mask


@torch.no_grad()
def delta_edit(
    trained: TrainedCodeEdit,
    code: Tensor,
    space: CodeSpace,
    change: Tensor,
    picture: Tensor | None = None,
    *,
    strength: float = 1.0,
    quantile: float = 0.0,
) -> Tensor:
    """Edit codes as a text says.

    Args:
        trained: of a :class:`core.networks.deltaedit.DeltaMapper`.
        code: `[b z]` or `[b l z]`, not normalised.
        space: what came with the code.
        change: unit direction `[e]` from the neutral text to the target, see
            :func:`core.train.directional.text_direction`.
        picture: unit embeddings `[b e]` of the pictures (or `[1 e]` for all); None reads them off the codes.
        strength: in median distances between two training pictures; 0 is the code bit for bit.
        quantile: of :func:`relevant`.

    Raises:
        ValueError: a code of another model, embeddings of another space, or dials out of range.
    """
    trained.check(code, space)
    if not STRENGTHS[0] <= strength <= STRENGTHS[1]:
        raise ValueError(f"strength must lie in {STRENGTHS[0]:g}..{STRENGTHS[1]:g}, got {strength:g}")
    net = trained.net.to(code.device)
    direction = trained.with_embeddings(change).to(code.device)
    mask = relevant(net.relevance, direction[0], quantile)
    if strength == 0:
        return code.clone()
    normal = trained.space.normalise(code)
    if picture is None:
        picture = F.normalize(torch.cat([normal, normal.new_ones(len(normal), 1)], 1) @ net.guess, dim=1)
    shift = net(normal, trained.one_each(picture, code, "'image'"), direction.expand(len(code), -1))
    # Regression onto random pairs shrinks predictions towards the mean: their direction is right, their length is not.
    length = shift.norm(dim=1, keepdim=True).clamp_min(1e-6 * math.sqrt(shift.shape[1]))
    shift = shift * (strength * net.length / length)
    return trained.space.moved(code, shift * mask)


def change_text(trained: TrainedCodeEdit, code: Tensor, edited: Tensor) -> str:
    """Tell people how far codes `[b ...]` moved, beside how far two pictures are apart."""
    moved = float((trained.space.normalise(edited) - trained.space.normalise(code)).norm(dim=1).mean())
    return f"the code moved by {moved:.2f} (two pictures are {float(trained.net.length):.2f} apart)"
