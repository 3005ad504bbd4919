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
from .precision import in_float32

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

_CPU_CHUNK = 8  # beyond this, batching brings nothing on a CPU
_MAX_CHUNK = 64
_FREE_SHARE = 0.5  # of the free GPU memory that one chunk may take
_GAP = 1e-2  # of the adjoint identity; float32 rounding gives 1e-6, a wrong derivative far more


class DecoderJacobian:
    """``J`` of shape ``(m, d)``: d numbers of h, m of the denoised image.

    Works under ``torch.inference_mode`` and with weights made there. Products are computed in float32, or in float64 if h is; rows
    may come in any float type and on any device, and results return to that device.

    Args:
        bottleneck: one captured sample, h `[1 c h w]`, of any float type.
        chunk: vectors per pass; None chooses by device and free memory.
        callback: called after every chunk with ``{"i", "n", "products"}``: passes done, passes expected at most, products
            so far. May raise to cancel.

    Attributes:
        jvps, vjps: products so far.
        passes: sequential passes through the decoder so far.
        planned: upper limit of the passes, for the callback; the solvers set it.
        algebra: the device for float64 algebra on its vectors: that of h, or the CPU where there is no float64 (MPS).

    Raises:
        ValueError: more than one sample, an h that is not floating point, or a chunk below 1.
        RuntimeError: the decoder does not fit into memory or cannot be differentiated.
    """

    def __init__(self, bottleneck: Bottleneck, chunk: int | None = None, callback: Callback | None = None):
        if bottleneck.h.shape[0] != 1:
            raise ValueError(f"a Jacobian belongs to one sample, got a batch of {bottleneck.h.shape[0]}; pick one image of the trajectory")
        if chunk is not None and chunk < 1:
            raise ValueError(f"chunk must be at least 1, got {chunk}; None chooses by free memory")
        self.h0, self.decode = in_float32(bottleneck)
        self.callback, self.planned = callback, 0
        self.jvps = self.vjps = self.passes = 0
        self.algebra = torch.device("cpu") if self.h0.device.type == "mps" else self.h0.device
        before = _allocated(self.h0)
        try:
            with torch.no_grad():  # the weights need no graph; vjp keeps its own
                self.y0, self._pull = vjp(self.decode, self.h0)[:2]
        except RuntimeError as error:
            raise _explained(error, 1) from error
        self.shape = (self.y0.numel(), self.h0.numel())
        self.chunk = chunk or _chunk_for(self.h0, _allocated(self.h0) - before)
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
        # A model that draws noise gets as far as ``check``, which says so; vmap alone would refuse it in its own words.
        push = vmap(lambda row: jvp(self.decode, (self.h0,), (row.view_as(self.h0),))[1].reshape(-1), randomness="different")
        return self._chunked(push, v, self.shape[0])

    def vjp(self, u: Tensor) -> Tensor:
        """Rows `[b m]` -> `[b d]`: the adjoint of :meth:`jvp`."""
        self._check(u, self.shape[0])
        self.vjps += len(u)
        return self._chunked(vmap(lambda row: self._pull(row.view_as(self.y0))[0].reshape(-1)), u, self.shape[1])

    def to_scipy(self) -> LinearOperator:
        """The same operator for SciPy's solvers (SciPy needed), in float64 numpy."""
        from scipy.sparse.linalg import LinearOperator

        def wrap(product: Callable[[Tensor], Tensor]):
            return lambda x: product(torch.as_tensor(x).reshape(1, -1)).double().numpy()[0]

        make = LinearOperator  # the class builds one of its kinds out of the functions, which its signature does not show
        return make(self.shape, matvec=wrap(self.jvp), rmatvec=wrap(self.vjp), dtype="float64")  # pyright: ignore[reportCallIssue]

    def check(self, seed: int = 0) -> float:
        """Relative gap between ``<J v, J v>`` and ``<v, J^T J v>`` for a random v; costs one product of each kind.

        Raises:
            RuntimeError: J is zero, not finite, or the two products do not belong together.
        """
        v = torch.randn(1, self.shape[1], generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(self.algebra)
        jv = self.jvp(v)
        jtjv = self.vjp(jv)
        if not (torch.isfinite(jv).all() and torch.isfinite(jtjv).all()):
            raise RuntimeError("the Jacobian is not finite: the model overflows here; load it in float32 or choose another sigma")
        left, right = float(jv.double().square().sum()), float((v * jtjv.double()).sum())
        if left == 0:
            raise RuntimeError(
                "the image does not depend on h at this layer; another node replaces it or cuts it off: bypass that node or choose "
                "another layer"
            )
        gap = abs(left - right) / left
        if gap > _GAP:
            raise RuntimeError(
                f"forward and reverse derivatives differ by {gap:.1%}: the model answers differently from one call to the next, so bypass "
                "nodes upstream that add noise or dropout inside the model; without such nodes a kernel is wrong: update torch"
            )
        return gap

    def _check(self, rows: Tensor, width: int) -> None:
        if rows.dim() != 2 or rows.shape[1] != width:
            raise ValueError(f"expected rows of {width} numbers, [b {width}], got {list(rows.shape)}")

    def _chunked(self, product: Callable[[Tensor], Tensor], rows: Tensor, width: int) -> Tensor:
        home, at = rows.device, 0
        rows = rows.detach().to(self.h0.dtype).to(self.h0.device).contiguous()  # narrowed first: MPS has no float64
        done = [rows.new_zeros(0, width)]
        while at < len(rows):
            part = rows[at : at + self.chunk]
            result = self._attempt(product, part)
            if result is None:
                continue
            done.append(result)
            at += len(part)
            self.passes += 1
            if self.callback is not None:
                self.callback({"i": self.passes, "n": max(self.planned, self.passes), "products": self.products})
        return torch.cat(done).to(home)

    def _attempt(self, product: Callable[[Tensor], Tensor], part: Tensor) -> Tensor | None:
        """The product, or None if memory ran out for the first time and the chunk is now half as long."""
        try:
            with torch.no_grad():
                return product(part).detach()
        except RuntimeError as error:
            if self._halved or len(part) == 1 or not _out_of_memory(error):
                raise _explained(error, len(part)) from error
        # Only out here has the traceback, and with it the memory it held, been let go.
        self._halved, self.chunk = True, len(part) // 2
        if self.h0.is_cuda:
            torch.cuda.empty_cache()
        return None


class _Transpose:
    def __init__(self, J: DecoderJacobian):
        self._J, self.shape = J, (J.shape[1], J.shape[0])

    def __matmul__(self, u: Tensor) -> Tensor:
        return self._J.vjp(u[None])[0] if u.dim() == 1 else self._J.vjp(u.T).T


def _out_of_memory(error: RuntimeError) -> bool:
    text = str(error).lower()
    return isinstance(error, torch.cuda.OutOfMemoryError) or "out of memory" in text or "can't allocate memory" in text


def _explained(error: RuntimeError, vectors: int) -> RuntimeError:
    if _out_of_memory(error):
        kind = type(error) if isinstance(error, torch.cuda.OutOfMemoryError) else RuntimeError  # the host frees models for its own kind
        return kind(f"out of memory with {vectors} Jacobian vectors at a time; use a smaller picture or k, or free GPU memory")
    if isinstance(error, NotImplementedError):
        return RuntimeError(
            f"a kernel of this model has no derivative ({str(error).splitlines()[0][:160]}); load it unquantised, with plain attention"
        )
    return error


def _allocated(h: Tensor) -> int:
    return torch.cuda.memory_allocated(h.device) if h.is_cuda else 0


def _chunk_for(h: Tensor, graph: int) -> int:
    """Vectors that fit: each needs less than the graph of one sample, whose size in bytes is known by now."""
    if not h.is_cuda:
        return _CPU_CHUNK
    free = torch.cuda.mem_get_info(h.device)[0] + torch.cuda.memory_reserved(h.device) - torch.cuda.memory_allocated(h.device)
    return int(max(1, min(_MAX_CHUNK, free * _FREE_SHARE // max(graph, 1))))
