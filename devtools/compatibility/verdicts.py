"""What a cell has to be: exact, refused by name, or acting as described; and whether what was measured is that."""

from __future__ import annotations

from dataclasses import dataclass

from .edits import Edit
from .measure import Facts
from .mechanisms import Mechanism

ROUNDING = 2e-5  # of float32 through a few steps, relative
ACTS = 1e-4  # less than that is no effect


@dataclass(frozen=True)
class Verdict:
    """What a cell has to be.

    Attributes:
        kind: "exact", "refused" or "acts".
        test: what is asserted, a key of :data:`TESTS`.
        why: a sentence for people.
        words: that a refusal must hold.
        late: the refusal may come after the network was called, because what it depends on is known only then.
        tolerance: of what comes back, relative, where the mechanism itself rounds.
    """

    kind: str
    test: str
    why: str
    words: tuple[str, ...] = ()
    late: bool = False
    tolerance: float = 0.0


TESTS = {
    "order": (
        "with our node at strength 0 the result is the mechanism's alone; nodes the other way round give the same; both"
        " change the result"
    ),
    "back": (
        "with our node at strength 0 the picture, or the mechanism's own result, comes back; both change the result"
    ),
    "without": "the result is that without the mechanism",
    "off": "the result is that without the mechanism, and with our node at strength 0 the picture comes back",
    "refused": "an error that names it, in whichever order the nodes stand",
    "socket": "our node has no socket for it",
    "acts": (
        "with our node at strength 0 the result is the mechanism's alone; both change the result; the order of the"
        " nodes matters"
    ),
}


def shortfall(verdict: Verdict, facts: Facts, edit: Edit, mechanism: Mechanism) -> str:
    """What a cell falls short of, or "" if it is what the verdict says."""
    if verdict.test == "socket":
        return _socket(edit, mechanism)
    if verdict.kind == "refused":
        wrong = _refused(verdict, facts)
        behind = _refused(verdict, facts.behind) if facts.behind is not None else ""
        return wrong or (f"nodes the other way round: {behind}" if behind else "")
    if facts.error:
        return f"failed ({facts.kind} after {facts.calls} calls): {facts.error}"
    wrong = [] if facts.finite else ["it is not finite"]
    if verdict.test in ("without", "off"):
        close = facts.same <= max(verdict.tolerance, ROUNDING)
        wrong += [f"it differs from that without the mechanism by {facts.same:.1e}"] * (not close)
    if verdict.test == "without":
        return "; ".join(wrong)
    wrong += [f"at strength 0 it is {facts.neutral:.1e} off"] * (
        not facts.neutral <= max(edit.tolerance, verdict.tolerance, ROUNDING)
    )
    if verdict.test == "off":
        return "; ".join(wrong)
    wrong += [f"the mechanism does nothing ({facts.same:.1e})"] * (not facts.same > ACTS)
    wrong += [f"our node does nothing ({facts.edit:.1e})"] * (edit.compare is None and not facts.edit > ACTS)
    wrong += [f"a second run differs by {facts.repeat:.1e}"] * (not facts.repeat <= ROUNDING)
    if verdict.test == "order":
        wrong += ["there is no other order"] * (facts.order is None)
        wrong += [f"the other order differs by {facts.order:.1e}"] * (
            facts.order is not None and not facts.order <= ROUNDING
        )
    return "; ".join(wrong)


def _socket(edit: Edit, mechanism: Mechanism) -> str:
    return f"{edit.name} can be connected to it" if can_connect(edit, mechanism) else ""


def can_connect(edit: Edit, mechanism: Mechanism) -> bool:
    """Whether a mechanism has a place in the graph of our node."""
    if mechanism.sampling == "halves":
        return "sampling" in edit.sockets
    wants = {"positive": mechanism.positive, "latent": mechanism.latent}
    return all(part in edit.sockets for part, step in wants.items() if step is not None)


def _refused(verdict: Verdict, facts: Facts) -> str:
    if not facts.error:
        return "it was not refused"
    if facts.kind not in ("ValueError", "RuntimeError") or facts.error.startswith("LATER"):
        return f"failed with {facts.kind}: {facts.error}"
    missing = [word for word in verdict.words if word.lower() not in facts.error.lower()]
    if missing:
        return f"the refusal does not name {', '.join(missing)}: {facts.error}"
    return (
        f"refused only after {facts.calls} calls of the network: {facts.error}"
        if facts.calls and not verdict.late
        else ""
    )
