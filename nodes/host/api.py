"""ComfyUI's node API and the sockets of this pack; every node file imports them from here."""

from comfy_api.latest import ComfyExtension, io
from comfy_execution.graph_utils import ExecutionBlocker

from . import ui
from .checks import CHECKS, checked

Trajectory = io.Custom("HSPACE_TRAJECTORY")
Directions = io.Custom("HSPACE_DIRECTIONS")
Basis = io.Custom("HSPACE_BASIS")
Embedder = io.Custom("HSPACE_EMBEDDER")
Asyrp = io.Custom("HSPACE_DELTA")  # named before the pack said asyrp; saved workflows hold it
Rectifier = io.Custom("HSPACE_RECTIFIER")
LoraModel = io.Custom("LORA_MODEL")
Concepts = io.Custom("HSPACE_CONCEPTS")
Heads = io.Custom("HSPACE_HEADS")
TokenMap = io.Custom("HSPACE_TOKENMAP")
DeltaMapper = io.Custom("HSPACE_DELTAMAPPER")
Pada = io.Custom("HSPACE_PADA")
Placed = io.Custom("HSPACE_PLACEMENT")


class Node(io.ComfyNode):
    """A node of this pack: its inputs are checked before ``execute`` sees them."""

    # What a node shows is sent again when a run takes the node's result from the cache: without it a page that is
    # reloaded stays blank. Older hosts do not look at it.
    HAS_INTERMEDIATE_OUTPUT = True  # pyright: ignore[reportAssignmentType]

    def __init_subclass__(cls, **kwargs) -> None:
        """Wrap ``execute``, but not that of the locked clones that the host makes of a class for every run."""
        super().__init_subclass__(**kwargs)
        body = vars(cls).get("execute")
        if body is not None and not hasattr(body.__func__, CHECKS):
            cls.execute = classmethod(checked(body.__func__))  # pyright: ignore[reportAttributeAccessIssue]


__all__ = [
    "Asyrp",
    "Basis",
    "ComfyExtension",
    "Concepts",
    "DeltaMapper",
    "Directions",
    "Embedder",
    "ExecutionBlocker",
    "Heads",
    "LoraModel",
    "Node",
    "Pada",
    "Placed",
    "Rectifier",
    "TokenMap",
    "Trajectory",
    "io",
    "ui",
]
