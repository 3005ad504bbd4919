"""Files of attribute heads: one safetensors file of ours, what travels on ``HSPACE_HEADS``, and the released classifiers of DiffAE.

Tensors: ``weight`` `[k d]`, ``bias`` `[k]`, ``mean`` and ``std`` `[d]` of the codes. Facts: ``format`` "hspace.heads", ``version`` 1,
``names`` and ``kinds`` (k texts each), ``shape`` of one code and ``fingerprint`` of its autoencoder. On the socket both stand in one dict.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from torch import Tensor

from ..codes import CodeSpace
from ..networks.diffae_io import read_parts
from ..own_file import read_own, write_own
from .heads import Heads

FORMAT, VERSION, MAX_BYTES, MAX_HEADS = "hspace.heads", 1, 64 * 2**20, 4096
_FINGERPRINT, _TENSORS = re.compile(r"[0-9a-f]{6,64}"), ("weight", "bias", "mean", "std")
_REMEDY = "train the heads again, or get them from where they came"

CELEBA = (
    "5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes", "Bald", "Bangs", "Big_Lips", "Big_Nose", "Black_Hair",
    "Blond_Hair", "Blurry", "Brown_Hair", "Bushy_Eyebrows", "Chubby", "Double_Chin", "Eyeglasses", "Goatee", "Gray_Hair", "Heavy_Makeup",
    "High_Cheekbones", "Male", "Mouth_Slightly_Open", "Mustache", "Narrow_Eyes", "No_Beard", "Oval_Face", "Pale_Skin", "Pointy_Nose",
    "Receding_Hairline", "Rosy_Cheeks", "Sideburns", "Smiling", "Straight_Hair", "Wavy_Hair", "Wearing_Earrings", "Wearing_Hat",
    "Wearing_Lipstick", "Wearing_Necklace", "Wearing_Necktie", "Young",
)  # fmt: skip
"""Attributes of CelebA (Liu et al. 2015, arXiv 1411.7766) in its order, which the released classifiers follow."""


def heads_to_payload(heads: Heads) -> dict[str, Any]:
    """What goes onto an ``HSPACE_HEADS`` socket."""
    tensors = {"weight": heads.weight, "bias": heads.bias, "mean": heads.space.mean, "std": heads.space.std}
    return {
        "format": FORMAT, "version": VERSION, "names": list(heads.names), "kinds": list(heads.kinds), "shape": list(heads.space.shape),
        "fingerprint": heads.space.fingerprint, **{k: v.detach().float().cpu() for k, v in tensors.items() if v is not None},
    }  # fmt: skip


def heads_from_payload(payload: object) -> Heads:
    """The heads that came in on a socket.

    Raises:
        ValueError: anything else, or damaged.
    """
    if not isinstance(payload, dict) or payload.get("format") != FORMAT or payload.get("version") != VERSION:
        raise ValueError(f"expected attribute heads ({FORMAT}, version {VERSION}); connect Train Attribute Heads or Load Attribute Heads")
    try:
        names, kinds, shape = payload["names"], payload["kinds"], payload["shape"]
        good = (
            isinstance(names, list) and 1 <= len(names) <= MAX_HEADS
            and all(isinstance(n, str) for n in names)
            and isinstance(kinds, list) and all(isinstance(k, str) for k in kinds)
            and isinstance(shape, list) and all(type(n) is int and 1 <= n <= 2**20 for n in shape)
            and isinstance(payload["fingerprint"], str) and _FINGERPRINT.fullmatch(payload["fingerprint"])
            and all(isinstance(payload[k], Tensor) for k in _TENSORS)
        )  # fmt: skip
        if not good:
            raise ValueError("its metadata is out of range")
        weight, bias, mean, std = (payload[k] for k in _TENSORS)
        return Heads(tuple(names), weight, bias, CodeSpace(tuple(shape), payload["fingerprint"], mean, std), tuple(kinds))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"these are no usable attribute heads: {str(error)[:300]}; {_REMEDY}") from error


def save_heads(path: Path | str, heads: Heads) -> Path:
    """Write heads. The file appears complete or not at all."""
    facts = heads_to_payload(heads)
    return write_own(path, {k: facts.pop(k) for k in _TENSORS}, facts)


def load_heads(path: Path | str, space: CodeSpace | None = None) -> Heads:
    """Read a file of :func:`save_heads`, or a released classifier of DiffAE (``*_autoenc_cls/last.ckpt``).

    Args:
        path: of the file.
        space: of the model that the heads are for; a released classifier does not say which it was trained on.

    Raises:
        ValueError: not such a file, damaged, of another model, or a released one without ``space``.
    """
    path = Path(path)
    try:
        if path.suffix.lower() == ".safetensors":
            tensors, facts = read_own(path, FORMAT, VERSION, MAX_BYTES)
            heads = heads_from_payload({**facts, **tensors})
        else:
            heads = _released(path, space)
        if space is not None:
            heads.check_space(space)
        return heads
    except ValueError as error:
        named = path.name in str(error)
        raise ValueError(str(error) if named else f"{path.name!r}: {error}") from error


def _released(path: Path, space: CodeSpace | None) -> Heads:
    parts = read_parts(path)
    if set(parts.heads) != {"weight", "bias"} or parts.statistics is None:
        raise ValueError("it has no classifier.weight, classifier.bias, conds_mean and conds_std, so it is no classifier of DiffAE")
    if space is None:
        raise ValueError("a released classifier does not say which model it belongs to; connect that model")
    weight, bias = (parts.heads[k].float().clone() for k in ("weight", "bias"))
    names = CELEBA if len(weight) == len(CELEBA) else tuple(f"attribute {i}" for i in range(len(weight)))
    mean, std = parts.statistics
    if mean.numel() != space.size:
        raise ValueError(
            f"it is for codes of {mean.numel()} numbers, those of the model have {space.size}; use the model it was trained on"
        )
    return Heads(names, weight, bias, CodeSpace(space.shape, space.fingerprint, mean, std), ("classifier",) * len(names))
