"""Load: what the nodes share that choose one file, read it, and see when it is replaced."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ..host import paths
from ..host.api import Node, io


def pixel_vae_output() -> io.Vae.Output:
    """Declare the VAE of a model that works on pixels."""
    return io.Vae.Output(
        display_name="vae",
        tooltip="It takes pixels and gives pixels, so that stock VAE Encode and Decode run on this model.",
    )


class Reader(NamedTuple):
    """How a trained edit comes out of a file and onto a socket."""

    load: Callable[[Path], Any]
    to_payload: Callable[[Any], Any]


class TrainedFile(Node):
    """A node that reads one trained edit.

    Attributes:
        KIND: of the edit, which is a folder of :mod:`nodes.host.paths`.
        READER: of such files.
    """

    KIND = ""
    READER: Reader

    @classmethod
    def schema(cls, output: io.Output, *more: io.Output, **about: Any) -> io.Schema:
        """Declare a node that gives what is in a file, its label and ``more``; ``about`` names and describes it."""
        label = io.String.Output(display_name="label")
        return io.Schema(inputs=[cls.choice()], outputs=[output, label, *more], **about)

    @classmethod
    def execute(cls, file) -> io.NodeOutput:
        """Read the file."""
        trained = cls.READER.load(cls.chosen(file))
        return io.NodeOutput(cls.READER.to_payload(trained), trained.label, *cls.more(trained))

    @classmethod
    def more(cls, trained: Any) -> tuple:
        """Give what the node has besides the edit and its label."""
        return ()

    @classmethod
    def choice(cls) -> io.Combo.Input:
        """Declare the list of files."""
        return io.Combo.Input(
            "file",
            options=paths.edit_choices(cls.KIND),
            tooltip=f"A file in {paths.edit_place(cls.KIND)}. Press R after putting a file there. Those that come with"
            " the pack begin with 'hspace/'.",
        )

    @classmethod
    def chosen(cls, file: str) -> Path:
        """Find the file.

        Raises:
            ValueError: there is none of that name.
        """
        return paths.edit_path(cls.KIND, file)

    @classmethod
    def fingerprint_inputs(cls, file) -> str | float:
        """Run again when the file changes."""
        return paths.edit_stamp(cls.KIND, file)


class CheckpointFile(Node):
    """A node that reads one checkpoint that others released."""

    @classmethod
    def choice(cls, tooltip: str = "A file in models/hspace.") -> io.Combo.Input:
        """Declare the list of checkpoints."""
        return io.Combo.Input("checkpoint", options=paths.checkpoints(), tooltip=tooltip)

    @classmethod
    def fingerprint_inputs(cls, checkpoint, **_) -> str | float:
        """Run again when the file changes."""
        return paths.file_stamp(paths.checkpoint_path, checkpoint)
