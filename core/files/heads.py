"""Files of attribute heads: ours, what travels on ``HSPACE_HEADS``, and the released classifiers of DiffAE.

Ours hold ``weight`` `[k d]`, ``bias`` `[k]`, ``mean`` and ``std`` `[d]` of the codes. Of their facts, ``names`` and
``kinds`` are k texts each, ``shape`` is that of one code and ``fingerprint`` its autoencoder's. On the socket facts and
tensors stand in one dict.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from ..codes import CodeSpace
from ..networks.heads import Heads
from .diffae_parts import read_parts
from .exchange import Exchange
from .kinds import HEADS

CELEBA = (
    "5_o_Clock_Shadow",
    "Arched_Eyebrows",
    "Attractive",
    "Bags_Under_Eyes",
    "Bald",
    "Bangs",
    "Big_Lips",
    "Big_Nose",
    "Black_Hair",
    "Blond_Hair",
    "Blurry",
    "Brown_Hair",
    "Bushy_Eyebrows",
    "Chubby",
    "Double_Chin",
    "Eyeglasses",
    "Goatee",
    "Gray_Hair",
    "Heavy_Makeup",
    "High_Cheekbones",
    "Male",
    "Mouth_Slightly_Open",
    "Mustache",
    "Narrow_Eyes",
    "No_Beard",
    "Oval_Face",
    "Pale_Skin",
    "Pointy_Nose",
    "Receding_Hairline",
    "Rosy_Cheeks",
    "Sideburns",
    "Smiling",
    "Straight_Hair",
    "Wavy_Hair",
    "Wearing_Earrings",
    "Wearing_Hat",
    "Wearing_Lipstick",
    "Wearing_Necklace",
    "Wearing_Necktie",
    "Young",
)
"""Attributes of CelebA (Liu et al. 2015, arXiv 1411.7766) in its order, which the released classifiers follow."""


def heads_to_payload(heads: Heads) -> dict[str, Any]:
    """Make what goes onto an ``HSPACE_HEADS`` socket: facts and tensors side by side."""
    payload = _EXCHANGE.to_payload(heads)
    return {**payload, **payload.pop("tensors")}


def heads_from_payload(payload: object) -> Heads:
    """Make the heads that came in on a socket.

    Raises:
        ValueError: anything else, or damaged.
    """
    if isinstance(payload, dict):
        payload = {**payload, "tensors": {name: payload.get(name) for name in HEADS.shapes}}
    return _EXCHANGE.from_payload(payload)


def _facts(heads: Heads) -> dict[str, Any]:
    return {
        "names": list(heads.names),
        "kinds": list(heads.kinds),
        "shape": list(heads.space.shape),
        "fingerprint": heads.space.fingerprint,
    }


def _tensors(heads: Heads) -> dict[str, Tensor]:
    tensors = {"weight": heads.weight, "bias": heads.bias, "mean": heads.space.mean, "std": heads.space.std}
    return {name: value for name, value in tensors.items() if value is not None}


def _heads(facts: dict[str, Any], tensors: dict[str, Tensor]) -> Heads:
    space = CodeSpace(tuple(facts["shape"]), facts["fingerprint"], tensors["mean"], tensors["std"])
    return Heads(tuple(facts["names"]), tensors["weight"], tensors["bias"], space, tuple(facts["kinds"]))


_EXCHANGE = Exchange(HEADS, _facts, _tensors, _heads)


def save_heads(path: Path | str, heads: Heads, new: bool = False) -> Path:
    """Write heads; ``new`` as in :func:`core.atomic_file.write_bytes`."""
    return _EXCHANGE.save(path, heads, half=False, new=new)


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
            heads = _EXCHANGE.load(path)
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
        raise ValueError(
            "it has no classifier.weight, classifier.bias, conds_mean and conds_std, so it is no classifier of DiffAE"
        )
    if space is None:
        raise ValueError("a released classifier does not say which model it belongs to; connect that model")
    weight, bias = (parts.heads[k].float().clone() for k in ("weight", "bias"))
    names = CELEBA if len(weight) == len(CELEBA) else tuple(f"attribute {i}" for i in range(len(weight)))
    mean, std = parts.statistics
    if mean.numel() != space.size:
        raise ValueError(
            f"it is for codes of {mean.numel()} numbers, those of the model have {space.size}; use the model it was"
            " trained on"
        )
    return Heads(
        names, weight, bias, CodeSpace(space.shape, space.fingerprint, mean, std), ("classifier",) * len(names)
    )
