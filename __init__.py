"""ComfyUI-HSpace: find and drive the semantic directions of diffusion models.

The host imports this file; nothing is loaded before it asks for the nodes, so that ``core`` and the tests need no host.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .nodes import HSpaceExtension

__all__ = ["comfy_entrypoint"]


async def comfy_entrypoint() -> HSpaceExtension:
    """Give the host the extension that lists the nodes."""
    from .nodes import HSpaceExtension

    return HSpaceExtension()
