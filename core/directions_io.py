"""The direction file: one safetensors file, its metadata validated, nothing in it ever executed or used as a path.

Tensors: ``vectors`` `[t k c h w]` (F32 or F16), ``gain`` and ``leak`` `[t k]`, ``spectrum`` `[n]`, and optionally ``mask`` `[h w]`
(F32). Metadata: one key ``hspace`` with JSON: ``format`` ("hspace.directions"), ``version`` (1), ``layer``, ``fingerprint``,
``method``, ``labels`` (k texts or empty) and ``sigmas`` (t numbers). Readers refuse what they do not know.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor

from .directions import Directions
from .own_file import MAX_HEADER, write_bytes

FORMAT, VERSION = "hspace.directions", 1
MAX_BYTES = 512 * 2**20
MAX_T, MAX_K, MAX_CHANNELS, MAX_SIDE, MAX_MASK, MAX_SPECTRUM = 1000, 256, 8192, 1024, 8192, 65536
MAX_LABEL, MAX_METHOD = 64, 300
_LAYER, _FINGERPRINT = re.compile(r"middle|up\.\d{1,3}"), re.compile(r"[0-9a-f]{6,64}")
_DTYPES = {"F32": torch.float32, "F16": torch.float16}
_RANKS = {"vectors": 5, "gain": 2, "leak": 2, "spectrum": 1, "mask": 2}
_FIELDS = {"format", "version", "layer", "fingerprint", "method", "labels", "sigmas"}
_REMEDY = "; get the file again from where it came, or discover the directions anew"


def save_directions(path: Path | str, directions: Directions, half: bool = False) -> Path:
    """Write directions to ``path``; the file appears complete or not at all.

    Args:
        path: where; an existing file is replaced (:func:`core.paths.safe_output_path` finds a free name).
        directions: what.
        half: store the vectors as float16, half the size, error 5e-4.

    Returns:
        The path.

    Raises:
        ValueError: the directions break a rule of the format (limits, unit norm, labels), so that no reader would take them.
    """
    tensors = {"vectors": directions.vectors, "gain": directions.gain, "leak": directions.leak, "spectrum": directions.spectrum}
    if directions.mask is not None:
        tensors["mask"] = directions.mask
    tensors = {
        k: v.detach().to("cpu", torch.float16 if half and k == "vectors" else torch.float32).contiguous() for k, v in tensors.items()
    }
    facts = {
        "format": FORMAT,
        "version": VERSION,
        "layer": directions.layer,
        "fingerprint": directions.fingerprint,
        "method": directions.method,
        "labels": list(directions.labels),
        "sigmas": [float(s) for s in directions.sigmas],
    }
    data = save({k: v.clone() for k, v in tensors.items()}, {"hspace": json.dumps(facts)})
    read_directions(data)
    return write_bytes(path, data)


def load_directions(path: Path | str) -> Directions:
    """Read a direction file.

    Raises:
        ValueError: no such file, too large, or anything that :func:`read_directions` refuses.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(f"cannot read the direction file {path.name!r}: {error.strerror or error}; check that it is there") from error
    return read_directions(data, path.name)


def read_directions(data: bytes, name: str = "direction file") -> Directions:
    """Directions out of the bytes of a file; any bytes whatever give directions or a ValueError.

    Args:
        data: the whole file.
        name: for messages.

    Raises:
        ValueError: not such a file, damaged, beyond the limits, or with values that directions cannot have.
    """
    try:
        facts, kinds = _header(data)
        tensors = load(data)
        return _build(facts, tensors, kinds)
    except Exception as error:  # safetensors, json and torch each raise their own kinds on hostile bytes
        raise ValueError(f"{name!r} is not a usable direction file: {error}{_REMEDY}") from error


