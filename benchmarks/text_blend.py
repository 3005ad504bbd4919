"""What P2P Local Blend holds and what it forbids: the same graphs with the node and without. ``python dev.py bench
text_blend``.

DirectInversion and Prompt-to-Prompt on the face world's benchmark, as in ``text_editing.py``; a row for each kind of
edit.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks._report import bar, write
from benchmarks._text_methods import Setup, node, on_base, p2p
from benchmarks.text_editing import Judge, run
from core.measure.pie_folder import read_folder
from scripts.draw_pie import make, read_truth
from scripts.draw_pie import write as write_benchmark

WAYS = {"blend": on_base(p2p(direct=True)), "no blend": on_base(p2p(direct=True, blend=False))}
FIGURES = ("target moved", "reached half", "others moved", "PSNR outside")
FORBIDDEN = ("add glasses", "remove glasses", "close eyes")
"""Edits of what the model does not attend to where it is drawn."""


def main() -> None:
    """Run, measure and write."""
    folder = Path("output/pie")
    write_benchmark(folder, make())
    items, truth = read_folder(folder), read_truth(folder) or {}
    kinds = [truth[item.key]["edit"] for item in items]
    setup = Setup(node("HSpaceLoadFaceTextModel"))
    pictures = {name: edited for name, edited, _ in run(WAYS, items, setup)}
    rows = []
    for edit in ("all", *dict.fromkeys(kinds)):
        chosen = [i for i, kind in enumerate(kinds) if edit in ("all", kind)]
        judge = Judge(folder, [items[i] for i in chosen], None, None)
        found = {name: judge.row(name, [edited[i] for i in chosen], 0.0) for name, edited in pictures.items()}
        rows.append(
            {"edit": edit} | {f"{figure}, {name}": row[figure] for figure in FIGURES for name, row in found.items()}
        )
        print(rows[-1], flush=True)
    by = {row["edit"]: row for row in rows}
    least = min(by[edit]["target moved, no blend"] for edit in FORBIDDEN)
    ahead = round(by["all"]["PSNR outside, blend"] - by["all"]["PSNR outside, no blend"], 2)
    bars = [
        bar("least target moved of glasses and closed eyes, no blend", least, ">=", 0.5),
        bar("PSNR outside: blend ahead of no blend", ahead, ">=", 6.0),
    ]
    write("text_blend", {"rows": rows, "items": len(items), "steps": setup.steps, "cfg": setup.cfg}, bars)


if __name__ == "__main__":
    main()
