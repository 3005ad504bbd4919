"""The Jacobian of the decoder half with respect to h as a matrix-free operator (Haas et al. 2024, arXiv 2303.11073, section 3.2).

``J = d denoised / d h`` at one sample. Forward products batch tangents with ``vmap(jvp)``, reverse products share one kept graph.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.func import jvp, vjp, vmap

from ..denoiser import Bottleneck, Callback

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

_CPU_CHUNK = 8  # beyond this, batching brings nothing on a CPU
_FREE_SHARE = 0.5  # of the free GPU memory that one chunk may take


class DecoderJacobian:
    """``J`` of shape ``(m, d)``: d numbers of h, m of the denoised image.

    Args:
        bottleneck: one captured sample, h `[1 c h w]` in float32 or float64.
        chunk: vectors per pass; None chooses by device and free memory.
        callback: called after every chunk with ``{"i", "n", "products"}``; may raise to cancel.

    Attributes:
        jvps, vjps: products so far.
        passes: sequential passes through the decoder so far.

    Raises:
        ValueError: more than one sample, or half precision.
    """

    def __init__(self, bottleneck: Bottleneck, chunk: int | None = None, callback: Callback | None = None):
        h0 = bottleneck.h.detach()
        if h0.shape[0] != 1:
            raise ValueError(f"a Jacobian belongs to one sample, got a batch of {h0.shape[0]}; pick one image of the trajectory")
        if h0.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"Jacobian products need float32, but the model computes in {h0.dtype}; load it in float32")
        self.h0, self.decode, self.callback = h0, bottleneck.decode, callback
        self.jvps = self.vjps = self.passes = 0
        self.y0, self._pull = vjp(self.decode, h0)
        self.shape = (self.y0.numel(), h0.numel())
        self.chunk = chunk or _chunk_of(self.y0, h0)
        self._halved = False

    @property
    def products(self) -> int:
        """Forward and reverse products together."""
        return self.jvps + self.vjps

    @property
    def T(self) -> _Transpose:
        """The adjoint, for ``J.T @ u``."""
        return _Transpose(self)

    def __matmul__(self, v: Tensor) -> Tensor:
        """``J @ v``: `[d]` -> `[m]`, or columns `[d b]` -> `[m b]`."""
        return self.jvp(v[None])[0] if v.dim() == 1 else self.jvp(v.T).T

    def jvp(self, v: Tensor) -> Tensor:
        """Rows `[b d]` -> `[b m]`: the change of the image when h moves along each row."""
        self._check(v, self.shape[1])
        self.jvps += len(v)
        push = vmap(lambda row: jvp(self.decode, (self.h0,), (row.view_as(self.h0),))[1].reshape(-1))
        return self._chunked(push, v)

    def vjp(self, u: Tensor) -> Tensor:
        """Rows `[b m]` -> `[b d]`: the adjoint of :meth:`jvp`."""
        self._check(u, self.shape[0])
        self.vjps += len(u)
        return self._chunked(vmap(lambda row: self._pull(row.view_as(self.y0))[0].reshape(-1)), u)

    def to_scipy(self) -> LinearOperator:
        """The same operator for SciPy's solvers (SciPy needed), in float64 numpy."""
        from scipy.sparse.linalg import LinearOperator

        def wrap(product: Callable[[Tensor], Tensor]):
            return lambda x: product(torch.as_tensor(x).to(self.h0).reshape(1, -1)).double().cpu().numpy()[0]

        return LinearOperator(self.shape, matvec=wrap(self.jvp), rmatvec=wrap(self.vjp), dtype="float64")

    def check(self, seed: int = 0) -> float:
        """Relative gap between ``<J v, u>`` and ``<v, J^T u>`` for random v and u; costs one product of each kind.

        Raises:
            RuntimeError: J is zero, not finite, or the two products do not belong together.
        """
        g = torch.Generator().manual_seed(seed)
        v = torch.randn(1, self.shape[1], generator=g).to(self.h0)
        jv = self.jvp(v)
        jtu = self.vjp(jv)
        left, right = float(jv.double().square().sum()), float((v.double() * jtu.double()).sum())
        if not (torch.isfinite(jv).all() and torch.isfinite(jtu).all()):
            raise RuntimeError(
                "the Jacobian is not finite; the model overflows at this noise level: load it in float32 or choose another sigma"
            )
        if left == 0:
            raise RuntimeError("the image does not depend on h at this layer; the model's h is cut off, or another node replaced it")
        gap = abs(left - right) / left
        if gap > 1e-2:
            raise RuntimeError(
                f"forward and reverse derivatives differ by {gap:.1%}; a kernel of this model has a wrong derivative: update torch"
            )
        return gap

    def _check(self, rows: Tensor, width: int) -> None:
        if rows.dim() != 2 or rows.shape[1] != width:
            raise ValueError(f"expected rows of {width} numbers, [b {width}], got {list(rows.shape)}")

    def _chunked(self, product: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
        rows, done = rows.to(self.h0).contiguous(), []
        at = 0
        while at < len(rows):
            part = rows[at : at + self.chunk]
            try:
                done.append(product(part).detach())
            except torch.OutOfMemoryError as error:
                if self._halved or self.chunk == 1:
                    raise RuntimeError(
                        f"out of memory with {self.chunk} Jacobian vectors at a time; use a smaller picture or k, or free GPU memory"
                    ) from error
                self._halved, self.chunk = True, max(1, self.chunk // 2)
                if self.h0.is_cuda:
                    torch.cuda.empty_cache()
                continue
            at += len(part)
            self.passes += 1
            if self.callback is not None:
                self.callback({"i": at, "n": len(rows), "products": self.products})
        return torch.cat(done)


class _Transpose:
    def __init__(self, J: DecoderJacobian):
        self._J, self.shape = J, (J.shape[1], J.shape[0])

    def __matmul__(self, u: Tensor) -> Tensor:
        return self._J.vjp(u[None])[0] if u.dim() == 1 else self._J.vjp(u.T).T


def _chunk_of(y: Tensor, h: Tensor) -> int:
    if not h.is_cuda:
        return _CPU_CHUNK
    free, _ = torch.cuda.mem_get_info(h.device)
    # A tangent passes through activations some tens of times as large as h and the image together.
    return int(max(1, min(64, free * _FREE_SHARE // (64 * (y.numel() + h.numel()) * h.element_size()))))
