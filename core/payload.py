"""What travels on the pack's sockets: plain dicts of tensors, numbers and text, readable without importing this pack.

``HSPACE_TRAJECTORY``: ``format`` "hspace.trajectory", ``version`` 1, and

* ``sigmas`` `[n+1]` float64, noise to signal ratio, descending, last 0;
* ``states`` `[n+1 b c h w]`, ``x0 + sigma * noise``, images in -1..1 (or latents), noisiest first;
* ``fingerprint`` hex text of the model, ``method`` text, and ``noises`` `[n b c h w]`, ``reconstruction`` `[b c h w]`,
  ``residual`` `[n]`, each a tensor or None; ``extra`` a dict, in which ``prompts`` holds what the model was conditioned on:
  ``positive`` and ``negative``, CONDITIONING lists of the host, and ``cfg``; ``flow`` is True where states are
  ``(1 - sigma) * x0 + sigma * noise``; ``exact`` names the coupled inversion ("edict" or "bdia") and its parameter, and ``pair``
  `[2 b c h w]` float64 holds the two states that it needs on the way back.

``HSPACE_DIRECTIONS``: ``format`` "hspace.directions", ``version`` 1, and

* ``vectors`` `[t k c h w]`, k unit directions (t = 1: shared by all steps), ``sigmas`` `[t]`, the levels they were found at;
* ``gain`` and ``leak`` `[t k]`, response inside and outside the mask per unit step; ``spectrum`` `[n]`; ``mask`` `[h w]` or None;
* ``layer`` ("middle", "up.k", or "x" for the state itself), ``fingerprint``, ``method``, ``labels`` (a list of k texts, or empty).

``HSPACE_BASIS``: ``format`` "hspace.basis", ``version`` 1, and

* ``q`` `[n d]` float32, orthonormal rows that span part of h, ``b`` `[n m]`, what the decoder makes of each, ``weights`` `[m]`, the
  mask on the flattened picture, ``mask`` `[h w]` or None as it was painted;
* ``shape`` and ``image``, ``(c, h, w)`` of h and of the picture; ``core``, how many rows belong to the region itself;
* ``sigma``, ``layer``, ``fingerprint``; and for the report ``residual``, ``shortfall`` (or None), ``history``, ``products``,
  ``passes``, ``seconds``.
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

from torch import Tensor

from .directions import Directions
from .discover.find import RegionBasis
from .discover.krylov import KrylovBasis
from .trajectory import Trajectory

TRAJECTORY, DIRECTIONS, BASIS = "HSPACE_TRAJECTORY", "HSPACE_DIRECTIONS", "HSPACE_BASIS"
VERSION = 1
_FORMATS = {TRAJECTORY: ("hspace.trajectory", Trajectory), DIRECTIONS: ("hspace.directions", Directions)}
_BASIS_FORMAT = "hspace.basis"
_OPTIONAL = {"noises", "reconstruction", "residual", "mask"}
_TENSORS = {"sigmas", "states", "vectors", "gain", "leak", "spectrum", *_OPTIONAL}
_T = TypeVar("_T", Trajectory, Directions)


def trajectory_to_payload(trajectory: Trajectory) -> dict[str, Any]:
    """What goes onto an ``HSPACE_TRAJECTORY`` socket (tensors are shared, not copied)."""
    return _to(TRAJECTORY, trajectory)


def trajectory_from_payload(payload: object) -> Trajectory:
    """The trajectory that came in on a socket.

    Raises:
        ValueError: anything else, or damaged; the socket is named.
    """
    return _from(TRAJECTORY, payload, Trajectory)


def directions_to_payload(directions: Directions) -> dict[str, Any]:
    """What goes onto an ``HSPACE_DIRECTIONS`` socket (tensors are shared, not copied)."""
    payload = _to(DIRECTIONS, directions)
    payload["labels"] = list(directions.labels)
    return payload


def directions_from_payload(payload: object) -> Directions:
    """The directions that came in on a socket.

    Raises:
        ValueError: anything else, or damaged; the socket is named.
    """
    return _from(DIRECTIONS, payload, Directions)


def basis_to_payload(basis: RegionBasis) -> dict[str, Any]:
    """What goes onto an ``HSPACE_BASIS`` socket; its tensors are on the CPU."""
    krylov = {f.name: getattr(basis.krylov, f.name) for f in dataclasses.fields(KrylovBasis)}
    outer = {f.name: getattr(basis, f.name) for f in dataclasses.fields(RegionBasis) if f.name != "krylov"}
    flat = {k: v.cpu() if isinstance(v, Tensor) else v for k, v in {**krylov, **outer}.items()}
    flat["q"] = flat["q"].float()  # half the memory, and as exact as the network
    return {"format": _BASIS_FORMAT, "version": VERSION, **flat}


def basis_from_payload(payload: object) -> RegionBasis:
    """The basis that came in on a socket.

    Raises:
        ValueError: anything else, or damaged; the socket is named.
    """
    values = _checked(BASIS, _BASIS_FORMAT, payload)
    inner, outer = ({f.name for f in dataclasses.fields(kind)} for kind in (KrylovBasis, RegionBasis))
    missing = sorted((inner | outer) - {"krylov"} - set(values))
    if missing:
        raise ValueError(f"{BASIS} lacks {', '.join(missing)}; make it again with a node of this pack")
    q, b, weights = (values[name] for name in ("q", "b", "weights"))
    if not all(isinstance(v, Tensor) for v in (q, b, weights)) or q.dim() != 2 or b.shape != (len(q), len(weights)):
        raise ValueError(f"{BASIS}: q must be [n d], b [n m] and weights [m]; make it again with a node of this pack")
    krylov = KrylovBasis(**{name: values[name] for name in inner - {"q"}}, q=q.double())
    return RegionBasis(krylov, **{name: values[name] for name in outer - {"krylov"}})


def _to(socket: str, value: Trajectory | Directions) -> dict[str, Any]:
    fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    return {"format": _FORMATS[socket][0], "version": VERSION, **fields}


def _from(socket: str, payload: object, kind: type[_T]) -> _T:
    payload = _checked(socket, _FORMATS[socket][0], payload)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if field.name not in payload:
            if required:
                raise ValueError(f"{socket} lacks {field.name!r}; make it again with a node of this pack")
            continue
        value = payload[field.name]
        expected = _expected(field.name)
        if not isinstance(value, expected) and not (value is None and field.name in _OPTIONAL):
            names = " or ".join(t.__name__ for t in expected)
            raise ValueError(
                f"{socket}: {field.name!r} must be a {names}, got {type(value).__name__}; make it again with a node of this pack"
            )
        values[field.name] = value
    if "labels" in values:
        values["labels"] = tuple(str(v) for v in values["labels"])
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"{socket}: {error}") from error


def _checked(socket: str, name: str, payload: object) -> dict[str, Any]:
    if not isinstance(payload, dict) or payload.get("format") != name:
        got = payload.get("format") if isinstance(payload, dict) else type(payload).__name__
        raise ValueError(f"{socket} must carry a dict of format {name!r}, got {got!r:.60}; connect an output of that type of this pack")
    if payload.get("version") != VERSION:
        raise ValueError(
            f"{socket} has version {payload.get('version')!r:.20}, this pack reads {VERSION}; update the older of the two packs"
        )
    return payload


def _expected(name: str) -> tuple[type, ...]:
    if name in _TENSORS:
        return (Tensor,)
    return {"extra": (dict,), "labels": (list, tuple)}.get(name, (str,))
