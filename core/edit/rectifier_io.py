"""Files of rectifiers (arXiv 2312.15707): one safetensors file of ours, and what travels on an ``HSPACE_RECTIFIER`` socket.

Tensors: the state of the hypernetwork. Facts: ``format`` "hspace.rectifier", ``version`` 1, ``shapes`` (name of a convolution -> out and in
channels), ``channels``, ``width``, ``code``, ``ddpm_step`` (which step embedding), ``fingerprint``, ``edit`` (trained for an edit, or to
rebuild), ``sigma_start``, ``label`` and ``extra``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ..networks.rectifier import Rectifier
from ..networks.step import StepEmbedding
from ..own_file import filled, read_own, write_own

FORMAT, VERSION, MAX_BYTES = "hspace.rectifier", 1, 2**31
_NAME, _FINGERPRINT = re.compile(r"[\w.]{1,120}"), re.compile(r"[0-9a-f]{6,64}")
_SIDES = ("channels", "width", "code")


@dataclass(frozen=True)
class TrainedRectifier:
    """A rectifier, and what it was trained for.

    Attributes:
        rectifier: the hypernetwork.
        fingerprint: of the model.
        edit: trained for an edit (stage 2) rather than to rebuild (stage 1).
        sigma_start: noisiest level that it was trained at.
        label: for people.
        extra: figures of the training.
    """

    rectifier: Rectifier
    fingerprint: str
    edit: bool
    sigma_start: float
    label: str = ""
    extra: dict = field(default_factory=dict)

    @property
    def parameters(self) -> int:
        """How many numbers it is made of."""
        return sum(p.numel() for p in self.rectifier.parameters())

    def check_model(self, fingerprint: str) -> None:
        """Refuse a model built on other weights.

        Raises:
            ValueError: the fingerprints differ.
        """
        if self.fingerprint != fingerprint.partition("+")[0]:
            raise ValueError(
                f"this rectifier was trained on model {self.fingerprint}, but the model connected here is {fingerprint}; connect that "
                "model, or train a rectifier for this one"
            )


def rectifier_to_payload(trained: TrainedRectifier) -> dict[str, Any]:
    """What goes onto the socket: the facts named above, and ``tensors`` by name, float32."""
    made = trained.rectifier
    return {
        "format": FORMAT, "version": VERSION, "shapes": {k: list(v) for k, v in made.shapes.items()}, "channels": made.channels,
        "width": made.width, "code": made.code, "ddpm_step": made.step.ddpm, "fingerprint": trained.fingerprint, "edit": trained.edit,
        "sigma_start": trained.sigma_start, "label": trained.label, "extra": trained.extra,
        "tensors": {k: v.detach().float().cpu() for k, v in made.state_dict().items()},
    }  # fmt: skip


def rectifier_from_payload(payload: object) -> TrainedRectifier:
    """The rectifier that came in on a socket.

    Raises:
        ValueError: anything else, or damaged.
    """
    if not isinstance(payload, dict) or payload.get("format") != FORMAT or payload.get("version") != VERSION:
        raise ValueError(
            f"expected a rectifier ({FORMAT}, version {VERSION}); connect Train Rectifier, Train Rectifier Edit or Load Rectifier"
        )
    try:
        state: dict[str, Tensor] = payload["tensors"]
        shapes, sides = payload["shapes"], [payload[k] for k in _SIDES]
        good = (
            isinstance(shapes, dict) and 1 <= len(shapes) <= 1000
            and all(_NAME.fullmatch(k) and len(v) == 2 and all(type(c) is int and 1 <= c <= 10_000 for c in v) for k, v in shapes.items())
            and all(type(v) is int and 1 <= v <= 4096 for v in sides)
            and type(payload["edit"]) is bool and type(payload["ddpm_step"]) is bool
            and isinstance(payload["sigma_start"], (int, float)) and 0 < payload["sigma_start"] <= 1e6
            and isinstance(payload["fingerprint"], str) and _FINGERPRINT.fullmatch(payload["fingerprint"])
            and isinstance(payload["label"], str) and len(payload["label"]) <= 300 and payload["label"].isprintable()
            and isinstance(payload["extra"], dict)
        )  # fmt: skip
        if not good:
            raise ValueError("its metadata is out of range")
        wide, base = state["step.first.weight"].shape

        def make() -> Rectifier:
            step = StepEmbedding(base, wide, payload["ddpm_step"], state["step.levels"])
            return Rectifier({k: (v[0], v[1]) for k, v in shapes.items()}, step, *sides)

        made = filled(make, state)
    except Exception as error:  # missing keys and shapes raise their own kinds
        raise ValueError(f"this is not a usable rectifier: {str(error)[:300]}; train it again, or get it from where it came") from error
    return TrainedRectifier(
        made.requires_grad_(False),
        payload["fingerprint"],
        payload["edit"],
        float(payload["sigma_start"]),
        payload["label"],
        payload["extra"],
    )


def save_rectifier(path: Path | str, trained: TrainedRectifier, half: bool = True) -> Path:
    """Write a rectifier, as float16 unless told otherwise. The file appears complete or not at all.

    Raises:
        ValueError: weights that are not finite.
    """
    facts = rectifier_to_payload(trained)
    tensors = facts.pop("tensors")
    return write_own(path, {k: v.half() if half and "levels" not in k else v for k, v in tensors.items()}, facts)


def load_rectifier(path: Path | str) -> TrainedRectifier:
    """Read a file of :func:`save_rectifier`.

    Raises:
        ValueError: not such a file, damaged, or with values that cannot be.
    """
    tensors, facts = read_own(path, FORMAT, VERSION, MAX_BYTES)
    try:
        return rectifier_from_payload({**facts, "tensors": tensors})
    except ValueError as error:
        raise ValueError(f"{Path(path).name!r}: {error}") from error
