"""What the nodes need that invert, look at a network or sample back themselves."""

from __future__ import annotations

import math

from .need import Need, Needs, sides, sides_of, steps_above
from .runs import Ran

NOISES = 4  # under which a picture is held against the model's world
TOGETHER = 32  # pictures of an atlas, or of a set whose h is read, in one call


def invert(needs: Needs, ran: Ran) -> Need:
    """Invert Image."""
    n, b, g = len(ran.inputs["sigmas"]) - 1, len(ran.inputs["image"]), sides(ran)
    method, iterations = ran.inputs["method"], ran.inputs["iterations"]
    shown = ran.inputs.get("preview", "reconstruction") == "reconstruction"
    up, back, formula = {
        "fixed point": (n * (1 + iterations) + 1, n, "N (1 + iterations) + 1"),
        "edict": (2 * n, 2 * n, "2 N"),
        "bdia": (n, n - 1, "N"),
        "midpoint": (2 * n, 2 * n, "2 N"),
        "fireflow": (n + 1, n + 1, "N + 1"),
    }.get(method, (n, n, "N"))
    looks = 0 if ran.outputs[0]["world"] is None else NOISES
    calls = up + back * shown + looks
    shows = {"edict": "2 N", "bdia": "N - 1", "midpoint": "2 N", "fireflow": "N + 1"}
    also = f" + {shows.get(method, 'N')} to show it"
    said = f" + {NOISES} to tell whether it is of the model's world" * bool(looks)
    return Need(formula + also * shown + said, calls, (calls - looks) * b * g + looks * b)


def invert_edit_friendly(needs: Needs, ran: Ran) -> Need:
    """Edit-Friendly Inversion."""
    n, b, g = len(ran.inputs["sigmas"]) - 1, len(ran.inputs["image"]), sides(ran)
    shown = 1 + (ran.inputs.get("preview", "reconstruction") == "reconstruction")
    looks = 0 if ran.outputs[0]["world"] is None else NOISES
    calls = math.ceil(n / ran.inputs.get("levels_at_once", 1)) * shown + looks
    said = f" + {NOISES} to tell whether it is of the model's world" * bool(looks)
    formula = "N / L" + " + N / L to show it, L levels at once" * (shown > 1) + said
    return Need(formula, calls, n * b * g * shown + looks * b)


def render(needs: Needs, ran: Ran) -> Need:
    """Render Trajectory."""
    trajectory = needs.trajectory(ran.inputs["trajectory"])
    first = needs.first_step(ran, trajectory)
    calls = needs.runs_of_edits(ran, trajectory, first)
    known = trajectory.reconstruction is not None or trajectory.is_consistent
    back = 0 if known or not any(needs.changed(ran, trajectory)) else len(trajectory.sigmas) - 1 - trajectory.moved
    rows = calls + needs.halves(ran, trajectory, first) / 2 + back
    formula = "W steps from the first edited level, M networks a step" + " + N for the picture before" * bool(back)
    return Need(formula, calls + back, rows * trajectory.states.shape[1] * sides_of(trajectory))


def atlas(needs: Needs, ran: Ran) -> Need:
    """Direction Atlas."""
    trajectory = needs.trajectory(ran.inputs["trajectory"])
    pictures = ran.inputs["count"] * (ran.inputs["columns"] - 1)
    directions = needs.module("core.payload").directions_from_payload(ran.inputs["directions"])
    dials = needs.module("nodes.dials")
    schedule = dials.edit_schedule(directions, 1.0, ran.inputs["sigma_start"], ran.inputs["sigma_end"])
    levels = trajectory.sigmas.tolist()[:-1]
    width = len(levels) - next(i for i, s in enumerate(levels) if schedule.covers(s))
    groups = math.ceil(pictures / TOGETHER)
    plain = 0 if trajectory.reconstruction is not None or trajectory.is_consistent else len(levels)
    g = sides_of(trajectory)
    return Need("W for each group of 32 pictures", groups * width + plain, (pictures * width + plain) * g)


