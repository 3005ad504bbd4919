"""Prompts that a network cannot take, and embedders that lack what is asked of them, are refused by name before the
network is called."""

import pytest
import torch

from .worlds import World, watched

PARTS = {
    "area": ({"area": (4, 4, 0, 0), "strength": 1.0}, "an area of the picture"),
    "bounds of a mask": ({"mask": torch.ones(1, 64, 64), "set_area_to_bounds": True}, "an area of the picture"),
    "late": ({"start_percent": 0.5, "end_percent": 1.0}, "behind 0% of them there is no prompt"),
    "early": ({"start_percent": 0.0, "end_percent": 0.5}, "behind 50% of them there is no prompt"),
    "never": ({"start_percent": 1.0, "end_percent": 0.0}, "a part of the steps"),
    "no number": ({"start_percent": "x"}, "start_percent must be a finite number, got 'x'"),
    "no area": ({"area": (1, 2)}, "area must be height, width, y and x"),
}


@pytest.fixture(scope="module")
def world(executor):
    """The face model with prompts."""
    return World(executor, text=True, steps=2)


@pytest.fixture(scope="module")
def noted(world):
    """Its MODEL, and the levels at which its network was asked."""
    asked: list[float] = []
    return watched(world.model, lambda sigma, out: (asked.append(sigma), out)[1]), asked


NODES = {
    "Invert Image": lambda w, m, prompt: w.inverted(m, positive=prompt),
    "Edit-Friendly Inversion": lambda w, m, prompt: w.noised(m, positive=prompt),
    "Into The Domain": lambda w, m, prompt: w.call(
        "HSpaceIntoDomain", model=m, image=w.image, vae=w.vae, sigma=3.0, steps=2, repeats=1, seed=0, positive=prompt
    ),
}


@pytest.mark.parametrize("name", NODES)
@pytest.mark.parametrize("part", [k for k in PARTS if k not in ("area", "bounds of a mask")])
def test_a_prompt_for_a_part_of_the_steps(world, noted, name, part):
    model, asked = noted
    facts, words = PARTS[part]
    (tensor, given), *_ = world.positive
    asked.clear()
    with pytest.raises(ValueError, match="positive") as caught:
        NODES[name](world, model, [[tensor, {**given, **facts}]])
    assert words in str(caught.value) and asked == []


def test_prompts_that_share_the_steps_are_taken(world):
    (tensor, given), *_ = world.positive
    halves = [[tensor, {**given, "start_percent": a, "end_percent": b}] for a, b in ((0.0, 0.5), (0.5, 1.0))]
    whole, parted = world.inverted()[0], world.inverted(positive=halves)[0]
    assert torch.allclose(whole["states"], parted["states"], atol=1e-5)


@pytest.mark.parametrize("part", ["area", "bounds of a mask"])
def test_a_code_for_an_area_of_the_picture(world, part):
    coded, _, _ = world.call("HSpaceLoadFaceDiffAE", variant="DiffAE (one code)")
    (code, given), *_ = world.call("HSpaceEncodeCode", model=coded, image=world.image)[0]
    facts, words = PARTS[part]
    asked: list[float] = []
    model = watched(coded, lambda sigma, out: (asked.append(sigma), out)[1])
    with pytest.raises(ValueError, match="'positive'") as caught:
        world.inverted(model, positive=[[code, {**given, **facts}]])
    assert words in str(caught.value) and asked == []


class _Foreign:
    """An embedder of another pack."""

    space, embed_image, embed_text, parameters, to = "other", min, min, min, min

    def __init__(self, missing: str):
        setattr(self, missing, None)


@pytest.mark.parametrize("missing", ["space", "embed_image", "embed_text", "parameters", "to"])
def test_an_embedder_that_lacks_something(world, missing):
    with pytest.raises(
        ValueError, match=f"^embedder must be an embedder, got .* without {missing}; connect Load Face Embedder"
    ):
        world.call(
            "HSpaceEditMetrics",
            source=world.image,
            edited=world.image,
            embedder=_Foreign(missing),
            target_prompt="a face",
        )


@pytest.mark.parametrize(
    ("cfg", "damping", "told"), [(3.0, 0.0, ""), (5.0, 0.0, "damping 0.3"), (5.0, 0.5, "damping 0.5")]
)
def test_strong_guidance_is_damped_unless_the_dial_says_how_much(world, cfg, damping, told):
    given = {"cfg": cfg, "negative": world.negative}
    trajectory = world.inverted(damping=damping, **given)[0]
    assert trajectory["method"] == f"fixed point 1 {told}".strip()
    if not damping and told:
        by_hand = world.inverted(damping=0.3, **given)[0]
        assert torch.equal(trajectory["states"], by_hand["states"])
