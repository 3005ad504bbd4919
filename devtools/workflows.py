"""``dev.py workflow``: put a graph that was saved in the editor into the repository, and check those that are there.

The editor's file is the one source of a shipped workflow, because the editor is where people change graphs; the
prompt in ``workflows/api`` is derived from it, by the editor itself. Run by the Python of ``.venv``, which can drive a
browser.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from . import blueprints, thumbnails
from .client import Client, ExecutionFailed, PromptRefused
from .console import ROOT, StepFailed, plain_output, say
from .editor import Editor, open_editor
from .server import Server
from .workflow_form import (
    Facts,
    Prompt,
    find_faults,
    find_missing_files,
    find_name_fault,
    read_graph,
    write_graph,
    write_prompt,
)
from .workflow_layout import EXAMPLE, lay_out
from .workflow_names import find_title_faults, stamp

FOLDER = ROOT / "workflows"
API = FOLDER / "api"
PORTRAIT = ROOT / "assets" / "portrait.png"
REMEDY = "Mend the graph in the editor (python dev.py serve), save it and run the same command again."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommands."""
    commands = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    adding = commands.add_parser("add", help="check a graph that the editor saved and put it into workflows/")
    adding.add_argument("file", type=Path, metavar="FILE.json")
    adding.add_argument("--name", help="of the workflow, such as discover_region (default: the name of the file)")
    adding.add_argument(
        "--picture", type=Path, metavar="P", help="thumbnail (default: the one that is there, else drawn from a run)"
    )
    adding.add_argument("--redraw", action="store_true", help="run the workflow and draw its thumbnail anew")
    laying = commands.add_parser("layout", help="measure the nodes in the editor and lay the graphs out anew")
    laying.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    taking = commands.add_parser("blueprint", help="check a graph of one subgraph and put it into subgraphs/")
    taking.add_argument("files", nargs="+", type=Path, metavar="FILE.json", help="its name is what the editor shows")
    checking = commands.add_parser("check", help="check the workflows that are there")
    checking.add_argument("names", nargs="*", metavar="NAME", help="default: all")


