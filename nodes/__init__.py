"""Node schemas: each file is one stage; no maths here."""

from importlib import import_module

from .host.api import ComfyExtension, io
from .host.paths import register_folders

STAGES = (
    "load", "load_codes", "faces",
    "invert", "invert_exact", "invert_text", "invert_edit_friendly",
    "discover", "discover_many", "discover_rivals",
    "train", "train_network", "train_lora", "train_heads", "train_code_edits",
    "edit", "edit_trained", "edit_pairs", "edit_p2p", "edit_features", "edit_concepts", "edit_sdedit", "edit_morph", "edit_svd",
    "edit_codes", "edit_code_text",
    "measure", "measure_edit",
)  # fmt: skip
"""Files of nodes, in the order of the pipeline."""


class HSpaceExtension(ComfyExtension):
    """Everything this pack adds to the host."""

    async def on_load(self) -> None:
        """Register the model folders."""
        register_folders()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """The nodes of every stage."""
        return [node for stage in STAGES for node in import_module(f".{stage}", __package__).NODES]
