"""Steer on transformers: in stock samplers, on the positive rows alone, beside what else is on a MODEL."""

import pytest
import torch

from devtools.transformers import BESIDE, NETWORKS, Case, World, relative

STEPS = 3


@pytest.fixture(params=NETWORKS)
def world(executor, request):
    return World(executor, Case(request.param))


def directions(world, layer="block.1", seed=7) -> dict:
    """One random direction at a layer, as a socket carries it."""
    core, payload = world.executor.module("core.directions"), world.executor.module("core.payload")
    shape = world.inside(lambda denoiser: denoiser.split(world.x, world.sigma, layer).h.shape[1:], gradients=False)
    vector = torch.randn(1, 1, *shape, generator=torch.Generator().manual_seed(seed))
    fingerprint = world.executor.module("nodes.host.model.fingerprint").model_fingerprint(world.model)
    found = core.Directions(
        vectors=vector / vector.norm(),
        sigmas=torch.tensor([0.6], dtype=torch.float64),
        gain=torch.zeros(1, 1),
        leak=torch.zeros(1, 1),
        layer=layer,
        fingerprint=fingerprint,
    )
    return payload.directions_to_payload(found)


def steer(world, strength, model=None, sigma_start=1000.0, sigma_end=0.0, **where):
    return world.executor.call(
        "HSpaceSteer",
        model=model or world.model,
        directions=directions(world, **where),
        strength=strength,
        direction=1,
        sigma_start=sigma_start,
        sigma_end=sigma_end,
    )[0]


def sampled(world, model, rows=1, cfg=4.0, steps=STEPS):
    """Latents of the stock sampler."""
    frames = (1,) if world.framed else ()
    empty = torch.zeros(rows, world.channels, *frames, *world.x.shape[-2:])
    return world.executor.call(
        "KSampler",
        model=model,
        seed=5,
        steps=steps,
        cfg=cfg,
        sampler_name="euler",
        scheduler="simple",
        positive=world.positive,
        negative=world.negative,
        latent_image={"samples": empty},
        denoise=1.0,
    )[0]["samples"]


class Seen:
    """What the first call of the network was, and what came out, row by row."""

    def __init__(self, model):
        self.model, self.kinds, self.x, self.out, self.sigma = model.clone(), None, None, None, None
        self.model.add_wrapper_with_key("apply_model", "tests", self.look)

    def look(self, executor, x, t, *args, **kwargs):
        out = executor(x, t, *args, **kwargs)
        if self.out is None:
            options = args[3]
            self.kinds = torch.tensor(options["cond_or_uncond"]).repeat_interleave(
                len(x) // len(options["cond_or_uncond"])
            )
            self.x, self.out, self.sigma = x.clone(), out.clone(), t[:1].clone()
        return out


def first_call(world, model, **options):
    seen = Seen(model)
    sampled(world, seen.model, steps=1, **options)
    return seen


@pytest.mark.sweep("")
def test_strength_0_changes_no_bit(world):
    plain = sampled(world, world.model)
    assert torch.equal(sampled(world, steer(world, 0.0)), plain)
    assert not torch.equal(sampled(world, steer(world, 20.0)), plain)
    assert torch.equal(sampled(world, world.model), plain)


@pytest.mark.sweep("")
def test_positive_rows_move_as_the_cut_says_and_negative_rows_stay(world):
    plain, moved = first_call(world, world.model), first_call(world, steer(world, 5.0))
    assert sorted(plain.kinds.tolist()) == [0, 1]
    positive, negative = moved.kinds == 0, moved.kinds == 1
    assert relative(moved.out[negative], plain.out[negative]) < 1e-6  # rounding of a batch, where experts share it
    change = relative(moved.out[positive], plain.out[positive])
    assert change > 1e-4
    vector = torch.as_tensor(directions(world)["vectors"])[0]
    x = moved.x[positive].squeeze(2) if world.framed else moved.x[positive]

    def expected(denoiser):
        part = denoiser.split(x, moved.sigma, "block.1")
        return part.decode(part.h + 5.0 * vector)

    out = moved.out[positive].squeeze(2) if world.framed else moved.out[positive]
    assert relative(out, world.inside(expected, gradients=False)) < 1e-5


@pytest.mark.parametrize("name", BESIDE)
def test_tokens_beside_the_picture_stay(executor, name):
    """With references, padding and odd sizes the sampler does what the cut says."""
    world = World(executor, BESIDE[name])
    moved = first_call(world, steer(world, 5.0), cfg=1.0)
    vector = torch.as_tensor(directions(world)["vectors"])[0]
    x, out = (t.squeeze(2) if world.framed else t for t in (moved.x, moved.out))

    def expected(denoiser):
        part = denoiser.split(x, moved.sigma, "block.1")
        return part.decode(part.h + 5.0 * vector)

    assert relative(out, world.inside(expected, gradients=False)) < 1e-5


