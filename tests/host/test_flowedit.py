"""FlowEdit in a real ComfyUI: each side under its own prompt and guidance, exact at strength 0, rows that do not know of
each other, and what it refuses."""

import pytest
import torch

from devtools.executor import NodeFailed

from .graphs import custom_sampler, face, node
from .pair_graphs import SOURCE, TARGET
from .text_graphs import text_model

SOURCE_DEFAULT, TARGET_DEFAULT = "a smiling person with red hair", "a smiling person with blond hair"
DIALS = {"strength": 1.0, "sigma_start": 0.0, "source_cfg": 1.0}
OTHER = "a smiling person with black hair"


def world(targets: str = TARGET, batch: int = 1, cfg: float = 3.0, steps: int = 6, **dials) -> dict:
    """A drawn face on the text model, edited by FlowEdit."""
    faces = face(35, smile=1.0)
    faces["inputs"]["count"] = batch
    rows = 1 + len(targets.splitlines())
    return text_model() | {
        "face": faces,
        "latent": node("VAEEncode", pixels=["face", 0], vae=["model", 2]),
        "pair": node("HSpacePairConditioning", clip=["model", 1], source=SOURCE, targets=targets),
        "rows": node("HSpacePairLatent", latent=["latent", 0], rows=rows),
        "grid": node("BasicScheduler", model=["model", 0], scheduler="karras", steps=steps, denoise=1.0),
        "flow": node("HSpaceFlowEdit", sigmas=["grid", 0], **{**DIALS, **dials}),
        "noise": node("RandomNoise", noise_seed=7),
        "guider": node("CFGGuider", model=["model", 0], positive=["pair", 0], negative=["negative", 0], cfg=cfg),
        "run": custom_sampler("noise", "guider", "flow", "flow", "rows"),
    }


def result(executor, prompt: dict) -> torch.Tensor:
    return executor.run(prompt, "run")[0][0]["samples"]


def edited(executor, **settings) -> torch.Tensor:
    return result(executor, _with_own_sigmas(world(**settings)))


def _with_own_sigmas(prompt: dict) -> dict:
    prompt["run"]["inputs"]["sigmas"] = ["flow", 1]
    return prompt


def source_of(executor, batch: int = 1) -> torch.Tensor:
    return executor.run(world(batch=batch), "latent")[0][0]["samples"]


def asking(executor, model, positive, cfg, negative=None):
    """A model that knows one prompt alone."""
    run, prompts = executor.module("nodes.host.model.run"), executor.module("nodes.host.model.prompts")
    told = prompts.Prompts.given(model, positive, negative if cfg != 1 else None, cfg)
    return lambda z, sigma: run.with_denoiser(
        model, z.shape, told, lambda denoiser: denoiser(z, z.new_full((len(z),), sigma))
    )


def by_hand(executor, asked, x, sigmas, noising, **options):
    """The maths alone."""
    part = executor.module("core.edit.noise.flowedit")
    both = part.Prompted(*asked, part.noised_as(noising))
    with torch.inference_mode():
        return part.edit_by_difference(both, x, sigmas, part.FlowEditOptions(**options, seed=7))


def test_strength_0_and_the_source_row_are_the_picture_bit_for_bit(executor):
    source = source_of(executor)
    still, moved = edited(executor, strength=0.0), edited(executor)
    assert torch.equal(still, source.expand_as(still))
    assert torch.equal(moved[:1], source)
    assert float((moved[1:] - source).abs().mean()) > 0.02


def test_the_dial_goes_from_the_source_to_plain_flowedit(executor):
    source = source_of(executor)
    found = {s: edited(executor, strength=s)[1:] for s in (0.25, 0.5, 1.0)}
    apart = [float((one - source).norm()) for one in found.values()]
    assert apart == sorted(apart) and apart[0] > 0
    near = edited(executor, strength=1.0001)[1:]
    assert float((near - found[1.0]).abs().max()) < 1e-2


