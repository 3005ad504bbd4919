"""What the cheapest pass of one vector takes, before one is made.

A stage is followed with tensors that hold nothing (torch's fake tensors, which know shapes, devices and kernels), and
what they would hold is counted. That takes seconds, so only stages are followed whose decode has made so much that a
pass through them may be too large.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import vjp
from torch.utils._pytree import tree_leaves, tree_map

from ..chain import Stage
from .cost import Live, free_bytes
from .staged import StagedDecoder

_GRAPH = 2  # a reverse pass holds no more than this times what the decode has made
_GB, _MB = 1e9, 1e6
_SMALLEST = 25  # percent of the picture's side: below, the weights alone decide
_log = logging.getLogger(__name__)


def check_room(staged: StagedDecoder, make_room: Callable[[int], None] | None = None) -> None:
    """Refuse a decoder whose cheapest pass of a single vector does not fit into the free memory.

    Args:
        staged: the decoder.
        make_room: asks whoever manages memory for so many bytes.

    Raises:
        RuntimeError: it does not fit; what it takes, what is free, and what would fit.
    """
    device = staged.h0.device
    free = free_bytes(device)
    if free is None or all(_GRAPH * made <= free for made in staged.made):
        return
    needed = _least(staged, free)
    if needed <= free or make_room is None:
        _refuse(needed, free)
        return
    make_room(needed)
    _refuse(needed, free_bytes(device) or 0)


def check_basis(vectors: int, k: int, width: int, device: torch.device) -> None:
    """Refuse a basis of ``vectors`` for ``k`` directions that does not fit into the free memory.

    Args:
        vectors: so many at least.
        k: directions wanted.
        width: bytes of a vector and of all that is kept with it.
        device: where it is kept.

    Raises:
        RuntimeError: it does not fit.
    """
    free = free_bytes(device)
    if free is None or vectors * width <= free:
        return
    fits = int(k * free / (vectors * width))
    hint = f"ask for {fits} directions or fewer" if fits else "take a smaller picture"
    raise RuntimeError(
        f"a basis for {k} directions takes {_said(vectors * width)} of memory at least, and {_said(free)}"
        f" are free; {hint}, or free memory"
    )


def _refuse(needed: int, free: int) -> None:
    if needed <= free:
        return
    side = math.floor(100 * math.sqrt(free / needed))
    hint = f"a picture of about {side} % of this width and height would fit, or free memory"
    raise RuntimeError(
        f"one Jacobian vector at a time takes {_said(needed)} at this picture size beside the weights, and"
        f" {_said(free)} are free; {hint if side >= _SMALLEST else 'free memory'}"
    )


def _said(amount: int) -> str:
    return f"{amount / _GB:.1f} GB" if amount >= _GB / 10 else f"{amount / _MB:.1f} MB"


def _least(staged: StagedDecoder, free: int) -> int:
    """Bytes of the largest stage in the cheapest pass; 0 if no stage can be followed."""
    ends = [*staged.inputs[1:], staged.y0]
    stages = zip(staged.chain.stages, staged.inputs, ends, staged.made, strict=True)
    return max((_bytes_of(stage, at, end) for stage, at, end, made in stages if _GRAPH * made > free), default=0)


def _bytes_of(stage: Stage, at: Any, end: Any) -> int:
    """Bytes of a reverse product of one vector through a stage; 0 if it cannot be followed."""
    try:
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            here, row = (tree_map(mode.from_tensor, value) for value in (at, end))
            with Live() as live:
                pull = vjp(stage, here)[1]
                pull(row)
        return live.peak + sum(t.nbytes for t in tree_leaves(row))
    except Exception as error:  # a kernel or a patch that looks at numbers: the pass itself will show
        _log.debug("HSpace: a stage cannot be followed without its numbers: %s", error)
        return 0
