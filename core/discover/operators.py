"""A Jacobian in other clothes: transposed, and as SciPy's solvers take it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

    from .jacobian import DecoderJacobian


class Transpose:
    """The adjoint, for ``J.T @ u``: `[m]` -> `[d]`, or columns `[m b]` -> `[d b]`."""

    def __init__(self, J: DecoderJacobian):
        self._J = J
        self.shape = (J.shape[1], J.shape[0])

    def __matmul__(self, u: Tensor) -> Tensor:
        return self._J.vjp(u[None])[0] if u.dim() == 1 else self._J.vjp(u.T).T


def as_linear_operator(J: DecoderJacobian) -> LinearOperator:
    """The same operator for SciPy's solvers (SciPy needed), in float64 numpy."""
    from scipy.sparse.linalg import LinearOperator

    def wrap(product: Callable[[Tensor], Tensor]):
        return lambda x: product(torch.as_tensor(x).reshape(1, -1)).double().numpy()[0]

    make = LinearOperator  # the class builds one of its kinds out of the functions, which its signature does not show
    return make(J.shape, matvec=wrap(J.jvp), rmatvec=wrap(J.vjp), dtype="float64")  # pyright: ignore[reportCallIssue]