@pytest.mark.sweep("")
@pytest.mark.parametrize("strength", [1.0, 0.5])
@pytest.mark.parametrize("source_cfg", [1.0, 2.0, 0.0])
def test_each_side_has_its_own_prompt_and_guidance(executor, strength, source_cfg):
    """Against the maths, with two models that know one prompt each."""
    prompt = world(strength=strength, source_cfg=source_cfg, refine=2, average=2)
    for name, text in (("a", SOURCE), ("b", TARGET)):
        prompt[name] = node("CLIPTextEncode", clip=["model", 1], text=text)
    (model, *_), (latent,), (_, grid), (a,), (b,), (empty,) = executor.run(
        prompt, "model", "latent", "flow", "a", "b", "negative"
    )
    asked = [
        asking(executor, model, a, source_cfg or 3.0, empty),
        asking(executor, model, b, 3.0, empty),
    ]
    expected = by_hand(executor, asked, latent["samples"], grid, "sigma", strength=strength, refine=2, average=2)
    found = result(executor, _with_own_sigmas(prompt))[1:]
    assert float((found - expected).abs().max()) < 1e-4 * float(expected.abs().max())


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_a_source_prompt_of_its_own_is_the_pair_without_its_rows(executor, strength):
    prompt = _with_own_sigmas(world(batch=2, strength=strength, source_cfg=2.0))
    prompt |= {
        "a": node("CLIPTextEncode", clip=["model", 1], text=SOURCE),
        "b": node("CLIPTextEncode", clip=["model", 1], text=TARGET),
    }
    pairs = result(executor, prompt)
    prompt["flow"]["inputs"]["source"] = ["a", 0]
    prompt["guider"]["inputs"]["positive"] = ["b", 0]
    prompt["run"]["inputs"]["latent_image"] = ["latent", 0]
    alone = result(executor, prompt)
    assert len(alone) == 2 and float((alone - pairs[1::2]).abs().max()) < 1e-4
    prompt["guider"]["inputs"]["positive"] = ["pair", 0]
    with pytest.raises(NodeFailed, match="'source' of FlowEdit is connected, but the guider's positive is a pair"):
        executor.run(prompt, "run")


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_prompts_of_different_length_on_a_flow_model(executor, strength):
    """As the text encoders of Z-Image and Qwen-Image give them."""
    call, g = executor.call, torch.Generator().manual_seed(3)
    (model, _) = call("HSpaceTestDiT")
    sides = [
        [[torch.randn(1, n, 48, generator=g), {"pooled_output": torch.randn(1, 32, generator=g)}]] for n in (7, 11)
    ]
    latent = {"samples": torch.randn(2, 16, 8, 12, generator=g)}
    (grid,) = call("BasicScheduler", model=model, scheduler="simple", steps=6, denoise=1.0)
    sampler, cut = call("HSpaceFlowEdit", sigmas=grid, **{**DIALS, "strength": strength}, source=sides[0])
    links = {
        "noise": call("RandomNoise", noise_seed=7)[0],
        "guider": call("BasicGuider", model=model, conditioning=sides[1])[0],
    }
    found = call("SamplerCustomAdvanced", **links, sampler=sampler, sigmas=cut, latent_image=latent)[0]["samples"]
    latents = executor.module("nodes.host.model.latents")
    asked = [asking(executor, model, side, 1.0) for side in sides]
    x = latents.latents_in(model, latent["samples"])
    expected = latents.latents_out(model, by_hand(executor, asked, x, cut, "flow", strength=strength))
    assert float((expected - latent["samples"]).abs().mean()) > 0.02
    assert float((found - expected).abs().max()) < 1e-4 * float(expected.abs().max())


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_pictures_and_targets_do_not_know_of_each_other(executor, strength):
    many = edited(executor, batch=2, targets=f"{OTHER}\n{TARGET}", strength=strength, refine=1)
    one = edited(executor, strength=strength, refine=1)
    assert len(many) == 6
    assert float((many[2] - one[1]).abs().max()) < 1e-4
    assert float((many[1] - many[2]).abs().max()) > 0.05 and float((many[2] - many[5]).abs().max()) > 0.05