def _header(data: bytes) -> tuple[dict, dict[str, str]]:
    """Metadata and dtypes, checked before any tensor is made."""
    _demand(8 < len(data) <= MAX_BYTES, f"it must have 9 bytes to {MAX_BYTES >> 20} MB")
    length = int.from_bytes(data[:8], "little")
    _demand(2 <= length <= min(MAX_HEADER, len(data) - 8), "its header is damaged or too long")
    header = json.loads(data[8 : 8 + length])
    _demand(isinstance(header, dict), "its header is not a JSON object")
    meta = header.pop("__metadata__", None)
    _demand(isinstance(meta, dict) and isinstance(meta.get("hspace"), str), "it has no 'hspace' metadata, so it was not saved by this pack")
    _demand(
        set(header) <= set(_RANKS) and set(_RANKS) - set(header) <= {"mask"},
        f"it must hold {', '.join(_RANKS)}, got {_show(sorted(header))}",
    )
    kinds: dict[str, str] = {}
    for key, entry in header.items():
        kind = entry.get("dtype") if isinstance(entry, dict) else None
        _demand(kind in _DTYPES, f"tensor {key} must be F32 or F16, got {_show(kind)}")
        _demand(isinstance(entry.get("shape"), list) and len(entry["shape"]) == _RANKS[key], f"tensor {key} must have {_RANKS[key]} axes")
        kinds[key] = str(kind)
    facts = json.loads(meta["hspace"])
    _demand(isinstance(facts, dict) and set(facts) == _FIELDS, f"its metadata must have exactly {', '.join(sorted(_FIELDS))}")
    _demand(facts["format"] == FORMAT, f"its format must be {FORMAT}, got {_show(facts['format'])}")
    _demand(
        type(facts["version"]) is int and facts["version"] == VERSION,
        f"its version must be {VERSION}, got {_show(facts['version'])}; update the pack",
    )
    return facts, kinds


def _build(facts: dict, tensors: dict[str, Tensor], kinds: dict[str, str]) -> Directions:
    vectors = tensors["vectors"].float()
    t, k, c, h, w = vectors.shape
    _demand(
        1 <= t <= MAX_T and 1 <= k <= MAX_K and 1 <= c <= MAX_CHANNELS,
        f"t, k and c must be at most {MAX_T}, {MAX_K}, {MAX_CHANNELS}; got {t}, {k}, {c}",
    )
    _demand(1 <= h <= MAX_SIDE and 1 <= w <= MAX_SIDE, f"height and width of a direction must be 1 to {MAX_SIDE}, got {h} and {w}")
    for key, value in tensors.items():
        _demand(bool(torch.isfinite(value).all()), f"tensor {key} holds NaN or infinite values")
    norms = vectors.flatten(2).double().norm(dim=2)
    _demand(bool(((norms - 1).abs() <= (1e-2 if kinds["vectors"] == "F16" else 1e-3)).all()), "a direction has not unit length")
    if kinds["vectors"] == "F16":
        vectors = (vectors / norms[:, :, None, None, None]).float()
    mask, spectrum = tensors.get("mask"), tensors["spectrum"].float()
    _demand(
        len(spectrum) <= MAX_SPECTRUM and bool((spectrum >= 0).all()), f"the spectrum must be at most {MAX_SPECTRUM} numbers, none negative"
    )
    if mask is not None:
        mask = mask.float()
        _demand(
            1 <= mask.numel() and max(mask.shape) <= MAX_MASK, f"the mask must have 1 to {MAX_MASK} pixels a side, got {list(mask.shape)}"
        )
        _demand(bool((mask >= 0).all() and (mask <= 1).all()), "the mask must have values in 0..1")
    sigmas = facts["sigmas"]
    _demand(isinstance(sigmas, list) and len(sigmas) == t, f"it must name {t} sigmas")
    _demand(all(type(s) in (int, float) and math.isfinite(s) and 0 <= s <= 1e6 for s in sigmas), "its sigmas must be numbers in 0..1e6")
    _demand(
        isinstance(facts["layer"], str) and bool(_LAYER.fullmatch(facts["layer"])),
        f"its layer must be middle or up.k, got {_show(facts['layer'])}",
    )
    _demand(
        isinstance(facts["fingerprint"], str) and bool(_FINGERPRINT.fullmatch(facts["fingerprint"])),
        f"its model fingerprint must be 6 to 64 hex digits, got {_show(facts['fingerprint'])}",
    )
    labels = facts["labels"]
    _demand(
        isinstance(labels, list) and len(labels) in (0, k) and all(_plain(v, MAX_LABEL) for v in labels),
        f"its labels must be {k} texts of at most {MAX_LABEL} printable characters",
    )
    _demand(_plain(facts["method"], MAX_METHOD), f"its method must be a text of at most {MAX_METHOD} printable characters")
    return Directions(
        vectors=vectors,
        sigmas=torch.tensor(sigmas, dtype=torch.float64),
        gain=tensors["gain"].float(),
        leak=tensors["leak"].float(),
        layer=facts["layer"],
        fingerprint=facts["fingerprint"],
        mask=mask,
        method=facts["method"],
        labels=tuple(labels),
        spectrum=spectrum,
    )


def _plain(text: object, longest: int) -> bool:
    return isinstance(text, str) and len(text) <= longest and text.isprintable()


def _show(value: object) -> str:
    return ascii(value)[:80]


def _demand(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)
