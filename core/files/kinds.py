"""The table of the files of our own: what each kind holds, within which limits.

A file is safetensors with one metadata key ``hspace``: a JSON object of ``format``, ``version`` and the facts of its
kind. What travels on a socket is the same in one dict, its tensors under ``tensors``. :mod:`core.files.exchange` reads
and writes both by this table; what a method makes of them stands in its own module.

The names "hspace.delta" and "hspace.delta_mapper" are older than the names asyrp and deltaedit: they are in files.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from ..fields import (
    ANY_LAYER,
    FINGERPRINT,
    LAYER,
    MAYBE_FINGERPRINT,
    NUMBER,
    TEXT,
    Field,
    channel_table,
    code_shape,
    each,
    flag,
    mapping,
    number,
    one_of,
    text,
    whole,
)
from ..networks.vp import Prediction
from ..own_file import Form
from ..schedule import Betas

Sizes = Callable[[Mapping[str, Any]], dict[str, int]]
AGAIN = "train it again, or get it from where it came"


@dataclass(frozen=True)
class Kind(Form):
    """What files of one kind hold.

    Attributes:
        sources: nodes that give one, for errors of a socket.
        facts: rule by name of a fact.
        closed: whether other facts are refused.
        shapes: axes by name of a tensor, such as "k d", or "k d ..." with up to three more; empty where a network says
            all names and shapes.
        sides: least and most entries of an axis.
        sizes: entries of axes that the facts tell.
        may_lack: tensors that need not be there.
        network: what the names of tensors begin with whose shapes a network says.
        prefix: what the names of tensors begin with in a file, but not on a socket.
        exact: names of tensors that stay float32 in a file of half precision.
    """

    sources: str = ""
    facts: Mapping[str, Field] = field(default_factory=dict)
    closed: bool = False
    shapes: Mapping[str, str] = field(default_factory=dict)
    sides: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    sizes: Sizes = lambda _: {}
    may_lack: frozenset[str] = frozenset()
    network: str = ""
    prefix: str = ""
    exact: re.Pattern[str] = re.compile(r".*levels.*")


def _code_sizes(facts: Mapping[str, Any]) -> dict[str, int]:
    return {"d": math.prod(facts["shape"])}


def _heads_sizes(facts: Mapping[str, Any]) -> dict[str, int]:
    return {"k": len(facts["names"]), **_code_sizes(facts)}


ASYRP = Kind(
    "hspace.delta",
    1,
    2**28,
    noun="trained edit",
    remedy=AGAIN,
    sources="Train Asyrp, Load Trained Edit or Load Asyrp Checkpoint",
    facts={
        "kind": one_of("ddpm", "guided", "table"),
        "ddpm_step": flag().or_missing(),
        "fingerprint": FINGERPRINT,
        "layer": LAYER,
        "sigma_edit": number(0, 1e6),
        "sigma_boost": number(0, 1e6),
        "steps": whole(1, 100_000),
        "whole_steps": whole(0, 100_000).or_missing(),
        "label": text(),
        "extra": mapping(),
    },
    prefix="delta.",
)
RECTIFIER = Kind(
    "hspace.rectifier",
    1,
    2**31,
    noun="rectifier",
    remedy=AGAIN,
    sources="Train Rectifier, Train Rectifier Edit or Load Rectifier",
    facts={
        "shapes": channel_table(1000, 10_000),
        "channels": whole(1, 4096),
        "width": whole(1, 4096),
        "code": whole(1, 4096),
        "ddpm_step": flag(),
        "fingerprint": FINGERPRINT,
        "edit": flag(),
        "sigma_start": number(0, 1e6, above=True),
        "label": text(),
        "extra": mapping(),
    },
)
WEIGHTS = Kind(
    "hspace.weights",
    1,
    2**32,
    facts={"fingerprint": MAYBE_FINGERPRINT, "label": text(), "extra": mapping()},
    exact=re.compile(r"(?!)"),
)
HEADS = Kind(
    "hspace.heads",
    1,
    2**26,
    noun="set of attribute heads",
    remedy=AGAIN,
    sources="Train Attribute Heads or Load Attribute Heads",
    facts={
        "names": each(TEXT, 1, 4096),
        "kinds": each(TEXT, 0, 4096),
        "shape": code_shape(2**20),
        "fingerprint": FINGERPRINT,
    },
    shapes={"weight": "k d", "bias": "k", "mean": "d", "std": "d"},
    sizes=_heads_sizes,
)
DELTAEDIT = Kind(
    "hspace.delta_mapper",
    1,
    2**28,
    noun="delta mapper",
    remedy=AGAIN,
    sources="Train Delta Mapper or Load Delta Mapper",
    facts={
        "shape": code_shape(2**16),
        "embedding": whole(1, 2**16),
        "width": whole(1, 2**16),
        "fingerprint": FINGERPRINT,
        "space": text(),
        "label": text(),
        "extra": mapping(),
    },
    shapes={"mean": "d", "std": "d"},
    sizes=_code_sizes,
    network="net.",
    exact=re.compile("mean|std"),
)
PADA = replace(
    DELTAEDIT,
    format="hspace.pada",
    noun="trained PADA",
    sources="Train PADA or Load PADA",
)
DIRECTIONS = Kind(
    "hspace.directions",
    3,
    2**29,
    noun="direction file",
    remedy="get the file again from where it came, or discover the directions anew",
    types=("F32", "F16"),
    facts={
        "layer": ANY_LAYER,
        "fingerprint": FINGERPRINT,
        "method": text(300),
        "labels": each(text(64), 0, 256),
        "sigmas": each(number(0, 1e6), 1, 1000),
        "calibration": mapping().or_missing(),
    },
    closed=True,
    shapes={
        "vectors": "t k c ...",
        "gain": "t k",
        "leak": "t k",
        "spectrum": "n",
        "mask": "mask_h mask_w",
        "unit": "signs k",
        "area": "k",
    },
    sides={
        "t": (1, 1000),
        "k": (1, 256),
        "c": (1, 8192),
        "...": (1, 1024),
        "n": (0, 65536),
        "mask_h": (1, 8192),
        "mask_w": (1, 8192),
        "signs": (2, 2),
    },
    may_lack=frozenset({"mask", "unit", "area"}),
    older=(1, 2),
    exact=re.compile("gain|leak|spectrum|mask|unit|area"),
)
TRAINING = Kind(
    "hspace.training",
    2,
    2**35,
    unshown=("settings",),
    facts={
        "settings": mapping(),
        "i": whole(0, 2**40),
        "smooth": NUMBER,
        "least": NUMBER.or_none(),
    },
)
_NETWORK = {
    "prediction": one_of(*get_args(Prediction)),
    "patch": whole(1, 16),
    "size": whole(8, 4096),
    "betas": one_of(*get_args(Betas)),
    "steps": whole(2, 100_000),
    "beta_start": number(0, 1, above=True),
    "beta_end": number(0, 1, above=True),
}
FACE_MODEL = Kind("hspace_face_model", 1, 2**33, noun="face model", facts=_NETWORK)
FACE_DIFFAE = Kind("hspace_face_diffae", 1, 2**33, noun="face diffae", facts=_NETWORK)
FACE_TEXT = Kind("hspace_face_text", 1, 20 * 2**20)
FACE_REGRESSOR = Kind("hspace_face_regressor", 1, 2**23)
FACE_EMBEDDER = Kind("hspace_face_embedder", 1, 2**23)
KINDS = {
    kind.format: kind
    for kind in (
        ASYRP,
        RECTIFIER,
        WEIGHTS,
        HEADS,
        DELTAEDIT,
        PADA,
        DIRECTIONS,
        TRAINING,
        FACE_MODEL,
        FACE_DIFFAE,
        FACE_TEXT,
        FACE_REGRESSOR,
        FACE_EMBEDDER,
    )
}
"""All of them by the name of their format."""
