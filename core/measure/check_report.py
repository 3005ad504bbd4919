"""The report on a model at first contact: what was measured, what works with it, what to paste into a bug report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image, ImageDraw
from torch import Tensor

from .drawing import FINE, GRID, INK, PAPER, SOFT, Pen, fit, font, to_image, wrapped

GOOD, FAIR, BAD = "good", "fair", "bad"
_COLOURS = {GOOD: (15, 118, 110), FAIR: (180, 110, 10), BAD: (185, 28, 28)}
_MARKS = {GOOD: "ok", FAIR: "note", BAD: "no"}
_WIDTH, _PAD, _NAMES = 960, 28, 210  # pixels: of the card, around it, and of the column of names
_LINE = 21
_SMALL = 13  # pixels of a hint's letters


@dataclass(frozen=True)
class CheckLine:
    """One thing that was looked at.

    Attributes:
        name: what it is.
        value: what was found.
        state: :data:`GOOD`, :data:`FAIR` or :data:`BAD`.
        remedy: what is usual, or what to do.
    """

    name: str
    value: str
    state: str = GOOD
    remedy: str = ""


@dataclass(frozen=True)
class Fitness:
    """Whether nodes work with a model.

    Attributes:
        nodes: their names.
        works: whether they do.
        why: they do not, or on what condition they do.
    """

    nodes: str
    works: bool
    why: str = ""


@dataclass(frozen=True)
class CheckReport:
    """Everything that is said of a model.

    Attributes:
        verdict: one sentence, and the next step.
        lines: in the order in which things can go wrong.
        fitness: of the pack's nodes.
        facts: names and values for a bug report; no paths, no names of people.
    """

    verdict: str
    lines: Sequence[CheckLine]
    fitness: Sequence[Fitness]
    facts: Sequence[tuple[str, str]] = field(default=())

    @property
    def is_good(self) -> bool:
        """Say whether nothing is in the way."""
        return all(line.state != BAD for line in self.lines)

    def markdown(self) -> str:
        """Write the report as Markdown."""
        found = ["| checked | | found | usual, or what to do |", "|---|---|---|---|"]
        for line in self.lines:
            found.append(_row(line.name, _MARKS[line.state], line.value, line.remedy))
        suits = ["| nodes | work | why |", "|---|---|---|"]
        for fitness in self.fitness:
            suits.append(_row(fitness.nodes, "yes" if fitness.works else "no", fitness.why))
        block = ["For a bug report:", "", "```"]
        for name, value in self.facts:
            block.append(f"{name}: {value}")
        block.append("```")
        tables = ["\n".join(part) for part in (found, suits, block)]
        return "\n\n".join([f"**{self.verdict}**", *tables]) + "\n"

    def card(self) -> Tensor:
        """Draw the report, `[1 H 960 3]` in 0..1."""
        return _Card(self).drawn()


def _row(*texts: str) -> str:
    """Write a row of a table, each text on one line."""
    cells = []
    for text in texts:
        line = " ".join(text.split())
        cells.append(line.replace("|", "\\|"))
    return f"| {' | '.join(cells)} |"


class _Card:
    """Draws from the top down; the first pass finds how high it becomes."""

    def __init__(self, report: CheckReport):
        self.report = report

    def drawn(self) -> Tensor:
        """Draw, `[1 H W 3]`."""
        height = self._draw(Pen(ImageDraw.Draw(Image.new("RGB", (8, 8)))))
        image = Image.new("RGB", (_WIDTH * FINE, height * FINE), PAPER)
        self._draw(Pen(ImageDraw.Draw(image)))
        return to_image(image.resize((_WIDTH, height), Image.Resampling.BOX))

    def _draw(self, pen: Pen) -> int:
        y = _PAD
        for line in _broken(self.report.verdict, 18, _WIDTH - 2 * _PAD):
            pen.text((_PAD, y), line, INK, 18, "lt")
            y += 26
        y += 10
        for line in self.report.lines:
            y = self._row(pen, y, line)
        pen.text((_PAD, y + 12), "What works with it", SOFT, 14, "lt")
        y += 40
        for fitness in self.report.fitness:
            y = self._suits(pen, y, fitness)
        return y + _PAD

    def _row(self, pen: Pen, y: float, line: CheckLine) -> int:
        pen.line([(_PAD, y - 5), (_WIDTH - _PAD, y - 5)], GRID, 1)
        pen.dot((_PAD + 6, y + 9), 5, _COLOURS[line.state])
        pen.text((_PAD + 22, y), fit(line.name, font(15 * FINE), (_NAMES - 30) * FINE), INK, 15, "lt")
        y = _paragraphs(pen, (_PAD + _NAMES, y), line.value, line.remedy, 15)
        return round(y + 10)

    def _suits(self, pen: Pen, y: float, fitness: Fitness) -> int:
        colour = _COLOURS[GOOD if fitness.works else BAD]
        pen.dot((_PAD + 6, y + 8), 5, colour, hollow=not fitness.works)
        y = _paragraphs(pen, (_PAD + 22, y), fitness.nodes, fitness.why, 14)
        return round(y + 4)


def _paragraphs(pen: Pen, at: tuple[float, float], text: str, hint: str, size: int) -> float:
    """Write a text and a smaller hint below it; returns where they end."""
    x, y = at
    width = _WIDTH - _PAD - x
    for line in _broken(text, size, width):
        pen.text((x, y), line, INK, size, "lt")
        y += _LINE
    for line in _broken(hint, _SMALL, width):
        pen.text((x, y), line, SOFT, _SMALL, "lt")
        y += _LINE
    return y


def _broken(text: str, size: int, width: float) -> list[str]:
    return wrapped(text, font(size * FINE), width * FINE)
