"""Node schemas: each file is one stage; no maths here."""

from .host.api import ComfyExtension, io
from .host.paths import register_folders


class HSpaceExtension(ComfyExtension):
    """Everything this pack adds to the host."""

    async def on_load(self) -> None:
        """Register the model folders."""
        register_folders()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """The nodes, in the order of the pipeline."""
        from . import (
            discover,
            discover_many,
            discover_rivals,
            edit,
            edit_concepts,
            edit_sdedit,
            edit_trained,
            faces,
            invert,
            invert_edit_friendly,
            load,
            measure,
            train,
            train_network,
        )

        stages = (
            load, faces, invert, invert_edit_friendly, discover, discover_many, discover_rivals, train, train_network, edit, edit_trained,
            edit_concepts, edit_sdedit, measure,
        )  # fmt: skip
        return [node for stage in stages for node in stage.NODES]
