"""The table of verdicts as a page of the documentation: ``python -m devtools.compatibility.page`` writes
``docs/compatibility.md``.
"""

from __future__ import annotations

from pathlib import Path

from .edits import EDITS
from .elsewhere import ELSEWHERE
from .mechanisms import MECHANISMS
from .table import verdict_of
from .verdicts import TESTS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "compatibility.md"
_TEXT = """# What works together

Our nodes beside what ComfyUI brings along: step caches, patches of attention and of guidance, other samplings, LoRAs, masks, hooks,
context windows. Rows have the names of the editor's menu, with the option that matters in parentheses and the id of the node behind it;
columns are our nodes. Every cell is run and asserted by `tests/host/test_compatibility.py`, on a small random U-Net of Stable Diffusion
1.5's kind, and this page is written from the same table.

| in a cell | meaning |
|---|---|
| exact | both do what they do: what must come back, or be the same, is the same to rounding |
| acts | it works, and the note says what is different |
| refused | an error says so before anything is made, and names the other node or what to do |
| - | cannot be connected: our node has no socket for it |

The number leads to the note that says why. The word at its end says what the test asserts:

{tests}

Where the other node stands in the graph of each of ours:

{places}

{tables}

## Nodes that are not in the table

{elsewhere}

## Notes

{notes}
"""


def page() -> str:
    """The whole page."""
    notes: dict[str, int] = {}

    def sign(edit, mechanism) -> str:
        verdict = verdict_of(edit, mechanism)
        if verdict.test == "socket":
            return "-"
        text = f"{verdict.why} *({verdict.test})*"
        number = notes.setdefault(text, len(notes) + 1)
        return f"{verdict.kind} [{number}](#note-{number})"

    head = ["", *(edit.name for edit in EDITS)]
    parts = []
    for group in dict.fromkeys(m.group for m in MECHANISMS):
        rows = [[m.title, *(sign(e, m) for e in EDITS)] for m in MECHANISMS if m.group == group]
        lines = ["| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows]]
        parts += [f"## {group}", "\n".join(lines)]
    return _TEXT.format(
        tests="\n".join(f"* *{name}*: {text}." for name, text in TESTS.items() if name != "socket"),
        places="\n".join(f"* {e.name}: {e.where}." for e in EDITS),
        tables="\n\n".join(parts),
        elsewhere="\n".join(
            f"* {why}: {', '.join(sorted(n for n in ELSEWHERE if ELSEWHERE[n] == why))}."
            for why in dict.fromkeys(ELSEWHERE.values())
        ),
        notes="\n\n".join(f'<a id="note-{number}"></a>{number}. {text}' for text, number in notes.items()),
    )


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
