"""A picture's result does not depend on its company: row 2 of a batch of 3 is what that picture gives alone."""

import pytest
import torch

from .batch_cases import DRAWN, NOISE, OTHERS, Case
from .batch_graphs import PICTURES, ROW, world

NEAR = 2e-5
"""Largest difference, as a share of the largest value: the network's rows round differently in another batch."""


NO_NOISE = {
    "HSpaceBaselineDirections",
    "HSpaceDiscoverRegion",
    "HSpaceGlobalDirections",
    "HSpaceRegionBasis",
    "HSpaceTrackDirections",  # start of an iteration
    "HSpaceFitImageLora",
    "HSpaceFitLatentSVD",
    "HSpaceTrainAsyrp",
    "HSpaceTrainDeltaMapper",
    "HSpaceTrainDiffusionCLIP",
    "HSpaceTrainPada",
    "HSpaceTrainRectifier",
    "HSpaceTrainRectifierEdit",  # one network for all pictures
    "HSpaceWordMask",  # takes one picture
}
"""Nodes whose seed is not of the noise of pictures."""


def seeded(executor) -> set[str]:
    """All nodes of the pack with a seed."""
    ours = {
        name: kind
        for name, kind in executor.classes.items()
        if name.startswith("HSpace") and not name.startswith("HSpaceTest")
    }
    return {name for name, kind in ours.items() if any(i.id == "seed" for i in kind.GET_SCHEMA().inputs)}


def rows_of(executor, case: Case, alone: bool) -> torch.Tensor:
    prompt = world(alone) | case.nodes()
    if alone and "latent" in prompt:
        prompt["latent"]["inputs"] |= {"batch_index": ROW, "length": 1}
    ((*outputs,),) = executor.run(prompt, "run")
    return case.rows(outputs[case.output]).float()


def check(executor, case: Case) -> None:
    together, alone = rows_of(executor, case, False), rows_of(executor, case, True)
    assert len(together) == PICTURES * case.each and len(alone) == case.each
    rows = together[ROW * case.each :]
    assert float((rows - alone).abs().max()) <= NEAR * float(alone.abs().max()), float((rows - alone).abs().max())
    assert float((together[: case.each] - alone).abs().max()) > 0.01 * float(
        alone.abs().max()
    )  # another picture is another


def test_every_node_with_a_seed_is_looked_at(executor):
    assert seeded(executor) == NO_NOISE | set(DRAWN) | {
        case.kind for case in NOISE.values() if case.kind in seeded(executor)
    }


@pytest.mark.parametrize("name", NOISE)
def test_noise_of_a_picture_in_a_batch_is_its_own(executor, name):
    check(executor, NOISE[name])


@pytest.mark.sweep("")
@pytest.mark.parametrize("name", OTHERS)
def test_a_picture_in_a_batch_is_what_it_is_alone(executor, name):
    check(executor, OTHERS[name])


@pytest.mark.parametrize("kind", DRAWN)
def test_more_draws_leave_the_first_as_they_were(executor, kind):
    prompt, rows = DRAWN[kind]
    few, many = (rows(executor.run(prompt(count), "run")[0][0]) for count in (2, 11))
    assert (len(few), len(many)) == (2, 11)
    assert float((many[:2] - few).abs().max()) <= NEAR * float(few.abs().max()) and not torch.equal(few[0], few[1])


@pytest.mark.parametrize("kind", ["HSpaceRenderTrajectory", "HSpaceEditFriendlyInversion", "HSpaceIntoDomain"])
def test_tooltips_say_what_a_seed_does_to_a_batch(executor, kind):
    words = executor.module("nodes.seeds").EACH
    assert any(words in (i.tooltip or "") for i in executor.classes[kind].GET_SCHEMA().inputs if i.id == "seed")
