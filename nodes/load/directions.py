"""Load: files of directions."""

from ...core.files.directions import load_directions
from ...core.payload import directions_to_payload
from ..host import paths
from ..host.api import Directions, Node, io


class HSpaceLoadDirections(Node):
    """Directions from a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceLoadDirections",
            display_name="Load Directions",
            category="HSpace/load/trained",
            description="Reads directions that were saved with Save Directions, or shared by someone else. They fit the model they were found on.",
            search_aliases=["import direction"],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=paths.direction_choices(),
                    tooltip="A file in models/hspace_directions. Those that come with the pack begin with 'hspace/'.",
                )
            ],
            outputs=[Directions.Output(display_name="directions")],
        )

    @classmethod
    def fingerprint_inputs(cls, file) -> str | float:
        """Load again when the file has changed."""
        return paths.file_stamp(paths.direction_path, file)

    @classmethod
    def execute(cls, file) -> io.NodeOutput:
        return io.NodeOutput(directions_to_payload(load_directions(paths.direction_path(file))))


NODES = [HSpaceLoadDirections]
