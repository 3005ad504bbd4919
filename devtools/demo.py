"""``dev.py demo``: edit a portrait with the shipped workflow, in a real ComfyUI."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import host
from .client import Client, ExecutionFailed, PromptRefused, Result
from .console import ROOT, StepFailed, say
from .progress import ProgressBar
from .server import Server
from .workflow_names import role_of

WORKFLOW = ROOT / "workflows" / "api" / "discover_region.json"
ASSETS = ROOT / "assets"

# Option -> the inputs it sets in the workflow, as (title of the node or its role, input name).
OPTIONS = {
    "steps": [("Sigmas", "steps")],
    "k": [("Discover Region Directions — mouth", "k"), ("Discover Region Directions — eyes", "k")],
    "seed": [("Discover Region Directions — mouth", "seed"), ("Discover Region Directions — eyes", "seed")],
    "mode": [("Discover Region Directions — mouth", "mode"), ("Discover Region Directions — eyes", "mode")],
    "strength": [("Direction Atlas — mouth", "strength"), ("Direction Atlas — eyes", "strength")],
}
PICTURES = {"strip.png": "Strip", "spectrum.png": "Spectrum"}  # file -> role of the node that saves it
FACE = "Image"  # role of the node whose outputs the real picture and its masks take the place of
MASKS = ("mouth", "eyes")
MEASURE, TABLE = "Measure Edit", "Table"  # the node that measures, and what shows its table as text
MODES = ("none", "single", "post", "constrained", "generalized")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options; those left out keep the workflow's values."""
    parser.add_argument(
        "--image", type=Path, metavar="P", help="portrait to edit, best 64x64 (default: assets/portrait.png)"
    )
    parser.add_argument(
        "--mask", type=Path, metavar="P", help="region to edit in place of the mouth, white on black, same aspect"
    )
    parser.add_argument("--strength", type=float, metavar="F", help="how far the directions are driven")
    parser.add_argument("--seed", type=int, metavar="N", help="seed of the discovery")
    parser.add_argument("--steps", type=int, metavar="N", help="steps of the inversion")
    parser.add_argument("--k", type=int, metavar="N", help="number of directions of each region")
    parser.add_argument("--mode", choices=MODES, help="how the region is separated from the rest")
    parser.add_argument(
        "--output", type=Path, default=ROOT / "output", metavar="DIR", help="where the results go (default: output/)"
    )


def run(options: argparse.Namespace) -> None:
    """Run the demo.

    Raises:
        StepFailed: with what to do about it.
    """
    for name in ("image", "mask"):
        path = getattr(options, name)
        if path is not None and not path.is_file():
            raise StepFailed("demo", f"--{name} {path} is not a file", "Give the path of a picture on this machine.")
    prompt = _workflow()
    host.ensure_host()
    say("demo", "starting ComfyUI")
    with Server("demo", fresh=True) as server, server.client() as client:
        server.check_pack()
        _patch(prompt, options, client)
        say("demo", f"running {WORKFLOW.name} on {server.url}")
        bar = ProgressBar(prompt)
        try:
            result = client.queue(prompt, timeout=3600, on_event=bar.on_event)
        except PromptRefused as error:
            raise StepFailed(
                "demo", f"the host refused the prompt:\n{error}", "Correct the option that the message names."
            ) from error
        except ExecutionFailed as error:
            raise StepFailed(
                "demo", f"{error.node_type}: {error.message}", f"See the message; the whole log is {server.log}."
            ) from error
        finally:
            bar.close()
        _collect(prompt, result, client, options.output)


