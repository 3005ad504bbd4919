"""Prompts in the host's API form whose nodes are named by what they are, so that a run knows again what an earlier run
has computed.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

Link = list  # [id of a node, number of its output]


class Graph:
    """Nodes of one prompt. Two calls of :meth:`add` with the same inputs are one node, in every graph."""

    def __init__(self) -> None:
        self.prompt: dict[str, dict[str, Any]] = {}

    def add(self, kind: str, **inputs: Any) -> str:
        """Id of a node of ``kind``; links are ``[id, output]``."""
        told = json.dumps([kind, inputs], sort_keys=True)
        name = f"{kind} {hashlib.sha256(told.encode()).hexdigest()[:12]}"
        self.prompt[name] = {"class_type": kind, "inputs": inputs}
        return name

    def out(self, kind: str, *, output: int = 0, **inputs: Any) -> Link:
        """An output of a node of ``kind``."""
        return [self.add(kind, **inputs), output]
