"""What nodes show of their results: the host's previews, which must not cost a result that a full disk has no room to
show.
"""

from __future__ import annotations

import logging

from comfy_api.latest import ui
from comfy_execution.utils import get_executing_context
from server import PromptServer

PreviewText = ui.PreviewText
_log = logging.getLogger(__name__)


class PreviewImage(ui.PreviewImage):
    """The host's preview; without a picture if its folder cannot be written."""

    def __init__(self, image, animated: bool = False, cls=None, **kwargs):
        try:
            super().__init__(image, animated, cls, **kwargs)
        except OSError as error:
            self.values = []
            self.animated = animated
            _log.warning("HSpace: the picture cannot be shown: %s; the node's outputs are whole", error)


def say(text: str) -> None:
    """A line on the node that runs, and a warning in the log."""
    _log.warning("HSpace: %s", text)
    show_on_node(text)


def show_on_node(text: str) -> None:
    """A line on the node that runs, if one does."""
    running = get_executing_context()
    server = getattr(PromptServer, "instance", None)
    if running is not None and server is not None:
        server.send_progress_text(text, running.node_id)
