"""ComfyUI-HSpace: find and drive the semantic directions of diffusion models.

The host imports this file; nothing is loaded before it asks for the nodes, so that ``core`` and the tests need no host.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .nodes.extension import HSpaceExtension

__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]

# The host serves the folder named in pyproject.toml under the project's name, but the editor looks for help pages under
# the
# name of the pack's own folder.
WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> HSpaceExtension:
    """Give the host the extension that lists the nodes.

    Raises:
        RuntimeError: the host is too old.
    """
    from .nodes.host.floor import check_host

    check_host()
    from .nodes.extension import HSpaceExtension

    return HSpaceExtension()