@pytest.mark.parametrize("family", ["Flux.1", "Z-Image", "Qwen-Image", "Anima"])
def test_a_batch_is_its_rows(executor, family):
    world = World(executor, Case(family))
    seen = first_call(world, steer(world, 5.0), rows=3)
    vector = torch.as_tensor(directions(world)["vectors"])[0]
    positive = seen.kinds == 0
    states, answers = (t[positive].squeeze(2) if world.framed else t[positive] for t in (seen.x, seen.out))

    def expected(denoiser):
        parts = [denoiser.split(x, seen.sigma, "block.1") for x in states.split(1)]
        return torch.cat([part.decode(part.h + 5.0 * vector) for part in parts])

    assert relative(answers, world.inside(expected, gradients=False)) < 1e-5


@pytest.mark.parametrize("family", ["Flux.2", "SD 3", "Krea 2"])
def test_several_steer_nodes(executor, family):
    """On one block they add up; on two blocks both act."""
    world = World(executor, Case(family))
    both = first_call(world, steer(world, 3.0, model=steer(world, 2.0))).out
    once = first_call(world, steer(world, 5.0)).out
    assert relative(both, once) < 1e-5
    early, late = (first_call(world, steer(world, 5.0, layer=layer)).out for layer in ("block.0", "block.2"))
    two = first_call(world, steer(world, 5.0, model=steer(world, 5.0, layer="block.0"), layer="block.2")).out
    assert min(relative(two, early), relative(two, late)) > 1e-4
    off = first_call(world, steer(world, 0.0, model=steer(world, 5.0, layer="block.0"), layer="block.2")).out
    assert torch.equal(off, early)


def test_a_window_is_of_noise_levels(executor):
    world, levels = World(executor, Case("Qwen-Image")), []

    def look(executor_, x, t, *args, **kwargs):
        levels.append(float(t[0]))
        return executor_(x, t, *args, **kwargs)

    model = world.model.clone()
    model.add_wrapper_with_key("apply_model", "tests", look)
    sampled(world, model)
    below = (levels[0] + levels[1]) / 2
    late, plain = Seen(steer(world, 20.0, sigma_start=below)), Seen(world.model)
    for seen in (late, plain):
        sampled(world, seen.model)
    assert torch.equal(late.out, plain.out)  # the first step lies above the window
    assert not torch.equal(sampled(world, steer(world, 20.0, sigma_start=below)), sampled(world, world.model))


def test_another_pack_s_patch_of_the_same_block_is_still_called(executor):
    world, calls = World(executor, Case("Flux.1")), []

    def other(args, extra):
        calls.append(1)
        out = extra["original_block"](args)
        return {**out, "img": out["img"] * 1.5}

    model = world.model.clone()
    model.set_model_patch_replace(other, "dit", "double_block", 1)
    plain, moved = first_call(world, model), first_call(world, steer(world, 5.0, model=model))
    assert len(calls) == 2 and relative(moved.out, plain.out) > 1e-4
    off = first_call(world, steer(world, 0.0, model=model))
    assert torch.equal(off.out, plain.out)


def test_a_lora_before_or_behind_makes_no_difference(executor):
    world = World(executor, Case("Qwen-Image"))
    key = next(k for k in world.model.model_state_dict() if k.endswith("transformer_blocks.2.attn.to_q.weight"))
    weight = world.model.model_state_dict()[key]
    change = {key: ("diff", (0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)),))}

    def with_lora(model):
        clone = model.clone()
        assert clone.add_patches(change, 1.0)
        return clone

    before, behind = steer(world, 5.0, model=with_lora(world.model)), with_lora(steer(world, 5.0))
    first = first_call(world, before).out
    assert torch.equal(first, first_call(world, behind).out)
    assert relative(first, first_call(world, steer(world, 5.0)).out) > 1e-4


def test_a_guider_of_three_prompts_moves_its_positive_one(executor):
    """Its number is 2 there: the negative prompt comes first."""
    world = World(executor, Case("Flux.1"))

    def seen_by_it(model):
        seen = Seen(model)
        prompts = {"cond1": world.positive, "cond2": world.negative, "negative": world.negative}
        scales = {"cfg_conds": 3.0, "cfg_cond2_negative": 2.0, "style": "regular"}
        (guider,) = executor.call("DualCFGGuider", model=seen.model, **prompts, **scales)
        empty = torch.zeros(1, world.channels, *world.x.shape[-2:])
        executor.call(
            "SamplerCustomAdvanced",
            noise=executor.call("RandomNoise", noise_seed=5)[0],
            guider=guider,
            sampler=executor.call("KSamplerSelect", sampler_name="euler")[0],
            sigmas=torch.tensor([1.0, 0.0]),
            latent_image={"samples": empty},
        )
        return seen

    plain, moved = seen_by_it(world.model), seen_by_it(steer(world, 5.0))
    assert sorted(plain.kinds.tolist()) == [0, 1, 2]
    assert torch.equal(moved.out[moved.kinds != 2], plain.out[plain.kinds != 2])
    assert relative(moved.out[moved.kinds == 2], plain.out[plain.kinds == 2]) > 1e-4


def test_tokens_of_another_size_are_refused(executor):
    world = World(executor, Case("Flux.1"))
    model = steer(world, 5.0)
    world.x = torch.zeros(1, world.channels, 16, 16)
    with pytest.raises(ValueError, match=r"these directions are .* at layer 'block.1', the model has"):
        sampled(world, model)
