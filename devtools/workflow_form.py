"""The two forms of a workflow as files, and what is wrong with a prompt by what the host says of its nodes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

Prompt = Mapping[str, Mapping[str, Any]]
Facts = Mapping[str, Mapping[str, Any]]
"""What ``/object_info`` answers: class of a node -> inputs, outputs."""

STAGES = ("load", "photo", "invert", "discover", "edit", "train", "measure", "faces")
"""The first word of a workflow's name: the stage it is about."""
START = "01_start_here"
"""The one that people are to open first: its number brings it to the top where names are sorted."""
NUMBERS = {"INT": int, "FLOAT": (int, float)}
VIEW = ("ds", "frontendVersion")
"""What the editor stores beside a graph about itself: where the window stood, and its own version."""
MODEL_FILES = {".safetensors", ".ckpt", ".pth", ".pt", ".png", ".jpg"}
"""A choice of such a file may be missing on the machine that checks."""


def read_graph(text: str) -> dict[str, Any]:
    """A graph as the editor saves it, without what is no part of it.

    Raises:
        ValueError: it is no such graph.
    """
    graph = json.loads(text)
    if (
        not isinstance(graph, dict)
        or not isinstance(graph.get("nodes"), list)
        or not isinstance(graph.get("links"), list)
    ):
        raise ValueError(
            "this is no graph of the editor; save it there by Workflow > Save or Export, not by Export (API)"
        )
    extra = {name: value for name, value in (graph.get("extra") or {}).items() if name not in VIEW}
    return {name: value for name, value in graph.items() if name not in ("id", "revision")} | {"extra": extra}


def write_graph(graph: Mapping[str, Any]) -> str:
    """The file of a graph: one line for each node, link and group, so that a change of one reads as one."""
    return _one_line_each(graph, ("nodes", "links", "groups"))


def write_prompt(prompt: Prompt) -> str:
    """The file of a prompt for ``POST /prompt``: one line a node."""
    lines = ",\n".join(
        f"{json.dumps(number)}: {_line(entry)}" for number, entry in sorted(prompt.items(), key=_by_number)
    )
    return f"{{\n{lines}\n}}\n"


def find_faults(prompt: Prompt, facts: Facts) -> list[str]:
    """List what the host would refuse: nodes and inputs that it lacks, links of a wrong type, values out of range."""
    return [
        f"node {number} ({entry.get('_meta', {}).get('title', entry['class_type'])}): {fault}"
        for number, entry in prompt.items()
        for fault in _node_faults(entry, prompt, facts)
    ]


def find_missing_files(prompt: Prompt, facts: Facts) -> list[str]:
    """List the files that a prompt names and this machine does not have; without them it does not run."""
    missing = []
    for entry in prompt.values():
        known = _inputs_of(facts[entry["class_type"]])
        for name, value in entry["inputs"].items():
            choices = _choices(known[name]) if name in known and isinstance(value, str) else None
            if choices is not None and value not in choices and PurePath(value).suffix in MODEL_FILES:
                missing.append(value)
    return missing


def find_name_fault(name: str) -> str:
    """What is wrong with a workflow's name, empty if nothing."""
    if not name.replace("_", "a").isalnum() or name != name.lower() or not name.isascii():
        return f"the name {name!r} has other characters than small letters, digits and _"
    if name != START and (name.partition("_")[0] not in STAGES or "_" not in name):
        return f"the name {name!r} does not begin with a stage and _: {', '.join(STAGES)}"
    return ""


def _node_faults(entry: Mapping[str, Any], prompt: Prompt, facts: Facts) -> Iterator[str]:
    fact = facts.get(entry["class_type"])
    if fact is None:
        yield f"the host knows no node {entry['class_type']}"
        return
    known = _inputs_of(fact)
    yield from (f"{name} is missing" for name in fact["input"].get("required", {}) if name not in entry["inputs"])
    for name, value in entry["inputs"].items():
        if name not in known:
            yield f"it has no input {name}"
        elif isinstance(value, list):
            yield from _link_faults(name, value, known[name], prompt, facts)
        else:
            yield from _value_faults(name, value, known[name])


def _inputs_of(fact: Mapping[str, Any]) -> dict[str, list[Any]]:
    return {name: spec for part in fact["input"].values() for name, spec in part.items()}


def _choices(spec: list[Any]) -> list[Any] | None:
    """What a choice offers; None for inputs of other kinds."""
    options = spec[1] if len(spec) > 1 else {}
    return spec[0] if isinstance(spec[0], list) else options.get("options") if spec[0] == "COMBO" else None


def _link_faults(name: str, link: list[Any], spec: list[Any], prompt: Prompt, facts: Facts) -> Iterator[str]:
    source = prompt.get(link[0])
    outputs = facts.get(source["class_type"], {}).get("output", ()) if source else ()
    if link[1] >= len(outputs):
        yield f"{name} is linked to output {link[1]} of node {link[0]}, which is not there"
        return
    given, taken = outputs[link[1]], "COMBO" if isinstance(spec[0], list) else spec[0]
    if "*" not in (given, taken) and not set(str(given).split(",")) & set(taken.split(",")):
        yield f"{name} takes {taken} and is linked to {given}"


def _value_faults(name: str, value: Any, spec: list[Any]) -> Iterator[str]:
    kind, options = spec[0], spec[1] if len(spec) > 1 else {}
    choices = _choices(spec)
    if choices is not None:
        if value not in choices and PurePath(str(value)).suffix not in MODEL_FILES:
            yield f"{name} is {value!r}, not one of {', '.join(map(str, choices))}"
    elif kind in NUMBERS:
        if isinstance(value, bool) or not isinstance(value, NUMBERS[kind]):
            yield f"{name} is {value!r}, not a number"
        elif not options.get("min", value) <= value <= options.get("max", value):
            yield f"{name} is {value}, outside of {options.get('min')} .. {options.get('max')}"
    elif kind in {"STRING": str, "BOOLEAN": bool} and not isinstance(value, {"STRING": str, "BOOLEAN": bool}[kind]):
        yield f"{name} is {value!r}, not {kind.lower()}"


def _one_line_each(content: Mapping[str, Any], lists: tuple[str, ...]) -> str:
    parts = []
    for name, value in content.items():
        rows = name in lists and isinstance(value, list) and value
        text = "[\n" + ",\n".join(map(_line, value)) + "\n]" if rows else _line(value)
        parts.append(f"{json.dumps(name)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "))


def _by_number(item: tuple[str, Any]) -> tuple[int, str]:
    number = item[0]
    return (int(number) if number.isdigit() else 0, number)
