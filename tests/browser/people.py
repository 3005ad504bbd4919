"""Somebody at the editor, for tests that walk a person's way."""

import io
import time

import numpy as np
from PIL import Image

from devtools import gestures


class Person:
    """Somebody at the editor.

    Args:
        editor: an open page.
        server: the host.
        modern: with Nodes 2.0.
    """

    def __init__(self, editor, server, modern: bool):
        self.editor, self.page, self.server, self.modern = editor, editor.page, server, modern
        gestures.sit_down(editor, modern)

    def keep_picture(self, name: str, part: gestures.Box | None = None) -> None:
        gestures.keep_picture(self.editor, f"{name}_{'nodes2' if self.modern else 'classic'}", part)

    def forget_results(self) -> None:
        """Let the host forget what it has computed, as after its start."""
        self.server.post("/free", {"unload_models": True, "free_memory": True})
        time.sleep(1.5)  # the host does it between two runs, and says nothing

    def ran(self) -> list[str]:
        """Ids of the nodes that were executed since the last look."""
        told = self.page.evaluate(
            "window.__events.filter(([name]) => name === 'executing').map(([, detail]) => detail)"
        )
        return [str(node) for node in told if node]

    def pictures(self) -> dict[str, list[np.ndarray]]:
        """Title of a node to the pictures that it shows."""
        shown = self.editor.pictures()
        return {
            title: [np.asarray(Image.open(io.BytesIO(self.server.view(file)))) for file in files]
            for title, files in shown.items()
        }
