"""What the host asks of the pack: its nodes, by stage, and its model folders."""

from importlib import import_module

from .host.api import ComfyExtension, io
from .host.paths import register_folders

STAGES = {
    "load": ("models", "codes", "embedders", "directions", "trained_edits", "released_edits", "code_edits"),
    "faces": ("demo_face",),
    "photo": ("demo", "fit", "paste"),
    "invert": ("image", "null_text", "edit_friendly"),
    "discover": ("region", "atlas", "many", "baselines", "save"),
    "train": ("asyrp", "diffusionclip", "rectifier", "image_lora", "heads", "deltaedit", "pada", "save"),
    "edit.directions": ("steer", "dials", "trajectory", "sets", "state", "asyrp"),
    "edit.noise": ("edit_friendly", "exact", "flowedit", "edit_dial", "sdedit", "ledits", "proximal", "latent_svd"),
    "edit.attention": ("word_mask", "pairs", "prompt_to_prompt", "features"),
    "edit.codes": (
        "encode",
        "manipulate",
        "interpolate",
        "mix_levels",
        "sample",
        "diffae_steps",
        "deltaedit",
        "pada",
        "vary_noise",
    ),
    "edit.weights": ("diffusionclip", "rectifier", "domain", "diffmorpher"),
    "measure": ("edit", "pie", "check_model"),
}
"""Folders of nodes in the order of the pipeline, and their files."""


class HSpaceExtension(ComfyExtension):
    """Everything this pack adds to the host."""

    async def on_load(self) -> None:
        """Register the model folders."""
        register_folders()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """The nodes of every stage."""
        modules = [f".{folder}.{file}" for folder, files in STAGES.items() for file in files]
        return [node for module in modules for node in import_module(module, __package__).NODES]