def test_a_noise_mask_is_the_region_that_may_change(executor):
    prompt = _with_own_sigmas(world())
    prompt |= {
        "white": node("SolidMask", value=1.0, width=64, height=20),
        "black": node("SolidMask", value=0.0, width=64, height=64),
        "mask": node("MaskComposite", destination=["black", 0], source=["white", 0], x=0, y=0, operation="add"),
        "masked": node("SetLatentNoiseMask", samples=["rows", 0], mask=["mask", 0]),
    }
    prompt["run"]["inputs"]["latent_image"] = ["masked", 0]
    source, found = source_of(executor), result(executor, prompt)
    assert torch.equal(found[..., 20:, :], source.expand_as(found)[..., 20:, :])
    assert float((found[1:] - source)[..., :20, :].abs().mean()) > 0.02


def test_seeds_of_the_noise_and_steps(executor):
    first = edited(executor)
    again = _with_own_sigmas(world())
    again["noise"]["inputs"]["noise_seed"] = 8
    assert float((result(executor, again) - first).abs().max()) > 0.01
    (sampler, cut), (grid,) = executor.run(world(steps=28), "flow", "grid")
    assert sampler.hspace_whole and torch.equal(cut, grid[4:])
    assert ("flow", "24 of 28 steps, from sigma") == next(
        (node_id, text[:26]) for kind, (node_id, text) in _texts(executor) if node_id == "flow"
    )


def _texts(executor):
    return [(kind, data) for kind, data in executor.server.events if kind == "text"]


@pytest.mark.parametrize("guidance", [None, (1.5, 5.5)])
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_a_flow_model_with_embedded_guidance(executor, strength, guidance):
    """Each prompt brings its own from FluxGuidance."""
    call = executor.call
    (model, _), g = call("HSpaceTestDiT", guided=guidance is not None), torch.Generator().manual_seed(3)
    sides = [[[torch.randn(1, 7, 48, generator=g), {"pooled_output": torch.randn(1, 32, generator=g)}]] for _ in "ab"]
    if guidance:
        sides = [call("FluxGuidance", conditioning=c, guidance=v)[0] for c, v in zip(sides, guidance, strict=True)]
    latent = {"samples": torch.randn(1, 16, 8, 12, generator=g)}
    texts = {"source": SOURCE_DEFAULT, "targets": TARGET_DEFAULT}
    (pair, *_) = call("HSpacePairConditioning", **texts, source_encoded=sides[0], targets_encoded=sides[1])
    (rows,) = call("HSpacePairLatent", latent=latent, rows=2)
    (grid,) = call("BasicScheduler", model=model, scheduler="simple", steps=6, denoise=1.0)
    sampler, cut = call("HSpaceFlowEdit", sigmas=grid, strength=strength)
    links = {
        "noise": call("RandomNoise", noise_seed=7)[0],
        "guider": call("BasicGuider", model=model, conditioning=pair)[0],
    }
    found = call("SamplerCustomAdvanced", **links, sampler=sampler, sigmas=cut, latent_image=rows)[0]["samples"]
    latents = executor.module("nodes.host.model.latents")
    x = latents.latents_in(model, latent["samples"])
    asked = [asking(executor, model, side, 1.0) for side in sides]
    expected = latents.latents_out(model, by_hand(executor, asked, x, cut, "flow", strength=strength))
    assert torch.allclose(found[:1], latent["samples"], atol=1e-6)
    assert float((expected - latent["samples"]).abs().mean()) > 0.02
    assert float((found[1:] - expected).abs().max()) < 1e-4 * float(expected.abs().max())


def _without_pair(prompt):
    prompt["guider"]["inputs"]["positive"] = ["positive", 0]


