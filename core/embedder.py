"""What text-guided methods ask of an image-text embedder: pictures and prompts in one space.

CLIP, arXiv 2103.00020.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Embedder(Protocol):
    """Two towers into one space.

    Attributes:
        space: names the space. Vectors of different spaces must not be compared.
    """

    space: str

    def embed_image(self, images: Tensor) -> Tensor:
        """Embed pictures `[b 3 h w]` in -1..1, of any size, as unit vectors `[b d]`; differentiable in the pictures."""
        ...

    def embed_text(self, prompts: Sequence[str]) -> Tensor:
        """Embed prompts as unit vectors `[b d]`, without a graph.

        Raises:
            ValueError: no prompt, or one that says nothing this embedder knows.
        """
        ...
