"""A node between ours and the sampler may not make another model of the MODEL unseen; one that adds a LoRA or changes
nothing may stand there."""

import pytest
import torch

from devtools.compatibility.measure import LORA, Bench
from devtools.compatibility.world import World
from devtools.executor import NodeFailed

from .graphs import base, node, sampler

V = {"sampling": "v_prediction", "zsnr": False}


@pytest.fixture(scope="module")
def bench(executor):
    """The files and the counter of the table."""
    return Bench(executor)


def steered(world: World):
    return world.steered(world.plain, 20.0)


def featured(world: World):
    path = [world.inverted(), 0]
    return world.g.out(
        "HSpaceInjectFeatures", model=world.plain, trajectory=path, preset="PnP", tau_f=0.8, tau_A=0.8, start=0.0
    )


def proximal(world: World):
    path = [world.inverted(), 0]
    return world.g.out("HSpaceProximalCFG", model=world.plain, mode="hard", quantile=0.7, trajectory=path)


def sampled(executor, world: World, model):
    """A stock run from the level of the inversion."""
    noisy = world.custom(world.guider(model, world.prompt(2)), world.euler(), world.sigmas, world.clean, noise=True)
    ((latent, *_),) = executor.run(world.g.prompt, noisy[0])
    return latent["samples"]


@pytest.mark.parametrize(
    ("edit", "name"), [(steered, "Steer"), (featured, "Inject Features"), (proximal, "Proximal CFG")]
)
def test_another_sampling_behind_ours_is_refused_by_name_before_the_network_is_called(executor, bench, edit, name):
    world = World()
    behind = world.g.out("ModelSamplingDiscrete", model=edit(world), **V)
    executor.run(world.g.prompt, behind[0])
    before = bench.calls
    with pytest.raises(NodeFailed, match=f"between {name} and the sampler.*differs in the prediction type"):
        sampled(executor, world, behind)
    # Proximal CFG looks once the first prediction is there.
    assert bench.calls - before <= (name == "Proximal CFG")


@pytest.mark.parametrize("edit", [steered, featured, proximal])
def test_a_sampling_that_changes_nothing_may_stand_there(executor, bench, edit):
    world = World()
    plain, model = sampled(executor, world, world.plain), edit(world)
    behind = world.g.out("ModelSamplingDiscrete", model=model, sampling="eps", zsnr=False)
    assert torch.equal(sampled(executor, world, model), sampled(executor, world, behind))
    assert not torch.allclose(sampled(executor, world, model), plain, rtol=1e-3)


def test_a_lora_behind_steer_acts_as_one_before_it(executor, bench):
    world = World()

    def with_lora(model):
        return world.g.out("LoraLoaderModelOnly", model=model, lora_name=LORA, strength_model=1.0)

    one, two = (
        sampled(executor, world, with_lora(steered(world))),
        sampled(executor, world, world.steered(with_lora(world.plain), 20.0)),
    )
    assert torch.allclose(one, two, atol=1e-5)
    assert not torch.allclose(one, sampled(executor, world, steered(world)), rtol=1e-3)


def test_another_sampling_behind_a_rectifier_is_refused(executor):
    prompt = base(steps=2, iterations=1) | {
        "rebuild": node("HSpaceLoadRectifier", file="hspace/reconstruction.safetensors"),
        "better": node(
            "HSpaceApplyRectifier", model=["model", 0], trajectory=["invert", 0], rectifier=["rebuild", 0], strength=1.0
        ),
        "behind": node("ModelSamplingDiscrete", model=["better", 0], **V),
        "run": sampler("behind", ["invert", 1], steps=2),
    }
    with pytest.raises(NodeFailed, match=r"between our edit and the sampler.*rectifier.*differs in the sigma table"):
        executor.run(prompt, "run")
