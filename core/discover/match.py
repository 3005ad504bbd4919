"""Which direction of one set is which of another: the best assignment by |cosine| (Kuhn 1955), and its signs."""

from __future__ import annotations

import torch
from torch import Tensor


def match(reference: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Order and signs that bring ``rows`` `[k d]` closest to ``reference`` `[k d]`, both of unit rows.

    Returns:
        order `[k]` (row ``order[i]`` belongs to reference i), signs `[k]` of +1 or -1, and the cosines `[k]` then
        reached, >= 0.
    """
    from scipy.optimize import linear_sum_assignment  # the host has SciPy; loaded only when needed

    cosines = reference.cpu().double() @ rows.cpu().double().T
    order = torch.as_tensor(linear_sum_assignment(-cosines.abs().numpy())[1])
    reached = cosines[torch.arange(len(order)), order]
    return order, torch.where(reached < 0, -1.0, 1.0), reached.abs()
