"""Load: what edits semantic codes, one file each."""

from ...core.files.code_edits import code_edit_to_payload, load_code_edit
from ...core.files.kinds import DELTAEDIT, PADA
from ..host import paths
from ..host.api import DeltaMapper, Pada, io
from .files import Reader, TrainedFile


class HSpaceLoadDeltaMapper(TrainedFile):
    """A delta mapper out of a file."""

    KIND = paths.MAPPER
    READER = Reader(lambda file: load_code_edit(file, DELTAEDIT), code_edit_to_payload)

    @classmethod
    def define_schema(cls) -> io.Schema:
        return cls.schema(
            DeltaMapper.Output(display_name="mapper"),
            node_id="HSpaceLoadDeltaMapper",
            display_name="Load Delta Mapper",
            category="HSpace/load/trained",
            description="Reads a delta mapper that Train Delta Mapper made, for Delta Edit by Text.",
        )


class HSpaceLoadPada(TrainedFile):
    """PADA out of a file."""

    KIND = paths.PADA
    READER = Reader(lambda file: load_code_edit(file, PADA), code_edit_to_payload)

    @classmethod
    def define_schema(cls) -> io.Schema:
        return cls.schema(
            Pada.Output(display_name="pada"),
            node_id="HSpaceLoadPada",
            display_name="Load PADA",
            category="HSpace/load/trained",
            description="Reads what Train PADA made, for PADA Age.",
        )


NODES = [HSpaceLoadDeltaMapper, HSpaceLoadPada]