def look(needs: Needs, ran: Ran) -> Need:
    """Nodes that search at one or several states: one half of a call at each, then products alone."""
    states = ran.count.operators
    expected = {
        "HSpaceGlobalDirections": lambda: needs.trajectory(ran.inputs["trajectory"]).states.shape[1],
        "HSpaceTrackDirections": lambda: ran.inputs["levels"],
    }.get(ran.kind, lambda: 1)()
    reported = sum(_numbers_before(text, " Jacobian products") for text in ran.outputs if isinstance(text, str))
    products = reported or ran.count.products
    return Need(
        "half a call a state; products of the solver, and k for gain and leak", states, states / 2, products, expected
    )


def _numbers_before(text: str, words: str) -> int:
    return sum(int(part.split()[-1]) for part in text.split(words)[:-1])


def baseline(needs: Needs, ran: Ran) -> Need:
    """Baseline Directions."""
    pca = ran.inputs["method"].startswith("PCA")
    b = needs.trajectory(ran.inputs["trajectory"]).states.shape[1] if pca else 1
    calls = math.ceil(b / TOGETHER)
    return Need("half a call a state; products of the solver", calls, b / 2, ran.count.products, 0 if pca else 1)


def mean_difference(needs: Needs, ran: Ran) -> Need:
    """Mean Difference Direction."""
    sets = [needs.trajectory(ran.inputs[name]).states.shape[1] for name in ("positive", "negative")]
    return Need("half a call for each group of 32 pictures", sum(math.ceil(b / TOGETHER) for b in sets), sum(sets) / 2)


def mean_trained(needs: Needs, ran: Ran) -> Need:
    """Mean Trained Edit."""
    trajectory = needs.trajectory(ran.inputs["trajectory"])
    steps = steps_above(trajectory, _trained_level(needs, ran))
    b = trajectory.states.shape[1]
    return Need("half a call a step for each group of 8 pictures", steps * math.ceil(b / 8), steps * b / 2)


def _trained_level(needs: Needs, ran: Ran) -> float:
    return needs.module("core.files.asyrp").asyrp_from_payload(ran.inputs["trained"]).sigma_edit


def into_domain(needs: Needs, ran: Ran) -> Need:
    """Into The Domain."""
    calls = ran.inputs["steps"] * ran.inputs["repeats"]
    return Need("steps x repeats", calls, calls * len(ran.inputs["image"]))


def encode(needs: Needs, ran: Ran) -> Need:
    """Encode Semantic Code."""
    b = len(ran.inputs["image"])
    return Need("the encoder, 64 pictures a call", math.ceil(b / 64), b)


def edit_state(needs: Needs, ran: Ran) -> Need:
    """Edit State."""
    repeats = ran.inputs["repeats"] if ran.inputs["how"] == "guidance" else 0
    b = needs.trajectory(ran.inputs["trajectory"]).states.shape[1]
    return Need("2 a repeat of the guidance", 2 * repeats, 2 * repeats * b)


def null_text(needs: Needs, ran: Ran) -> Need:
    """Null-Text Optimise."""
    n = len(needs.trajectory(ran.inputs["trajectory"]).sigmas) - 1
    most = n * (ran.inputs["inner_steps"] + 2) + 2 * n
    calls = min(ran.count.calls, most)
    return Need("3 N + evaluations until a step is good enough, inner_steps + 1 at most", calls, calls)


def morph(needs: Needs, ran: Ran) -> Need:
    """Morph Frames."""
    trajectory = needs.trajectory(ran.inputs["first"])
    n, g = len(trajectory.sigmas) - 1, sides_of(trajectory)
    alphas = [float(v) for v in str(ran.inputs["alphas"]).replace(",", " ").split()]
    frames = len(alphas) or ran.inputs["frames"]
    places = alphas or [i / (frames - 1) for i in range(frames)]
    batch, calls, rows = ran.inputs["batch"], 0, 0
    changed = int(n * ran.inputs["attention"] + 1e-6)
    for start in range(0, frames, batch):
        part = places[start : start + batch]
        ends = (part[0] != 0) + (part[-1] != 1)
        calls, rows = calls + n, rows + len(part) * n + ends * changed
    return Need("N for each batch of frames; both ends run along while attention is interpolated", calls, rows * g)


def levels(needs: Needs, ran: Ran) -> Need:
    """Asyrp Levels."""
    trajectory = needs.trajectory(ran.inputs["trajectory"])
    n, b = len(trajectory.sigmas) - 1, trajectory.states.shape[1]
    return Need("N", n, n * b)
