"""What the two small networks of the face world share: convolutions over a picture, and a shipped file (no paper)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from ..files.exchange import read
from ..files.kinds import Kind

Net = TypeVar("Net", bound=nn.Module)


def convolutions(widths: Sequence[int]) -> nn.Sequential:
    """Build convolutions that halve a picture `[b 3 h w]` once a width."""
    layers: list[nn.Module] = []
    for i, (inp, out) in enumerate(zip((3, *widths), widths, strict=False)):
        layers += [nn.Conv2d(inp, out, 5 if i == 0 else 3, 2, 2 if i == 0 else 1), nn.GroupNorm(8, out), nn.SiLU()]
    return nn.Sequential(*layers)


def load_shipped(net: Net, path: str | Path, kind: Kind, name: str) -> tuple[Net, dict[str, Any]]:
    """Load the weights of a network that ships, and freeze it.

    Args:
        net: of any weights.
        path: of the file.
        kind: of the file.
        name: of the network, for people.

    Returns:
        ``net`` in evaluation mode, and the facts of the file.

    Raises:
        ValueError: the file is missing or is not of this version.
    """
    try:
        facts, state = read(path, kind)
        net.load_state_dict(state)
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"{path} is not the {name} of this version ({error}); restore it from the repository"
        ) from error
    return net.eval().requires_grad_(False), facts
