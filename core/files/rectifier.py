"""Files of rectifiers (arXiv 2312.15707), and what travels on their sockets.

Of their facts, ``shapes`` gives the out and in channels of each convolution by name, ``ddpm_step`` says which step
embedding, and ``edit`` whether it was trained for an edit or to rebuild.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..fingerprint import check_built_on
from ..networks.rectifier import RectifierNet
from ..networks.step import StepEmbedding
from ..own_file import filled
from ..text import label, labels
from .exchange import Exchange
from .kinds import RECTIFIER


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

    rectifier: RectifierNet
    fingerprint: str
    edit: bool
    sigma_start: float
    label: str = ""
    extra: dict = field(default_factory=dict)

    @property
    def parameters(self) -> int:
        """Count the numbers it is made of."""
        return sum(p.numel() for p in self.rectifier.parameters())

    def check_model(self, fingerprint: str) -> None:
        """Refuse a model built on other weights.

        Raises:
            ValueError: the fingerprints differ.
        """
        check_built_on(
            self.fingerprint,
            fingerprint,
            "this rectifier was trained",
            "connect that model, or train a rectifier for this one",
        )


def _facts(trained: TrainedRectifier) -> dict[str, Any]:
    net = trained.rectifier
    return {
        "shapes": {k: list(v) for k, v in net.shapes.items()},
        "channels": net.channels,
        "width": net.width,
        "code": net.code,
        "ddpm_step": net.step.ddpm,
        "fingerprint": trained.fingerprint,
        "edit": trained.edit,
        "sigma_start": trained.sigma_start,
        "label": label(trained.label),
        "extra": labels(trained.extra),
    }


def _trained(facts: dict[str, Any], tensors: dict[str, Tensor]) -> TrainedRectifier:
    return TrainedRectifier(
        _network(facts, tensors).requires_grad_(False),
        facts["fingerprint"],
        facts["edit"],
        float(facts["sigma_start"]),
        facts["label"],
        facts["extra"],
    )


def _network(facts: dict[str, Any], tensors: dict[str, Tensor]) -> RectifierNet:
    """Build the hypernetwork, whose tensors may be without values."""
    shapes = {k: (v[0], v[1]) for k, v in facts["shapes"].items()}
    width, base = tensors["step.first.weight"].shape

    def make() -> RectifierNet:
        step = StepEmbedding(base, width, facts["ddpm_step"], tensors["step.levels"])
        return RectifierNet(shapes, step, facts["channels"], facts["width"], facts["code"])

    return filled(make, tensors)


_EXCHANGE = Exchange(RECTIFIER, _facts, lambda trained: trained.rectifier.state_dict(), _trained, _network)
save_rectifier, load_rectifier = _EXCHANGE.save, _EXCHANGE.load
rectifier_to_payload, rectifier_from_payload = _EXCHANGE.to_payload, _EXCHANGE.from_payload
