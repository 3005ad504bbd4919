"""The Jacobian of the decoder half with respect to h as a matrix-free operator.

Haas et al. 2024, arXiv 2303.11073, section 3.2.

``J = d denoised / d h`` at one sample, in chunks of as many vectors as fit into memory. Reverse products go stage by
stage (``staged.py``) unless the graphs of all stages are small.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..denoiser import Bottleneck, Callback, NotFinite, all_finite
from .by_differences import Step, best_step, differences, first_step
from .cost import Need, free_bytes
from .failures import explained, is_out_of_memory
from .foresight import check_room
from .operators import Transpose, as_linear_operator
from .precision import full_float32, in_float32, widened
from .route import Route
from .staged import StagedDecoder

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

_CPU_CHUNK = 8  # beyond this, batching brings nothing on a CPU
_MAX_CHUNK = 64
_BLOCK = 8  # vectors for which room is asked; the blocks of five directions are as wide
_SHARE = 0.8  # of the free memory that one chunk may take
_LONG = 2**18  # numbers of a vector whose basis is kept in the host's memory
_AGREES = 3e-3  # gap of the adjoint identity at which differences are taken; it sees a part of the error only
_STEADY = 1e-2  # relative change of a difference with the length of its step
_GAP = 1e-2  # of the adjoint identity; float32 rounding gives 1e-6, a wrong derivative far more


class DecoderJacobian:
    """``J`` of shape ``(m, d)``: d numbers of h, m of the denoised image.

    Works under ``torch.inference_mode`` and with weights made there. Products are computed in float32, or in float64 if
    h is; rows may come in any float type and on any device, and results return to that device.

    Args:
        bottleneck: one captured sample, h `[1 c h w]`, of any float type.
        route: how products are made; a number is the vectors per pass.
        callback: called after every chunk with ``{"i", "n", "products"}``: passes done, passes expected at most,
            products so far. May raise to cancel.

    Attributes:
        jvps, vjps: products so far.
        passes: sequential passes through the decoder so far.
        planned: upper limit of the passes, for the callback; the solvers set it.
        step: of the differences that make forward products, chosen by :meth:`check`; None for forward mode.
        gap: what :meth:`check` gave last.
        algebra: the device for float64 algebra on its vectors: that of h, or the CPU where there is no float64 (MPS) or
            vectors are so long that a basis of them would take the room of products.

    Raises:
        ValueError: more than one sample, or an h that is not floating point.
        RuntimeError: the decoder does not fit into memory, which is said before the work, or cannot be differentiated.
    """

    def __init__(self, bottleneck: Bottleneck, route: Route | int | None = None, callback: Callback | None = None):
        if bottleneck.h.shape[0] != 1:
            raise ValueError(
                f"a Jacobian belongs to one sample, got a batch of {bottleneck.h.shape[0]}; pick one image of the"
                " trajectory"
            )
        self.route = route if isinstance(route, Route) else Route(route)
        self.h0 = widened(bottleneck.h)
        self.callback = callback
        self.planned = 0
        self.jvps = self.vjps = self.passes = 0
        smooth = bottleneck.smooth or bottleneck.decode
        self.decode = in_float32(smooth, bottleneck.h)
        chain = in_float32(bottleneck.fused or smooth, bottleneck.h)
        with self._decoding(1):
            self.staged = StagedDecoder(chain, self.h0, self.decode)
        self.y0 = self.staged.y0
        if not all_finite(self.y0):
            raise NotFinite(
                "the network gives NaN or infinite values here; load it in fp32 or bf16, or choose another sigma"
            )
        check_room(self.staged, bottleneck.make_room)
        with self._decoding(1):
            self.staged.hold_graphs(self.route.room(free_bytes(self.h0.device)))
        self.shape = (self.y0.numel(), self.h0.numel())
        in_host_memory = self.h0.device.type == "mps" or max(self.shape) > _LONG
        self.algebra = torch.device("cpu") if in_host_memory else self.h0.device
        self.step: Step | None = None
        self.gap = math.inf
        self._checked = False
        self._gave_way = False
        self._matters: Tensor | None = None
        self._make_room = bottleneck.make_room
        self._most: int | None = None  # after memory ran out

    @property
    def chunk(self) -> int:
        """Vectors a pass: so many that what was measured of a pass fits into the free memory."""
        if self._most is not None:
            return self._most
        if self.route.chunk is not None:
            return self.route.chunk
        return chunk_for(self.h0.device, self.staged.needs.values())

    @property
    def products(self) -> int:
        """Forward and reverse products together."""
        return self.jvps + self.vjps

    @property
    def T(self) -> Transpose:
        """The adjoint, for ``J.T @ u``."""
        return Transpose(self)

    def __matmul__(self, v: Tensor) -> Tensor:
        """``J @ v``: `[d]` -> `[m]`, or columns `[d b]` -> `[m b]`."""
        return self.jvp(v[None])[0] if v.dim() == 1 else self.jvp(v.T).T

    def jvp(self, v: Tensor) -> Tensor:
        """Rows `[b d]` -> `[b m]`: the change of the image when h moves along each row."""
        self._check(v, self.shape[1])
        self.jvps += len(v)
        if self.step is None:
            try:
                return self._chunked("push", v, self.shape[0])
            except RuntimeError as error:
                if not (is_out_of_memory(error) and self.route.forward == "auto" and self.h0.dtype == torch.float32):
                    raise
            self._give_way()  # only out here has the memory of the pass been let go
        return self._chunked("decode", v, self.shape[0])

    def _give_way(self) -> None:
        """Make forward products of differences: forward mode has run out of memory with a single vector.

        Raises:
            RuntimeError: differences are not exact enough either.
        """
        self.staged.let_go()
        self._gave_way = True
        v = self._random(0)
        for way in ("one-sided", "central"):
            self.gap = self._settle(way, v, self._matters)
            if self.gap <= _AGREES:
                return
        raise RuntimeError(
            "forward mode does not fit into memory with one vector, and differences of decodes are wrong by"
            f" {self.gap:.1%}; use a smaller picture, or free memory"
        )

    def responses(self, v: Tensor, weights: Tensor | None = None) -> Tensor:
        """As :meth:`jvp`, more finely where that is made of differences; ``weights`` as in :meth:`check`."""
        if self.step is None and self._ways() and not self._checked:
            self.check(weights=weights)
        step = self.step
        if step is None:
            return self.jvp(v)
        self.step = step.central(float(self.h0.norm()))
        try:
            return self.jvp(v)
        finally:
            self.step = step

    def vjp(self, u: Tensor) -> Tensor:
        """Rows `[b m]` -> `[b d]`: the adjoint of :meth:`jvp`."""
        self._check(u, self.shape[0])
        self.vjps += len(u)
        return self._chunked("pull", u, self.shape[1])

    def to_scipy(self) -> LinearOperator:
        """The same operator for SciPy's solvers (SciPy needed), in float64 numpy."""
        return as_linear_operator(self)

    def check(self, seed: int = 0, weights: Tensor | None = None) -> float:
        """Relative gap between ``<J v, J v>`` and ``<v, J^T J v>``; costs a few products of each kind.

        It is taken for a random v. Where forward products are to be differences, their step is chosen here and v is
        what ``J^T M J`` makes of a random one; differences that do not pass give way to finer ones, and these to
        forward mode.

        Args:
            seed: of the random v.
            weights: M, `[m]`: what of the output matters.

        Raises:
            RuntimeError: J is zero, or the two products do not belong together.
            NotFinite: it is not finite.
        """
        v = self._random(seed)
        self._checked = True
        self._matters = weights
        for way in self._ways():
            self.gap = self._settle(way, v, weights)
            if self.gap <= _AGREES:
                return self.gap
        self.step = None
        gap, _ = self._gap(v, None)
        if not self._gave_way:
            self.gap = gap
        if self.gap > _GAP:
            raise RuntimeError(
                f"forward and reverse derivatives differ by {self.gap:.1%}: the model answers differently from one call"
                " to the next, so bypass nodes upstream that add noise or dropout inside the model; without such nodes"
                " a kernel is wrong: update torch"
            )
        return self.gap

    def _random(self, seed: int) -> Tensor:
        rows = torch.randn(1, self.shape[1], generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return rows.to(self.algebra)

    def _ways(self) -> tuple[str, ...]:
        """Kinds of differences to be tried, in this order."""
        if self.h0.dtype == torch.float64 or self.route.forward == "exact":
            return ()
        if self.route.forward == "auto" and self.staged.graphs:
            return ()  # there is room for forward mode, which is exact and shows patches one picture at a time
        return ("central",) if self.route.forward == "central" else ("one-sided", "central")

    def _settle(self, way: str, v: Tensor, weights: Tensor | None) -> float:
        """Choose a step on one power step from ``v``; returns the gap there, infinite if it changes with the step."""
        with self._decoding(1):
            self.step = first_step(self.staged, way)
        _, back = self._gap(v, weights)
        row = back / back.norm()
        with self._decoding(self.chunk):
            here = row.to(self.h0.dtype).to(self.h0.device).view(1, *self.h0.shape)
            matters = torch.ones(self.shape[0]) if weights is None else weights
            self.step, jv = best_step(self.staged, here, matters, self.step, self.chunk)
        gap, _ = self._gap(row, weights, jv.to(row.device))
        return gap if self.step.spread <= _STEADY else math.inf

    @contextmanager
    def _decoding(self, vectors: int) -> Iterator[None]:
        """Decode without a graph, and say what to do where memory runs out."""
        try:
            with torch.no_grad(), full_float32(self.h0.device):
                yield
        except RuntimeError as error:
            raise explained(error, vectors) from error

    def _gap(self, v: Tensor, weights: Tensor | None, jv: Tensor | None = None) -> tuple[float, Tensor]:
        """Relative gap of ``<J v, M J v> = <v, J^T M J v>``, and ``J^T M J v``; ``jv`` if it is known."""
        jv = self.jvp(v) if jv is None else jv
        masked = jv if weights is None else jv * weights.to(jv)
        back = self.vjp(masked).double()
        left = float((jv.double() * masked.double()).sum())
        if left == 0:
            raise RuntimeError(
                "the image does not depend on h at this layer; another node replaces it or cuts it off: bypass that"
                " node or choose another layer"
            )
        return abs(left - float((v * back).sum())) / left, back

    def summary(self) -> str:
        """Say how products are made, for people."""
        forward = "forward mode"
        if self.step is not None:
            share = self.step.length / float(self.h0.norm())
            forward = f"{self.step.way} differences, step {share:.1e} of |h|, gap to the exact adjoint {self.gap:.1e}"
        if self._gave_way:
            forward += " (forward mode ran out of memory with one vector)"
        backward = "one graph" if self.staged.graphs else f"{len(self.staged.chain.stages)} stages"
        return f"forward products by {forward}; reverse products through {backward}; {self.chunk} vectors a pass"

    def _check(self, rows: Tensor, width: int) -> None:
        if rows.dim() != 2 or rows.shape[1] != width:
            raise ValueError(f"expected rows of {width} numbers, [b {width}], got {list(rows.shape)}")

    def _chunked(self, direction: str, rows: Tensor, width: int) -> Tensor:
        home = rows.device
        at = 0
        rows = rows.detach().to(self.h0.dtype)  # narrowed before it is moved: MPS has no float64
        done = [rows.new_zeros(0, width)]
        while at < len(rows):
            # The first passes are of one and of two vectors, and what they take is measured.
            trial = self._trial(direction)
            part = rows[at : at + (trial or self.chunk)].to(self.h0.device).contiguous()
            result = self._attempt(direction, part, len(part) == trial)
            if result is None:
                continue
            if not all_finite(result):
                raise NotFinite(
                    "the Jacobian is not finite: the network overflows here; load it in fp32 or bf16, or choose another"
                    " sigma"
                )
            done.append(result.to(home))
            if trial:
                self._ask_for_room(2 if trial == 1 else _BLOCK, direction)
            at += len(part)
            self.passes += 1
            if self.callback is not None:
                self.callback({"i": self.passes, "n": max(self.planned, self.passes), "products": self.products})
        return torch.cat(done)

    def _trial(self, direction: str) -> int | None:
        """Vectors of a pass that is to be measured; None if there is nothing to learn."""
        if self.route.chunk is not None or self._most is not None:
            return None
        trial = self.staged.needs[direction].next
        return trial if trial == 1 or self.chunk > 1 else None

    def _ask_for_room(self, vectors: int, direction: str) -> None:
        """Ask for the room that so many vectors take, as far as it is known, if it is not there."""
        needed = int(self.staged.needs[direction].of(vectors) / _SHARE)
        free = free_bytes(self.h0.device)
        if self._make_room is not None and free is not None and needed > free:
            self._make_room(needed)

    def _attempt(self, direction: str, part: Tensor, measured: bool) -> Tensor | None:
        """The products, or None if memory ran out and the next attempt takes less of it."""
        at = self.y0 if direction == "pull" else self.h0
        try:
            with torch.no_grad(), full_float32(self.h0.device):
                rows = part.view(len(part), *at.shape)
                if direction == "decode" and self.step is not None:
                    product = differences(self.staged, rows, self.step, measured)
                else:
                    product = getattr(self.staged, direction)(rows, measured)
                return product.detach().reshape(len(part), -1)
        except RuntimeError as error:
            if not is_out_of_memory(error) and direction == "decode" and len(part) > 1:
                self._most = 1  # some patches of other packs take one picture at a time, as the host's RenormCFG does
                return None
            if not is_out_of_memory(error) or (len(part) == 1 and not self.staged.graphs):
                raise explained(error, len(part)) from error
        # Only out here has the traceback, and with it the memory it held, been let go.
        if len(part) == 1:
            self.staged.let_go()
        else:
            self._most = len(part) // 2
        if self.h0.is_cuda:
            torch.cuda.empty_cache()
        return None


def chunk_for(device: torch.device, needs: Iterable[Need]) -> int:
    """The most vectors whose passes fit into a share of the free memory; at least 1."""
    free = free_bytes(device)
    most = _MAX_CHUNK if device.type == "cuda" else _CPU_CHUNK
    if free is None:
        return most
    sizes = list(needs)
    return next((n for n in range(most, 1, -1) if max((need.of(n) for need in sizes), default=0) <= _SHARE * free), 1)
