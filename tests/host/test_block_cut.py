"""Transformers of the host cut behind a block: exact, with right derivatives, and cut at the picture's own tokens."""

from importlib import import_module

import pytest
import torch

from devtools.transformers import CASES, NETWORKS, Case, World, derivative_figures, relative, split_figures

CURVED = ("HiDream", "Krea 2", "Ideogram 4")  # differences are off by their curvature, or by the choice of experts


@pytest.fixture(params=CASES)
def world(executor, request):
    return World(executor, CASES[request.param])


def test_the_table_holds_the_classes_that_are_tested(executor):
    blocks = executor.module("nodes.host.model.blocks")
    assert set(blocks.TABLE) == set(NETWORKS.values())
    for family, name in NETWORKS.items():
        assert type(World(executor, Case(family)).model.model.diffusion_model).__name__ == name


@pytest.mark.sweep("")
def test_the_halves_give_the_whole_and_the_picture_is_where_it_is_looked_for(world):
    """A wrong span of tokens splits exactly too, so every token is moved by itself: it must show at its own place."""
    found = split_figures(world)
    assert [figures.layer for figures in found] == ["block.0", "block.1", "block.2"]
    for figures in found:
        assert figures.split < 1e-5 and figures.rows < 1e-5 and figures.in_place == 1, figures
    assert "forward" not in vars(world.model.model.diffusion_model)
    assert not import_module("comfy.model_management").in_training


def test_derivatives_are_those_of_the_host_s_own_network(world):
    """Against central differences of decodes with the host's kernels; forward and reverse mode belong together."""
    family = type(world.model.model.diffusion_model).__name__
    # A step across the border between two experts would jump.
    adjoint, differences = derivative_figures(world, share=2e-4 if family == NETWORKS["HiDream"] else 3e-3)
    curved = family in [NETWORKS[name] for name in CURVED]
    assert adjoint < 1e-5 and differences < (1e-2 if curved else 2e-3), (adjoint, differences)


@pytest.mark.parametrize("family", ["Flux.1", "Qwen-Image", "Ernie"])
def test_guidance_moves_the_positive_prompt_alone(executor, family):
    """What moves h moves the guided picture cfg times as far as the positive prompt's own."""
    world = World(executor, Case(family))

    def work(denoiser):
        part = denoiser.split(world.x, world.sigma, "block.1")
        moved = part.h + 0.1 * torch.randn(part.h.shape, generator=torch.Generator().manual_seed(4))
        whole = denoiser(world.x, world.sigma)
        assert relative(part.decode(part.h), whole) < 1e-5
        return part.decode(moved) - part.decode(part.h)

    alone, guided = world.inside(work), world.inside(work, cfg=3.0)
    assert relative(guided, 3 * alone) < 1e-4


def test_the_state_itself_is_a_layer(executor):
    world = World(executor, Case("Qwen-Image"))

    def work(denoiser):
        whole = denoiser(world.x, world.sigma)
        part = denoiser.split(world.x, world.sigma, "x")
        assert part.h.shape == world.x.shape
        return relative(part.decode(part.h), whole)

    assert world.inside(work, cfg=2.0) < 1e-5


def test_h_is_a_function_of_the_state(executor):
    """Pullback differentiates the half above the cut."""
    world = World(executor, Case("Flux.1"))

    def work(denoiser):
        def h(x):
            return denoiser.split(x, world.sigma, "block.1", smooth=True).h

        v = torch.randn(world.x.shape, generator=torch.Generator().manual_seed(6))
        push = torch.func.jvp(h, (world.x,), (v,))[1]
        differences = (h(world.x + 1e-2 * v) - h(world.x - 1e-2 * v)) / 2e-2
        return float((push - differences).norm() / differences.norm())

    assert world.inside(work) < 2e-3


def test_what_cannot_be_cut_is_refused_by_name(executor):
    world = World(executor, Case("Flux.1"))

    class Other(type(world.model.model.diffusion_model)):
        pass

    world.model.model.diffusion_model.__class__ = Other
    with pytest.raises(ValueError, match=r"blocks of a transformer, but the MODEL connected is a Other"):
        world.inside(lambda denoiser: denoiser)
    case = Case("HiDream", ((12, 8),), key="unused")
    beside = World(executor, case)
    beside.positive[0][1]["concat_latent_image"] = beside.positive[0][1].pop("unused")[0]
    with pytest.raises(ValueError, match="HiDreamImageTransformer2DModel carries 'image_cond'"):
        beside.inside(lambda denoiser: denoiser.split(beside.x, beside.sigma, "block.1"))


def test_a_block_that_does_not_run_is_named(executor):
    world = World(executor, Case("Flux.1"))

    def other_block(args, extra):
        return {"img": args["img"], "txt": args["txt"]}

    world.model = world.model.clone()
    world.model.set_model_patch_replace(other_block, "dit", "double_block", 1)
    with pytest.raises(RuntimeError, match=r"block\.1 of the Flux did not run"):
        world.inside(lambda denoiser: denoiser.split(world.x, world.sigma, "block.1"))
