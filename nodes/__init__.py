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
            edit_features,
            edit_p2p,
            edit_pairs,
            edit_trained,
            faces,
            invert,
            load,
            measure,
            train,
            train_network,
        )

        stages = (
            load,
            faces,
            invert,
            discover,
            discover_many,
            discover_rivals,
            train,
            train_network,
            edit,
            edit_trained,
            edit_pairs,
            edit_p2p,
            edit_features,
            measure,
        )
        return [node for stage in stages for node in stage.NODES]
