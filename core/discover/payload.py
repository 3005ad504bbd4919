"""What travels on an ``HSPACE_BASIS`` socket: a plain dict of tensors, numbers and text."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from torch import Tensor

from ..foreign import is_dense, is_finite, shown
from ..payload import AGAIN, BASIS, check_format
from .find import RegionBasis
from .krylov import KrylovBasis

_BASIS_FORMAT = "hspace.basis"

_BASIS_FACTS = {
    "core": (int,),
    "sigma": (float, int),
    "layer": (str,),
    "fingerprint": (str,),
    "residual": (float, int),
    "products": (int,),
    "passes": (int,),
    "seconds": (float, int),
    "history": (tuple, list),
    "shortfall": (float, int, type(None)),
}


def basis_to_payload(basis: RegionBasis) -> dict[str, Any]:
    """What goes onto an ``HSPACE_BASIS`` socket; its tensors are on the CPU."""
    krylov = {f.name: getattr(basis.krylov, f.name) for f in dataclasses.fields(KrylovBasis)}
    outer = {f.name: getattr(basis, f.name) for f in dataclasses.fields(RegionBasis) if f.name != "krylov"}
    flat = {k: v.cpu() if isinstance(v, Tensor) else v for k, v in {**krylov, **outer}.items()}
    flat["q"] = flat["q"].float()  # half the memory, and as exact as the network
    return {"format": _BASIS_FORMAT, "version": 1, **flat}


def basis_from_payload(payload: object) -> RegionBasis:
    """The basis that came in on a socket.

    Raises:
        ValueError: anything else, or damaged; the socket is named.
    """
    values = check_format(BASIS, _BASIS_FORMAT, payload)
    inner, outer = ({f.name for f in dataclasses.fields(kind)} for kind in (KrylovBasis, RegionBasis))
    missing = sorted((inner | outer) - {"krylov"} - set(values))
    if missing:
        raise ValueError(f"{BASIS} lacks {', '.join(missing)}; {AGAIN}")
    _check_basis(values)
    krylov = KrylovBasis(**{name: values[name] for name in inner})
    return RegionBasis(krylov, **{name: values[name] for name in outer - {"krylov"}})


def _check_basis(values: dict[str, Any]) -> None:
    q, b, weights, mask = (values[name] for name in ("q", "b", "weights", "mask"))
    if not (is_dense(q, 2) and is_dense(b, 2) and is_dense(weights, 1)) or b.shape != (len(q), len(weights)):
        raise ValueError(f"{BASIS}: q must be [n d], b [n m] and weights [m]; {AGAIN}")
    shapes = values["shape"], values["image"]
    if not all(
        isinstance(s, (tuple, list)) and len(s) == 3 and all(type(n) is int and n > 0 for n in s) for s in shapes
    ):
        raise ValueError(
            f"{BASIS}: shape and image must be (c, h, w), got {shown(shapes[0])} and {shown(shapes[1])}; {AGAIN}"
        )
    if (
        math.prod(shapes[0]) != q.shape[1]
        or math.prod(shapes[1]) % len(weights)
        or (mask is not None and not is_dense(mask, 2))
    ):
        raise ValueError(
            f"{BASIS}: q, weights and mask do not fit shape {tuple(shapes[0])} and image {tuple(shapes[1])}; {AGAIN}"
        )
    for name, value in (("q", q), ("b", b), ("weights", weights), ("mask", mask)):
        if value is not None and not is_finite(value):
            raise ValueError(f"{BASIS}: {name} holds NaN or infinite values; {AGAIN}")
    for name, kinds in _BASIS_FACTS.items():
        value = values[name]
        if (
            not isinstance(value, kinds)
            or isinstance(value, bool)
            or (isinstance(value, float) and not math.isfinite(value))
        ):
            raise ValueError(
                f"{BASIS}: {name} must be {' or '.join(k.__name__ for k in kinds)}, got {shown(value)}; {AGAIN}"
            )
    if not 1 <= values["core"] <= len(q) or values["sigma"] <= 0:
        raise ValueError(
            f"{BASIS}: core must lie in 1..{len(q)} and sigma above 0, got {values['core']} and {values['sigma']};"
            f" {AGAIN}"
        )