def _without_rows(prompt):
    prompt["run"]["inputs"]["latent_image"] = ["latent", 0]


def _unlike(prompt):
    prompt["face"]["inputs"]["count"] = 2
    _without_rows(prompt)


def _basic(prompt):
    prompt["guider"] = node("BasicGuider", model=["model", 0], conditioning=["pair", 0])
    prompt["flow"]["inputs"]["source_cfg"] = 2.0


def _turned(prompt):
    prompt["turned"] = node("FlipSigmas", sigmas=["flow", 1])
    prompt["run"]["inputs"]["sigmas"] = ["turned", 0]


def _cut(prompt):
    prompt["cut"] = node("SplitSigmas", sigmas=["flow", 1], step=2)
    prompt["run"]["inputs"]["sigmas"] = ["cut", 0]


def _attention(prompt):
    prompt["edit"] = node("HSpaceProximalCFG", model=["model", 0], mode="hard", quantile=0.7)
    prompt["guider"]["inputs"]["model"] = ["edit", 0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_without_pair, "'positive' of Pair Conditioning"),
        (_without_rows, "put Pair Latent with rows 2"),
        (_unlike, "not the same picture 2 times"),
        (_basic, "source_cfg is 2, but the guider has no negative"),
        (_turned, "walks down to a clean picture"),
        (_cut, "walks down to a clean picture"),
        (_attention, "carries Proximal CFG"),
    ],
)
def test_what_cannot_act_is_refused_by_name(executor, change, says):
    prompt = _with_own_sigmas(world())
    change(prompt)
    with pytest.raises(NodeFailed, match=says):
        executor.run(prompt, "run")


def test_repeats_that_would_change_nothing_are_refused(executor):
    prompt = world() | {"again": node("HSpaceSDEditRepeat", sampler=["flow", 0], repeats=2, noise="new")}
    with pytest.raises(NodeFailed, match="FlowEdit edits the latent that it was given"):
        executor.run(prompt, "again")


@pytest.mark.parametrize(
    ("dials", "says"),
    [
        ({"refine": 6}, "refine is 6, but only 5 steps"),
        ({"sigma_start": 0.001}, "sigma_start is"),
        ({"refine": 5, "average": 2}, "'average' is 2"),
    ],
)
def test_dials_that_leave_nothing_to_do(executor, dials, says):
    with pytest.raises(NodeFailed, match=says):
        executor.run(world(**dials), "flow")


@pytest.mark.parametrize("dtype", ["int8", "gguf Q8_0", "opaque"])
def test_quantised_weights_are_taken_as_they_are(executor, dtype):
    """FlowEdit and the Edit Dial need predictions alone."""
    call = executor.call
    model, one, other = call("HSpaceTestUNet", network="sd15", dtype=dtype, seed=0)
    latent = {"samples": torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))}
    (model,) = call("HSpaceEditDial", model=model, source=latent, strength=0.9, keep=0.0)
    (grid,) = call("BasicScheduler", model=model, scheduler="karras", steps=3, denoise=1.0)
    noise, (euler,) = call("RandomNoise", noise_seed=7)[0], call("KSamplerSelect", sampler_name="euler")
    plain = {"guider": call("BasicGuider", model=model, conditioning=other)[0], "latent_image": latent}
    dialled = call("SamplerCustomAdvanced", noise=noise, sampler=euler, sigmas=grid, **plain)[0]["samples"]
    assert 0 < float((dialled - latent["samples"]).abs().mean()) < float("inf")
    (model, *_) = call("HSpaceTestUNet", network="sd15", dtype=dtype, seed=0)
    sampler, cut = call("HSpaceFlowEdit", sigmas=grid, **DIALS, source=one)
    plain["guider"] = call("BasicGuider", model=model, conditioning=other)[0]
    found = call("SamplerCustomAdvanced", noise=noise, sampler=sampler, sigmas=cut, **plain)[0]["samples"]
    assert 0 < float((found - latent["samples"]).abs().mean()) < float("inf")
