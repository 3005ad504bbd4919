"""What travels on the pack's sockets: plain dicts of tensors, numbers and text, readable without importing this pack.

``HSPACE_TRAJECTORY``: ``format`` "hspace.trajectory", ``version`` 2, and

* ``sigmas`` `[n+1]` float64, noise to signal ratio, descending, last 0;
* ``states`` `[n+1 b ...]` (of pictures `[n+1 b c h w]`), images in -1..1 or latents, noisiest first; ``noising`` says
  what they are: "sigma", ``x0 + sigma * noise``, or "flow", ``(1 - sigma) * x0 + sigma * noise``;
* ``fingerprint`` hex text of the model, ``method`` text, and ``noises`` `[n b ...]`, ``reconstruction`` `[b ...]`,
  ``residual`` `[n]`, each a tensor or None;
* ``prompts``, what the model was conditioned on, or None: a dict of ``positive`` and ``negative``, CONDITIONING lists
  of the host, and ``cfg``;
* ``exact``, the coupled inversion that made it, or None: a dict of ``method`` ("edict" or "bdia") and ``parameter``
  (mixing or gamma); ``pair`` `[2 b ...]` float64, the two states that it needs on the way back, or None;
* ``seed`` of a stochastic inversion, or None; ``moved``, whether the first state was edited;
* ``fit``, how the pictures were brought to the model's size, or None: a dict of ``source`` ``[h w]``, ``box`` ``[left
  top right bottom]`` in pixels of them, and ``size`` ``[h w]``;
* ``world``, how hard they are to denoise, or None: a dict of ``sigma``, ``ratios`` (one a picture, over the median of
  the model's own world), ``usual`` and ``limit`` (see :class:`core.picture_facts.WorldFact`). Trajectories of before
  lack these two.
* ``solver``, whose steps made the states and lead back: "euler" (also where it is missing), "midpoint" or "fireflow".

Version 1 had a dict ``extra`` in place of ``noising`` (there ``flow``, true or false), ``prompts``, ``exact`` (with its
parameter named ``mixing`` or ``gamma``), ``pair``, ``seed`` and ``moved``. It is still read.

``HSPACE_DIRECTIONS``: ``format`` "hspace.directions", ``version`` 2, and

* ``vectors`` `[t k ...]` (of a grid of features `[t k c h w]`), k unit directions (t = 1: shared by all steps),
  ``sigmas`` `[t]`, the levels they were found at;
* ``gain`` and ``leak`` `[t k]`, response inside and outside the mask per unit step; ``spectrum`` `[n]`; ``mask``
  `[h w]` or None;
* ``layer`` (a name that the model offers, such as "middle", "up.k" or "block.k", or "x" for the state itself),
  ``fingerprint``, ``method``, ``labels`` (a list of k texts, or empty);
* ``calibration``, the strength at which each changes its region clearly, or None: a dict of ``unit`` `[2 k]` (along
  the direction, and against it), ``area`` `[k]` (pixels of the mask), and what it was measured for: ``sigma_start``,
  ``sigma_end``, ``size`` (height and width of the states) and ``picture`` (16 hex digits). It may be missing.

Version 1 had `[t k c h w]` alone, and no layers but "middle", "up.k" and "x". It is still read.

``HSPACE_BASIS``: ``format`` "hspace.basis", ``version`` 1, and

* ``q`` `[n d]` float32, orthonormal rows that span part of h, ``b`` `[n m]`, what the decoder makes of each,
  ``weights`` `[m]`, the mask on the flattened picture, ``mask`` `[h w]` or None as it was painted;
* ``shape`` and ``image``, ``(c, h, w)`` of h and of the picture; ``core``, how many rows belong to the region itself;
* ``sigma``, ``layer``, ``fingerprint``; and for the report ``residual``, ``shortfall`` (or None), ``history``,
  ``products``, ``passes``, ``seconds``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from .calibration import Calibration, calibration_of
from .directions import Directions
from .fields import TENSOR, TEXT, Field, each, flag, mapping
from .foreign import check_conditioning, is_dense, is_finite, is_number, shown
from .picture_facts import fact_to_dict, fit_from_dict, world_from_dict
from .trajectory import ExactMethod, Trajectory

TRAJECTORY, DIRECTIONS, BASIS = "HSPACE_TRAJECTORY", "HSPACE_DIRECTIONS", "HSPACE_BASIS"
_MOST_LABELS = 2**20

_FORMATS = {TRAJECTORY: ("hspace.trajectory", 2), DIRECTIONS: ("hspace.directions", 2)}
_RULES: dict[str, dict[str, Field]] = {
    TRAJECTORY: {
        "sigmas": TENSOR,
        "states": TENSOR,
        "fingerprint": TEXT,
        "method": TEXT,
        "noises": TENSOR.or_none(),
        "reconstruction": TENSOR.or_none(),
        "residual": TENSOR.or_none(),
        "noising": TEXT,
        "prompts": mapping().or_none(),
        "exact": mapping().or_none(),
        "pair": TENSOR.or_none(),
        "seed": Field("a whole number", lambda v: isinstance(v, int)).or_none(),
        "moved": flag(),
        "fit": mapping().or_none(),
        "world": mapping().or_none(),
        "solver": TEXT,
    },
    DIRECTIONS: {
        "vectors": TENSOR,
        "sigmas": TENSOR,
        "gain": TENSOR,
        "leak": TENSOR,
        "layer": TEXT,
        "fingerprint": TEXT,
        "mask": TENSOR.or_none(),
        "method": TEXT,
        "labels": each(TEXT, 0, _MOST_LABELS),
        "spectrum": TENSOR,
        "calibration": mapping().or_none(),
    },
}
"""What each field of a value must be; its own class checks how they fit together."""

AGAIN = "make it again with a node of this pack"

_PARAMETERS = {"edict": "mixing", "bdia": "gamma"}

_T = TypeVar("_T", Trajectory, Directions)


def trajectory_to_payload(trajectory: Trajectory) -> dict[str, Any]:
    """Make what goes onto an ``HSPACE_TRAJECTORY`` socket (tensors are shared, not copied)."""
    payload = _to(TRAJECTORY, trajectory)
    if trajectory.exact is not None:
        payload["exact"] = dataclasses.asdict(trajectory.exact)
    return payload | {"fit": fact_to_dict(trajectory.fit), "world": fact_to_dict(trajectory.world)}


def trajectory_from_payload(payload: object) -> Trajectory:
    """Read the trajectory that came in on a socket.

    Raises:
        ValueError: anything else, or damaged; the socket is named.
    """
    return _from(TRAJECTORY, payload, Trajectory)


def directions_to_payload(directions: Directions) -> dict[str, Any]:
    """Make what goes onto an ``HSPACE_DIRECTIONS`` socket (tensors are shared, not copied)."""
    payload = _to(DIRECTIONS, directions)
    payload["labels"] = list(directions.labels)
    found = directions.calibration
    payload["calibration"] = None if found is None else {"unit": found.unit, "area": found.area, **found.facts}
    return payload


def directions_from_payload(payload: object) -> Directions:
    """Read the directions that came in on a socket.

    Raises:
        ValueError: anything else, or damaged; the socket is named.
    """
    return _from(DIRECTIONS, payload, Directions)


def _to(socket: str, value: Trajectory | Directions) -> dict[str, Any]:
    name, version = _FORMATS[socket]
    return {"format": name, "version": version, **{rule: getattr(value, rule) for rule in _RULES[socket]}}


def _from(socket: str, payload: object, kind: type[_T]) -> _T:
    name, newest = _FORMATS[socket]
    payload = check_format(socket, name, payload, newest)
    if socket == TRAJECTORY and payload["version"] == 1:
        payload = _without_extra(payload)
    values = {name: _checked(socket, name, payload[name]) for name in _RULES[socket] if name in payload}
    for field in dataclasses.fields(kind):
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and field.name not in values:
            raise ValueError(f"{socket} lacks {field.name!r}; {AGAIN}")
    try:
        if "labels" in values:
            values["labels"] = tuple(values["labels"])
        for name, read in (
            ("exact", _exact),
            ("fit", fit_from_dict),
            ("world", world_from_dict),
            ("calibration", _calibration),
        ):
            if values.get(name) is not None:
                values[name] = read(values[name])
        carried = kind(**values)
        if isinstance(carried, Trajectory):
            _check_trajectory(carried)
        elif carried.mask is not None and not is_dense(carried.mask, 2):
            raise ValueError(f"mask must be [h w], got {shown(carried.mask)}; {AGAIN}")
        return carried
    except ValueError as error:
        raise ValueError(f"{socket}: {error}") from error


def _checked(socket: str, name: str, value: Any) -> Any:
    rule = _RULES[socket][name]
    if not rule.holds(value):
        raise ValueError(f"{socket}: {name!r} must be {rule.says}, got {shown(value)}; {AGAIN}")
    return value


def _without_extra(payload: dict[str, Any]) -> dict[str, Any]:
    """Turn a trajectory of version 1 into one of version 2."""
    extra = payload.get("extra", {})
    if not isinstance(extra, dict):
        raise ValueError(f"{TRAJECTORY}: 'extra' must be a dict, got {shown(extra)}; {AGAIN}")
    flow, exact, seed = extra.get("flow", False), extra.get("exact"), extra.get("seed")
    if not isinstance(flow, bool):
        raise ValueError(f"{TRAJECTORY}: extra['flow'] must be true or false, got {shown(flow)}; {AGAIN}")
    if isinstance(exact, dict):
        parameter = exact.get(_PARAMETERS.get(str(exact.get("method")), ""))
        exact = {"method": exact.get("method"), "parameter": parameter}
    values = {k: v for k, v in payload.items() if k != "extra"}
    return values | {
        "noising": "flow" if flow else "sigma",
        "prompts": extra.get("prompts"),
        "exact": exact,
        "pair": extra.get("pair"),
        "seed": seed if isinstance(seed, int) else None,
        "moved": bool(extra.get("moved")),
    }


def _exact(values: dict[str, Any]) -> ExactMethod:
    method, parameter = values.get("method"), values.get("parameter")
    if method not in ("edict", "bdia") or not is_number(parameter):
        raise ValueError(f"exact must name edict or bdia with its parameter, got {shown(values)}; {AGAIN}")
    return ExactMethod(method, parameter)


def _calibration(values: dict[str, Any]) -> Calibration:
    missing = {"unit", "area", "sigma_start", "sigma_end", "size", "picture"} - set(values)
    if missing:
        raise ValueError(f"calibration must hold {', '.join(sorted(missing))} as well; {AGAIN}")
    return calibration_of(values["unit"], values["area"], values)


def _check_trajectory(trajectory: Trajectory) -> None:
    """Refuse what inversions store beside the states, and nodes rely on, where it does not fit them."""
    n, *shape = trajectory.states.shape
    shapes = {"noises": [n - 1, *shape], "reconstruction": shape, "residual": [n - 1], "pair": [2, *shape]}
    for name, expected in shapes.items():
        value = getattr(trajectory, name)
        if value is None:
            continue
        if not is_dense(value) or list(value.shape) != expected or not is_finite(value):
            raise ValueError(f"{name} must be finite and {expected}, got {shown(value)}; {AGAIN}")
    if trajectory.prompts is not None:
        _check_prompts(trajectory.prompts)


def _check_prompts(prompts: Mapping[str, Any]) -> None:
    if set(prompts) - {"positive", "negative", "cfg"}:
        raise ValueError(f"prompts must be a dict of positive, negative and cfg, got {shown(prompts)}; {AGAIN}")
    if not is_number(prompts.get("cfg", 1.0)):
        raise ValueError(f"prompts must hold a number as cfg, got {shown(prompts['cfg'])}; {AGAIN}")
    for side in ("positive", "negative"):
        if side in prompts and prompts[side] != []:
            check_conditioning(prompts[side], f"prompts[{side!r}]")


def check_format(
    socket: str, name: str, payload: object, newest: int = 1, source: str = "an output of that type"
) -> dict[str, Any]:
    """Refuse what is no dict of the format ``name`` and of a version that is known.

    Args:
        socket: names the socket.
        name: of the format.
        payload: what came in.
        newest: the last version that is known.
        source: what to connect instead.

    Raises:
        ValueError: anything else; the socket is named.
    """
    if not isinstance(payload, dict) or payload.get("format") != name:
        got = payload.get("format") if isinstance(payload, dict) else type(payload).__name__
        raise ValueError(f"{socket} must carry a dict of format {name!r}, got {ascii(got)[:60]}; connect {source}")
    version = payload.get("version")
    if not isinstance(version, int) or not 1 <= version <= newest:
        known = "1" if newest == 1 else f"1 to {newest}"
        raise ValueError(
            f"{socket} has version {ascii(version)[:20]}, this pack reads {known}; update the older of the two packs"
        )
    return payload
