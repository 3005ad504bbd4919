"""The executor inside of the tests' own process does what the server does."""

import pytest
import torch

from devtools.executor import NodeFailed

from .graphs import base, discover, node, render, steer


def test_prompts_run_and_what_is_known_does_not_run_again(executor):
    prompt = {**base(steps=3, iterations=1), "discover": discover(), "steer": steer(15.0), "render": render("steer")}
    ((edited, rebuilt, _latent),) = executor.run(prompt, "render")
    assert edited.shape == rebuilt.shape == (1, 64, 64, 3) and not torch.equal(edited, rebuilt)
    ((again, *_),) = executor.run(prompt, "render")
    assert again is edited


def test_what_is_refused_or_fails_says_where(executor):
    prompt = {**base(steps=3, iterations=1), "discover": discover(k=65)}
    with pytest.raises(NodeFailed, match="65") as error:
        executor.run(prompt, "discover")
    assert error.value.kind == "refused"
    with pytest.raises(NodeFailed, match="aspect") as error:
        executor.run(
            {
                **base(steps=3, iterations=1),
                "mask": node("SolidMask", value=1.0, width=64, height=32),
                "d": discover(("mask", 0)),
            },
            "d",
        )
    assert error.value.kind == "ValueError" and error.value.node == "d"


def test_numbers_through_links_are_held_to_the_schema(executor):
    with pytest.raises(ValueError, match="steps must lie in"):
        executor.call("HSpaceDiffAESteps", model=None, steps=10**9)
