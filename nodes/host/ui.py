"""What nodes show of their results: the host's previews, which must not cost a result that a full disk has no room to
show.
"""

from __future__ import annotations

import logging

from comfy_api.latest import ui
from comfy_execution.utils import get_executing_context
from server import PromptServer

from ...core.measure.enlarge import enlarge_small, shrink_large

_log = logging.getLogger(__name__)
_LARGE = 512
"""Pixels of the longer side from which a picture is shown as it is."""
_MOST = 1536
"""Pixels of the longer side that a node shows at most: twelve million take the host seconds to write."""


class PreviewText(ui.PreviewText):
    """The host's text of a node, which the editor draws on a few nodes of its own only; here on any."""

    def __init__(self, value: str, **kwargs):
        super().__init__(value, **kwargs)
        show_on_node(value)


class PreviewImage(ui.PreviewImage):
    """The host's preview; small pictures are enlarged, and none is shown if the folder cannot be written."""

    def __init__(self, image, animated: bool = False, cls=None, **kwargs):
        try:
            super().__init__(enlarge_small(image, _LARGE), animated, cls, **kwargs)
        except OSError as error:
            self.values = []
            self.animated = animated
            _log.warning("HSpace: the picture cannot be shown: %s; the node's outputs are whole", error)


def show_picture(image, node, text: str = "") -> dict:
    """Show a picture on a node, and a text beneath it.

    Args:
        image: IMAGE `[b h w c]`; what is larger than the screen needs is shrunk for the display.
        node: class of the node.
        text: or empty.

    Returns:
        what ``NodeOutput`` takes as its ``ui``.
    """
    shown = dict(PreviewImage(shrink_large(image, _MOST), cls=node).as_dict())
    return shown | PreviewText(text).as_dict() if text else shown


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
