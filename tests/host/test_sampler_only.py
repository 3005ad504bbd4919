"""Edits that act in a sampler only are refused by name where a node walks the network by itself: nothing is left out in
silence."""

import pytest

from devtools.compatibility.measure import Bench
from devtools.compatibility.world import World
from devtools.executor import NodeFailed


@pytest.fixture(scope="module")
def bench(executor):
    """The counter of the table."""
    return Bench(executor)


def proximal(world: World):
    return world.g.out("HSpaceProximalCFG", model=world.plain, mode="hard", quantile=0.7)


def prompted(world: World):
    pair = world.g.add("HSpaceTestPair", network="sd15", targets=1)
    options = {"cross_end": 0.8, "self_end": 0.5, "reweights": "", "windows": "", "self_resolution": "all"}
    return world.g.out("HSpacePromptToPrompt", model=world.plain, tokens=[pair, 1], mode="replace", **options)


def render(world: World, model):
    path = [world.inverted(), 0]
    return world.g.out(
        "HSpaceRenderTrajectory",
        model=model,
        trajectory=path,
        asymmetric=False,
        protect=0.0,
        eta=0.0,
        seed=0,
        vae=world.vae,
    )


def morph(world: World, model):
    ends = {"first": [world.inverted(), 0], "second": [world.inverted(None, world.second), 0]}
    return world.g.out(
        "HSpaceMorphFrames", model=model, **ends, frames=2, alphas="", attention=0.6, adain=True, vae=world.vae
    )


def atlas(world: World, model):
    looked = {"trajectory": [world.inverted(), 0], "directions": [world.directions(), 0], "vae": world.vae}
    return world.g.out("HSpaceDirectionAtlas", model=model, **looked, count=1, columns=3, strength=5.0, title="")


def into_domain(world: World, model):
    inputs = {"image": world.picture, "positive": world.prompt(), "vae": world.vae}
    return world.g.out("HSpaceIntoDomain", model=model, **inputs, sigma=0.2, steps=2, repeats=1, seed=0)


@pytest.mark.sweep("")
@pytest.mark.parametrize(("edit", "name"), [(proximal, "Proximal CFG"), (prompted, "Prompt-to-Prompt")])
@pytest.mark.parametrize("walk", [render, morph, atlas, into_domain])
def test_a_walk_outside_of_a_sampler_refuses_it_by_name(executor, bench, walk, edit, name):
    world = World()
    plain = walk(world, world.plain)
    executor.run(world.g.prompt, plain[0])  # without the edit it runs
    before, refused = bench.calls, walk(world, edit(world))
    with pytest.raises(NodeFailed, match=f"carries {name}.*act in a sampler only"):
        executor.run(world.g.prompt, refused[0])
    assert bench.calls == before
