"""The shipped workflows, written once: one description gives the graph for the editor and the prompt for the API.

``python dev.py workflows`` asks a running host for the nodes' inputs and rewrites ``workflows/*.json`` and ``workflows/api/*.json``.
"""

from __future__ import annotations

import json
from typing import Any

from .client import Client
from .console import ROOT, say
from .graph import Graph, height, place
from .graphs import GRAPHS
from .graphs_codes import CODE_GRAPHS
from .graphs_text import TEXT_GRAPHS
from .graphs_text_more import MORE_TEXT_GRAPHS
from .graphs_trained import TRAINED_GRAPHS

FOLDER = ROOT / "workflows"


def write_all(client: Client) -> None:
    """Rewrite every shipped workflow from its description."""
    (FOLDER / "api").mkdir(parents=True, exist_ok=True)
    for build in (*GRAPHS, *TRAINED_GRAPHS, *TEXT_GRAPHS, *MORE_TEXT_GRAPHS, *CODE_GRAPHS):
        graph = build()
        facts = {kind: client.get(f"/object_info/{kind}")[kind] for kind in {n.kind for n in graph.nodes}}
        for path, data in (
            (FOLDER / f"{graph.name}.json", editor_form(graph, facts)),
            (FOLDER / "api" / f"{graph.name}.json", api_form(graph, facts)),
        ):
            path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            say("workflows", f"wrote {path.relative_to(ROOT)}")


def api_form(graph: Graph, facts: dict[str, Any]) -> dict[str, Any]:
    """The prompt for ``POST /prompt``: node number -> class, inputs, title."""
    numbers = {n.title: str(i) for i, n in enumerate(graph.nodes, 1)}
    prompt = {}
    for node in graph.nodes:
        inputs = {}
        for name, spec in _inputs(facts[node.kind]):
            value = node.inputs.get(name, _default(spec))
            if isinstance(value, tuple):
                inputs[name] = [numbers[value[0]], _output_index(graph, facts, *value)]
            elif value is not None:
                inputs[name] = value
        prompt[numbers[node.title]] = {"class_type": node.kind, "inputs": inputs, "_meta": {"title": node.title}}
    return prompt


def editor_form(graph: Graph, facts: dict[str, Any]) -> dict[str, Any]:
    """The graph as the editor saves it (schema version 0.4)."""
    numbers = {n.title: i for i, n in enumerate(graph.nodes, 1)}
    links: list[list[Any]] = []
    nodes: list[dict[str, Any]] = []
    boxes, groups = place(graph, {n.title: _height(facts[n.kind]) for n in graph.nodes})
    for node in graph.nodes:
        fact, slots, widgets = facts[node.kind], [], []
        for name, spec in _inputs(fact):
            value = node.inputs.get(name, _default(spec))
            slot: dict[str, Any] = {"name": name, "type": "COMBO" if isinstance(spec[0], list) else spec[0], "link": None}
            if isinstance(value, tuple):
                source = numbers[value[0]]
                links.append([len(links) + 1, source, _output_index(graph, facts, *value), numbers[node.title], len(slots), slot["type"]])
                slot["link"] = len(links)
            if _is_widget(spec):
                slot["widget"] = {"name": name}
                widgets.append(value if not isinstance(value, tuple) else _default(spec))
                if (spec[1] if len(spec) > 1 else {}).get("control_after_generate"):
                    widgets.append("fixed")
                if (spec[1] if len(spec) > 1 else {}).get("image_upload"):
                    widgets.append("image")
            slots.append(slot)
        nodes.append(
            {
                "id": numbers[node.title],
                "type": node.kind,
                "title": node.title,
                "pos": list(boxes[node][:2]),
                "size": list(boxes[node][2:]),
                "flags": {},
                "order": numbers[node.title] - 1,
                "mode": 0,
                "inputs": slots,
                "outputs": [{"name": n, "type": t, "links": None} for n, t in zip(fact["output_name"], fact["output"], strict=True)],
                "properties": {"Node name for S&R": node.kind},
                "widgets_values": widgets,
            }
        )
    for number, source, output, *_ in links:
        slot = nodes[source - 1]["outputs"][output]
        slot["links"] = [*(slot["links"] or []), number]
    for i, note in enumerate(graph.notes, len(nodes) + 1):
        nodes.append(
            {
                "id": i,
                "type": "MarkdownNote",
                "pos": list(boxes[note][:2]),
                "size": list(boxes[note][2:]),
                "flags": {},
                "order": i - 1,
                "mode": 0,
                "inputs": [],
                "outputs": [],
                "properties": {},
                "widgets_values": [note.text],
                "color": "#432",
                "bgcolor": "#653",
            }
        )
    boxed = [
        {"id": i, "title": g.title, "bounding": list(box), "color": g.color, "font_size": 24, "flags": {}}
        for i, (g, box) in enumerate(groups, 1)
    ]
    return {
        "last_node_id": len(nodes),
        "last_link_id": len(links),
        "nodes": nodes,
        "links": links,
        "groups": boxed,
        "config": {},
        "extra": {},
        "version": 0.4,
    }


def _inputs(fact: dict[str, Any]) -> list[tuple[str, list[Any]]]:
    given = fact["input"]
    order = fact.get("input_order") or {part: list(given.get(part, {})) for part in ("required", "optional")}
    return [(name, given[part][name]) for part in ("required", "optional") for name in order.get(part, ())]


def _height(fact: dict[str, Any]) -> int:
    inputs = _inputs(fact)
    widgets = [spec for _, spec in inputs if _is_widget(spec)]
    extra = sum(bool((spec[1] if len(spec) > 1 else {}).get("control_after_generate")) for spec in widgets)
    return height(len(inputs) - len(widgets), len(fact["output"]), len(widgets) + extra)


def _is_widget(spec: list[Any]) -> bool:
    options = spec[1] if len(spec) > 1 else {}
    return (isinstance(spec[0], list) or spec[0] in {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}) and not options.get("forceInput")


def _default(spec: list[Any]) -> Any:
    if not _is_widget(spec):
        return None
    options = spec[1] if len(spec) > 1 else {}
    if "default" in options:
        return options["default"]
    kind, choices = spec[0], options.get("options", ())
    if isinstance(kind, list):
        kind, choices = "COMBO", kind
    return choices[0] if choices else {"INT": 0, "FLOAT": 0.0, "BOOLEAN": False}.get(str(kind), "")


def _output_index(graph: Graph, facts: dict[str, Any], title: str, output: str) -> int:
    kind = next(n.kind for n in graph.nodes if n.title == title)
    names = facts[kind]["output_name"]
    if output not in names:
        raise KeyError(f"{title} ({kind}) has no output {output!r}; it has {', '.join(names)}")
    return names.index(output)
