"""Direction Atlas waits for what is connected to ``after``, and is not drawn again when only that changes."""

import pytest
import torch

from .graphs import base, discover, node, render, save, steer


def edited_with_sheet(**options) -> dict:
    """A saved edit and the sheet of the same directions."""
    links = {"model": ["model", 0], "trajectory": ["invert", 0], "directions": ["discover", 0]}
    settings = {"strength": 15.0, "columns": 3, "count": 2, "title": "", "sigma_start": 1.5, "sigma_end": 0.1}
    inputs = {**links, **settings, **options}
    return {
        **base(steps=6),
        "discover": discover(),
        "steer": steer(15.0),
        "render": render("steer"),
        "save": save(["render", 0]),
        "sheet": node("HSpaceDirectionAtlas", **inputs),
    }


@pytest.mark.parametrize("after", [{}, {"after": ["render", 0]}, {"after": ["steer", 0]}])
def test_the_sheet_waits_for_what_is_connected(server, after):
    prompt = edited_with_sheet(**after)
    prompt["discover"]["inputs"]["seed"] = len(after)  # not from the cache of a run before
    result = server.queue(prompt, timeout=300)
    shown = [data["node"] for event, data in result.events if event == "executed"]
    waits = after.get("after") == ["render", 0]
    assert (shown.index("render") < shown.index("sheet")) == waits, shown


def counted(executor, prompt: dict):
    """The sheet and its pictures, and what drawing them asked of the network."""
    from devtools.evaluations.counter import counting

    with counting(executor) as counter:
        (outputs,) = executor.run(prompt, "sheet")
    return outputs, counter.of["sheet"].calls


def test_another_edit_does_not_draw_the_sheet_again(executor):
    executor.forget()
    plain, calls = counted(executor, edited_with_sheet())
    prompt = edited_with_sheet(after=["render", 0])
    waited, again = counted(executor, prompt)
    assert calls == again > 0 and all(map(torch.equal, plain, waited))
    prompt["steer"]["inputs"]["strength"] = 5.0
    kept, none = counted(executor, prompt)
    assert none == 0 and all(map(torch.equal, plain, kept))


@pytest.mark.parametrize(
    "moved", [{"strength": 5.0}, {"title": "mouth"}, {"columns": 5}, {"count": 1}, {"sigma_start": 8.0}]
)
def test_another_setting_draws_it_again(executor, moved):
    first, _ = counted(executor, edited_with_sheet(after=["render", 0]))
    other, calls = counted(executor, edited_with_sheet(after=["render", 0], **moved))
    assert calls > 0 and (first[0].shape != other[0].shape or not torch.equal(first[0], other[0]))


def test_other_directions_draw_it_again(executor):
    prompt = edited_with_sheet(after=["render", 0])
    first, _ = counted(executor, prompt)
    prompt["discover"]["inputs"]["mask"] = ["face", 2]
    other, calls = counted(executor, prompt)
    assert calls > 0 and not torch.equal(first[0], other[0])
