"""What the Train nodes share that learn from the pictures of a trajectory, beside their frozen MODEL."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from ...core.payload import trajectory_from_payload
from ...core.train.memory import needed
from ...core.trajectory import Trajectory
from ..host.model.decoded import Decoder
from ..host.model.fingerprint import model_fingerprint
from ..host.model.prompts import Prompts
from ..host.training import NodeSession, batch_shape, networks_of, ordinary_path, with_training

T = TypeVar("T")


@dataclass(frozen=True)
class Guide:
    """What looks at the pictures that a training predicts.

    Attributes:
        embedder: of pictures and prompts.
        decode: makes pictures of states.
        networks: that a gradient runs through on the way.
    """

    embedder: Any
    decode: Decoder
    networks: list[nn.Module]

    def look(self, states: Tensor) -> Tensor:
        """Embed what states `[b c h w]` show, as one number with a graph."""
        return self.embedder.embed_image(self.decode(states)).sum()


@dataclass(frozen=True)
class TrainingPictures:
    """The frozen MODEL of a Train node, and the pictures that it trains on.

    Attributes:
        model: MODEL.
        trajectory: of the pictures, inverted with it.
        batch: pictures at a time.
    """

    model: Any
    trajectory: Trajectory
    batch: int

    @classmethod
    def of(cls, model, payload, batch: int) -> TrainingPictures:
        """Read the trajectory that is connected.

        Raises:
            ValueError: another model made it.
        """
        trajectory = trajectory_from_payload(payload)
        trajectory.check_model(model_fingerprint(model))
        return cls(model, trajectory, batch)

    @property
    def levels(self) -> Tensor:
        """Noise levels of the model's own steps."""
        return self.model.get_model_object("model_sampling").sigmas

    def usable(self) -> Trajectory:
        """Move the trajectory to the device of the model, as tensors that autograd may save."""
        return ordinary_path(self.trajectory, self.model.load_device)

    def guide(self, denoiser, embedder, vae=None) -> Guide:
        """Load what looks at the pictures, on the device of the model."""
        decode = Decoder(denoiser.patcher, vae, self.trajectory.x0.shape)
        return Guide(embedder, decode, [*decode.networks, *networks_of(embedder, self.model.load_device)])

    def check_memory(
        self, session: NodeSession, step: Callable[[], Tensor], trained: nn.Module, frozen: Iterable[nn.Module]
    ) -> None:
        """Refuse a training that will not fit; ``step`` is that of one picture.

        Raises:
            ValueError: less memory is free than a batch needs.
        """
        rows = batch_shape(self.trajectory, self.batch)[0]
        session.check_memory(needed(step, rows, trained, frozen))

    def train(self, work: Callable[..., T]) -> T:
        """Call ``work`` with the denoiser, under the prompts of the trajectory."""
        shape = batch_shape(self.trajectory, self.batch)
        return with_training(self.model, shape, Prompts.of(self.trajectory), work)


def keep_best(session: NodeSession, net: nn.Module, write: Callable[[], Path]) -> None:
    """Let a run that breaks off put its best weights into the network and ``write`` it."""

    def write_best(best: dict[str, Tensor]) -> Path:
        net.load_state_dict(best)
        return write()

    session.write_best = write_best
