"""Forward calls and rows of every node that calls the network, against what its method needs. ``python dev.py bench
evaluations``.

The shipped workflows run in this process as they are; those for Stable Diffusion on small random networks of its layout
and on pictures of 128 pixels, which changes no count. Workflows for other released checkpoints are left out: their
nodes are in the others. A row is one picture under one prompt, through the whole network; through half of it, it counts
half.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks._report import bar, path_of, read, write
from devtools.console import ROOT
from devtools.evaluations.counter import Count
from devtools.evaluations.need import Needs
from devtools.evaluations.needs import need_of
from devtools.evaluations.runs import API, Prompt, Ran, read_workflow, run_counted
from devtools.executor import Executor

MOST = 1.02
SIDE = 128
_ELSEWHERE = ("released", "photographs")
_STABLE_DIFFUSION = ("sd15", "sdxl")


def names() -> list[str]:
    """Workflows that run without files of others."""
    return sorted(path.stem for path in API.glob("*.json") if not path.stem.endswith(_ELSEWHERE))


def prompt_of(name: str) -> Prompt:
    """A workflow; one for Stable Diffusion on a small network."""
    prompt = read_workflow(name)
    if name.endswith(_STABLE_DIFFUSION):
        for entry in prompt.values():
            if entry["class_type"] == "CheckpointLoaderSimple":
                entry |= {"class_type": "HSpaceTestCheckpoint", "inputs": {"family": name.rpartition("_")[2]}}
            if entry["class_type"] == "ImageScale":
                entry["inputs"] |= {"width": SIDE, "height": SIDE}
    return prompt


def put_picture(folder: Path) -> None:
    """The picture that Load Image wants: a portrait whose middle is marked as the region."""
    picture = Image.open(ROOT / "assets" / "portrait.png").convert("RGB").resize((SIDE, SIDE))
    mask = Image.new("L", (SIDE, SIDE), 255)
    mask.paste(0, (SIDE // 3, SIDE // 3, SIDE // 2, SIDE // 2))
    picture.putalpha(mask)
    (folder / "input").mkdir(exist_ok=True)
    picture.save(folder / "input" / "example.png")


def row(name: str, ran: Ran, needs: Needs) -> dict[str, Any]:
    """A line of the table: what a node asked for, and what its method needs."""
    need, count = need_of(needs, ran), ran.count
    if need is None:
        raise ValueError(f"no formula says what {ran.kind} needs; add one to devtools/evaluations")
    shares = [_share(count.calls, need.calls), _share(count.rows, need.rows), _share(count.operators, need.operators)]
    if need.products is not None:
        shares.append(_share(count.products, need.products))
    return {
        "workflow": name,
        "node": f"{ran.number} {ran.kind.removeprefix('HSpace')}",
        "calls": count.calls,
        "needed": need.calls,
        "rows": count.rows,
        "rows needed": need.rows,
        "products": count.products,
        "of the most needed": round(max(shares), 4),
        "formula": need.formula,
    }


def _share(value: float, needed: float) -> float:
    return value / needed if needed else 1.0 + (value > 0)


def main() -> None:
    """Run, count, and write after every workflow; figures of workflows that are not run stay."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--workflows", nargs="+", choices=names(), help="default: all; the others keep their figures")
    chosen = parser.parse_args().workflows or names()
    kept = read("evaluations")["figures"] if path_of("evaluations").is_file() else {"rows": [], "checks": {}}
    with tempfile.TemporaryDirectory() as folder:
        put_picture(Path(folder))
        executor = Executor(Path(folder))
        logging.disable(logging.WARNING)
        needs = Needs(executor)
        for name in chosen:
            ran = [one for one in run_counted(executor, prompt_of(name)) if one.count != Count()]
            back = [f"{one.outputs[3]:.1f} dB" for one in ran if one.kind == "HSpaceInvertImage"]
            print(f"{name}: {len(ran)} nodes; inversions come back at {', '.join(back) or '-'}", flush=True)
            others = [line for line in kept["rows"] if line["workflow"] != name]
            lines = others + [row(name, one, needs) for one in ran]
            kept = {
                "rows": sorted(lines, key=lambda line: line["workflow"]),
                "checks": {**kept["checks"], name: _checks_of_a_model(ran)},
            }
            write("evaluations", kept, _bars(kept))


def _bars(figures: dict[str, Any]) -> list[dict[str, Any]]:
    rows = figures["rows"]
    worst = max(rows, key=lambda line: line["of the most needed"])
    return [
        bar("workflows that were counted", len(figures["checks"]), "==", len(names())),
        bar("nodes that ask for more than 1.02 of what they need", sum(map(_exceeds, rows)), "==", 0),
        bar(
            f"the most of what is needed ({worst['workflow']}, {worst['node']})",
            worst["of the most needed"],
            "<=",
            MOST,
        ),
        bar(
            "comparisons of a cut network with the whole, of one model, layer and size",
            max(figures["checks"].values()),
            "<=",
            2,
        ),
    ]


def _exceeds(line: dict[str, Any]) -> bool:
    return line["of the most needed"] > MOST


def _checks_of_a_model(ran: list[Ran]) -> float:
    """Comparisons by the loaders of the models that were cut; two kinds of kernels make two of them."""
    loaders = {number for one in ran if one.count.checks for number in _loaders(one)}
    cuts = {
        (one.inputs.get("layer", "middle"), one.kind == "HSpaceBaselineDirections") for one in ran if one.count.checks
    }
    return sum(one.count.checks for one in ran) / max(len(loaders) * len(cuts), 1)


def _loaders(ran: Ran) -> list[str]:
    model = ran.links.get("model")
    return [ran.number] if model is None else _loaders(model)


if __name__ == "__main__":
    main()
