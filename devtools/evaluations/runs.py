"""Run shipped workflows in this process and count what every node asked of the network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..console import ROOT
from ..executor import Executor
from .counter import Count, counting

API = ROOT / "workflows" / "api"
Prompt = dict[str, dict[str, Any]]


@dataclass(frozen=True, eq=False)
class Ran:
    """A node of a prompt that ran.

    Attributes:
        number: of the node in its prompt.
        kind: its id.
        inputs: by name, links followed: what the node was given.
        links: by name, the nodes that inputs came from.
        outputs: what it gave.
        count: what it asked of the network.
    """

    number: str
    kind: str
    inputs: Mapping[str, Any]
    links: Mapping[str, Ran]
    outputs: tuple[Any, ...]
    count: Count

    def upstream(self, *kinds: str) -> list[Ran]:
        """The nodes of these kinds on the MODELs and other inputs that lead here."""
        found = [node for node in self.links.values() if node.kind in kinds]
        return found + [node for link in self.links.values() for node in link.upstream(*kinds) if node not in found]


def read_workflow(name: str) -> Prompt:
    """Read the prompt of a shipped workflow."""
    return json.loads((API / f"{name}.json").read_text(encoding="utf-8"))


def run_counted(executor: Executor, prompt: Prompt) -> list[Ran]:
    """Run all of a prompt; its nodes, in an order in which each stands behind those that it is linked to."""
    executor.forget()
    with counting(executor) as counter:
        outputs = dict(zip(prompt, executor.run(prompt, *prompt), strict=True))
    done: dict[str, Ran] = {}

    def ran(number: str) -> Ran:
        if number not in done:
            given = prompt[number]["inputs"]
            links = {name: value for name, value in given.items() if isinstance(value, list)}
            inputs = given | {name: outputs[node][output] for name, (node, output) in links.items()}
            upstream = {name: ran(node) for name, (node, _) in links.items()}
            kind = prompt[number]["class_type"]
            done[number] = Ran(number, kind, inputs, upstream, outputs[number], counter.of[number])
        return done[number]

    for number in prompt:
        ran(number)
    return list(done.values())