def names() -> list[str]:
    """All shipped workflows."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def add(options: argparse.Namespace) -> None:
    """Check a saved graph and write it, its prompt and its thumbnail.

    Raises:
        StepFailed: with all that is wrong with it; nothing is written then.
    """
    name, graph = options.name or options.file.stem, _read(options.file)
    with _tools() as (client, editor):
        graph = stamp(graph)
        prompt, faults = _examine(editor, graph, client.get("/object_info"))
        faults = [fault for fault in (find_name_fault(name), *faults) if fault]
        if faults:
            raise StepFailed("workflow", f"{name} is not taken:\n" + "\n".join(faults), REMEDY)
        picture = _thumbnail(name, options, prompt, client)
    API.mkdir(parents=True, exist_ok=True)
    picture.convert("RGB").resize(thumbnails.SIZE).save(FOLDER / f"{name}.jpg", quality=88)
    for path, text in ((FOLDER / f"{name}.json", write_graph(graph)), (API / f"{name}.json", write_prompt(prompt))):
        path.write_text(text, encoding="utf-8", newline="\n")
        say("workflow", f"wrote {path.relative_to(ROOT)}")


def take_blueprints(files: Sequence[Path]) -> None:
    """Check saved subgraphs and write them.

    Raises:
        StepFailed: with all that is wrong with one; it is not written then, nor are those after it.
    """
    graphs = {file.stem: _read(file) for file in files}
    with _tools() as (client, editor):
        facts = client.get("/object_info")
        for name, graph in graphs.items():
            editor.load(graph)
            faults = list(blueprints.find_blueprint_faults(graph, facts))
            if faults:
                raise StepFailed("workflow", f"{name} is not taken:\n" + "\n".join(faults), REMEDY)
            blueprints.FOLDER.mkdir(exist_ok=True)
            target = blueprints.FOLDER / f"{name}.json"
            target.write_text(blueprints.write_blueprint(graph, name), encoding="utf-8", newline="\n")
            say("workflow", f"wrote {target.relative_to(ROOT)}")


def check(chosen: Sequence[str]) -> None:
    """Open every workflow in the editor and compare it with its files.

    Raises:
        StepFailed: with all that is wrong.
    """
    faults = []
    with _tools() as (client, editor):
        facts = client.get("/object_info")
        for name in chosen or names():
            found = [fault for fault in (find_name_fault(name), *find_file_faults(name, editor, facts)) if fault]
            say("workflow", f"{name}: {len(found) or 'no'} faults")
            faults += [f"{name}: {fault}" for fault in found]
    if faults:
        raise StepFailed("workflow", "\n".join(faults), REMEDY)


def layout(chosen: Sequence[str]) -> None:
    """Lay workflows out anew and write their graphs; prompts and thumbnails stay.

    Raises:
        StepFailed: with all that could not be laid out; the others are written.
    """
    faults = []
    with _tools() as (client, editor):
        client.upload(PORTRAIT, EXAMPLE)
        facts = client.get("/object_info")
        for name in chosen or names():
            path = FOLDER / f"{name}.json"
            try:
                laid = _laid_out(name, editor, read_graph(path.read_text(encoding="utf-8")), facts)
                path.write_text(write_graph(laid), encoding="utf-8", newline="\n")
            except (StepFailed, AssertionError) as error:
                faults.append(f"{name}: {error}")
                say("workflow", faults[-1])
    if faults:
        raise StepFailed("workflow", "\n".join(faults), REMEDY)


def _laid_out(name: str, editor: Editor, graph: dict[str, Any], facts: Facts) -> dict[str, Any]:
    graph = stamp(graph)
    editor.load(graph)
    laid = lay_out(editor, graph, not find_missing_files(editor.to_prompt(), facts))
    editor.load(laid)
    say("workflow", f"{name}: {len(laid['nodes'])} nodes fit the screen at {100 * editor.fit():.0f} %")
    return laid


def find_file_faults(name: str, editor: Editor, facts: Facts) -> Iterator[str]:
    """What is wrong with the files of a shipped workflow, by the editor and by what the host says of its nodes."""
    text = (FOLDER / f"{name}.json").read_text(encoding="utf-8")
    graph, api, picture = read_graph(text), API / f"{name}.json", FOLDER / f"{name}.jpg"
    prompt, faults = _examine(editor, graph, facts)
    yield from faults
    if text != write_graph(stamp(graph)):
        yield f"the file is not as the command writes it; run python dev.py workflow add workflows/{name}.json"
    if not api.exists() or json.loads(api.read_text(encoding="utf-8")) != prompt:
        yield f"workflows/api/{name}.json is not what the editor sends; run dev.py workflow add workflows/{name}.json"
    if not picture.exists() or Image.open(picture).size != thumbnails.SIZE:
        yield f"workflows/{name}.jpg is no picture of {thumbnails.SIZE[0]} x {thumbnails.SIZE[1]} pixels"


def _read(file: Path) -> dict[str, Any]:
    try:
        return read_graph(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StepFailed("workflow", f"{file}: {error}", "Name a file that the editor saved.") from error


def _examine(editor: Editor, graph: dict[str, Any], facts: Facts) -> tuple[dict[str, Any], list[str]]:
    """The prompt that the editor makes of a graph, and what is wrong with either."""
    editor.load(graph)
    prompt = editor.to_prompt()
    faults = [f"the editor knows no node {kind}" for kind in editor.unknown_nodes()]
    faults += [
        f"node {node['id']} ({node['type']}) is muted or bypassed" for node in graph["nodes"] if node.get("mode")
    ]
    faults += [*find_title_faults(graph, facts), *find_faults(prompt, facts), *editor.overlaps()]
    return prompt, faults


def _thumbnail(name: str, options: argparse.Namespace, prompt: Prompt, client: Client) -> Image.Image:
    """The picture that is given, the one that is there, or one drawn from what a run of the workflow shows."""
    path = options.picture or FOLDER / f"{name}.jpg"
    if path.exists() and not options.redraw:
        return Image.open(path)
    say("workflow", f"running {name} for its thumbnail")
    try:
        return thumbnails.draw(client, prompt)
    except (PromptRefused, ExecutionFailed) as error:
        remedy = "Mend the graph; if it needs files that are not here, give a thumbnail by --picture."
        raise StepFailed("workflow", f"{name} does not run: {error}", remedy) from error


@contextmanager
def _tools() -> Iterator[tuple[Client, Editor]]:
    with Server("workflow", fresh=True) as server, server.client() as client, open_editor(server.url) as editor:
        server.check_pack()
        yield client, editor


def main() -> int:
    """Run one action; its exit status."""
    plain_output()
    parser = argparse.ArgumentParser(prog="python dev.py workflow", description=str(__doc__).splitlines()[0])
    add_arguments(parser)
    options = parser.parse_args()
    try:
        if options.action == "add":
            add(options)
        elif options.action == "blueprint":
            take_blueprints(options.files)
        else:
            (check if options.action == "check" else layout)(options.names)
    except StepFailed as failure:
        print(failure.report(), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