def _workflow() -> dict[str, dict[str, Any]]:
    try:
        return json.loads(WORKFLOW.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StepFailed(
            "demo", f"{WORKFLOW} cannot be read: {error}", "Restore the file from the repository."
        ) from error


def _titled(prompt: dict[str, dict[str, Any]], title: str) -> list[str]:
    return [node for node, entry in prompt.items() if title in names_of(entry)]


def names_of(entry: Mapping[str, Any]) -> set[str]:
    """What a node of a prompt goes by: its title, and the role in it."""
    title = (entry.get("_meta") or {}).get("title", "")
    return {title, role_of(title)}


def _patch(prompt: dict[str, dict[str, Any]], options: argparse.Namespace, client: Client) -> None:
    """Put the options into the prompt, and the real picture and masks in the place of the drawn ones."""
    for option, targets in OPTIONS.items():
        value = getattr(options, option)
        if value is None:
            continue
        for node, name in [(node, name) for title, name in targets for node in _titled(prompt, title)]:
            prompt[node]["inputs"][name] = value
    (face,) = _titled(prompt, FACE)
    outputs = ["image", *MASKS]  # the first outputs of Demo Face, in this order
    prompt["picture"] = {
        "class_type": "LoadImage",
        "inputs": {"image": client.upload(options.image or ASSETS / "portrait.png")},
    }
    scale = {"image": ["picture", 0], "upscale_method": "area", "width": 64, "height": 64, "crop": "center"}
    prompt["image"] = {"class_type": "ImageScale", "inputs": scale}
    for name in MASKS:
        path = options.mask if options.mask and name == MASKS[0] else ASSETS / f"portrait_{name}.png"
        prompt[name] = {"class_type": "LoadImageMask", "inputs": {"image": client.upload(path), "channel": "red"}}
    (measure,) = _titled(prompt, MEASURE)
    prompt["table"] = {"class_type": "PreviewAny", "inputs": {"source": [measure, 0]}, "_meta": {"title": TABLE}}
    for entry in prompt.values():
        for name, value in entry["inputs"].items():
            if isinstance(value, list) and value[0] == face:
                entry["inputs"][name] = [outputs[value[1]], 0]
    del prompt[face]


def _collect(prompt: dict[str, dict[str, Any]], result: Result, client: Client, folder: Path) -> None:
    """Download the results and print the table."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, title in PICTURES.items():
        images = [image for node in _titled(prompt, title) for image in result.outputs.get(node, {}).get("images", [])]
        if not images:
            raise StepFailed(
                "demo",
                f"the node with the role {title} of {WORKFLOW.name} left no picture",
                "Restore the workflow from the repository.",
            )
        (folder / name).write_bytes(client.view(images[0]))
    texts = [text for node in _titled(prompt, TABLE) for text in result.outputs.get(node, {}).get("text", [])]
    if not texts:
        raise StepFailed(
            "demo",
            f"the node titled {MEASURE} of {WORKFLOW.name} left no table",
            "Restore the workflow from the repository.",
        )
    tables, data = [], []
    for text in texts:
        try:
            data.append(json.loads(text))
        except ValueError:
            tables.append(text)
    if data:
        (folder / "measurement.json").write_text(
            json.dumps(data[0] if len(data) == 1 else data, indent=1) + "\n", encoding="utf-8"
        )
    markdown = "\n\n".join(tables or [as_table(one) for one in data]).strip() + "\n"
    (folder / "measurement.md").write_text(markdown, encoding="utf-8")
    print(f"\n{markdown}")
    for path in sorted(folder.glob("*")):
        if path.name in {*PICTURES, "measurement.json", "measurement.md"}:
            say("demo", f"wrote {path}")


def as_table(data: Any) -> str:
    """A Markdown table of a list of flat dicts (a row each) or of one dict (a row for each key)."""
    if isinstance(data, dict):
        data = [{"quantity": name, "value": value} for name, value in data.items()]
    rows = [row if isinstance(row, dict) else {"value": row} for row in (data if isinstance(data, list) else [data])]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(_cell(row.get(name, "")) for name in columns) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = value if isinstance(value, str) else json.dumps(value)
    return text.replace("|", "\\|").replace("\n", " ")
