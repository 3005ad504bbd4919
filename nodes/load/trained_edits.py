"""Load: trained edits of a frozen model, one file each."""

from ...core.files.asyrp import asyrp_to_payload, load_asyrp
from ...core.files.diffusionclip import load_weights, to_lora
from ...core.files.rectifier import load_rectifier, rectifier_to_payload
from ...core.networks.asyrp import TrainedAsyrp
from ..host import paths
from ..host.api import Asyrp, LoraModel, Rectifier, io
from .files import Reader, TrainedFile


class HSpaceLoadTrained(TrainedFile):
    """A trained shift out of a file."""

    KIND = paths.ASYRP
    READER = Reader(load_asyrp, asyrp_to_payload)

    @classmethod
    def define_schema(cls) -> io.Schema:
        return cls.schema(
            Asyrp.Output(display_name="trained"),
            io.Float.Output(
                display_name="sigma_boost",
                tooltip="It goes into 'boost' of Render Trajectory. It is 0 if the edit was trained without.",
            ),
            node_id="HSpaceLoadTrained",
            display_name="Load Trained Edit",
            category="HSpace/load/trained",
            description="Reads a shift of h that Train Asyrp made.",
        )

    @classmethod
    def more(cls, trained: TrainedAsyrp) -> tuple:
        """Give the level from which noise is to be drawn anew."""
        return (trained.sigma_boost,)


class HSpaceLoadFineTuned(TrainedFile):
    """Fine-tuned weights out of a file."""

    KIND = paths.TUNED
    READER = Reader(load_weights, to_lora)

    @classmethod
    def define_schema(cls) -> io.Schema:
        return cls.schema(
            LoraModel.Output(display_name="lora"),
            node_id="HSpaceLoadFineTuned",
            display_name="Load Fine-Tuned Weights",
            category="HSpace/load/trained",
            description="Reads a difference of weights that Train DiffusionCLIP made.",
        )


class HSpaceLoadRectifier(TrainedFile):
    """A rectifier out of a file."""

    KIND = paths.RECTIFIER
    READER = Reader(load_rectifier, rectifier_to_payload)

    @classmethod
    def define_schema(cls) -> io.Schema:
        return cls.schema(
            Rectifier.Output(display_name="rectifier"),
            node_id="HSpaceLoadRectifier",
            display_name="Load Rectifier",
            category="HSpace/load/trained",
            description="Reads a rectifier that Train Rectifier or Train Rectifier Edit made.",
        )


NODES = [HSpaceLoadTrained, HSpaceLoadFineTuned, HSpaceLoadRectifier]
