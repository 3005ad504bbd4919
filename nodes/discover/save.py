"""Discover: directions become a file."""

from ...core.files.directions import save_directions
from ...core.paths import save_new
from ...core.payload import directions_from_payload
from ..dials import directions_input
from ..host import paths
from ..host.api import Node, io, ui


class HSpaceSaveDirections(Node):
    """Directions to a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceSaveDirections",
            display_name="Save Directions",
            category="HSpace/discover",
            description="Writes directions to models/hspace_directions as one safetensors file, for Load Directions and for others.",
            search_aliases=["export direction", "store direction"],
            is_output_node=True,
            inputs=[
                directions_input(),
                io.String.Input(
                    "name",
                    default="mouth",
                    tooltip="The name of the file, without folder or ending. An existing file is kept, and the new one gets a number.",
                ),
            ],
            outputs=[io.String.Output(display_name="file")],
        )

    @classmethod
    def execute(cls, directions, name) -> io.NodeOutput:
        directions = directions_from_payload(directions)
        file = save_new(
            paths.directions_root(), name, ".safetensors", lambda path: save_directions(path, directions, new=True)
        )
        return io.NodeOutput(file.name, ui=ui.PreviewText(f"saved as {file.name}"))


NODES = [HSpaceSaveDirections]
