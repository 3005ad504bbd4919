"""Word Mask on what people have: a large photograph, a step cache on the MODEL, quantised weights, odd levels."""

import pytest
import torch
from torch.nn import functional as F

from devtools.transformers import Case, World

from .test_word_mask import WORDS, Words, parts, question


def photograph(executor, width=640, height=480):
    """A drawn face in the middle of a larger picture, and the mask of its hair there."""
    image, _, _, hair = executor.call("HSpaceDemoFace", source="random", seed=35, count=1)[:4]
    side = min(width, height)
    left = (width - side) // 2
    large = F.interpolate(image.movedim(-1, 1), (side, side), mode="bicubic").movedim(1, -1).clamp(0, 1)
    whole, mask = torch.full((1, height, width, 3), 0.5), torch.zeros(1, height, width)
    whole[:, :, left : left + side] = large
    mask[:, :, left : left + side] = F.interpolate(hair[None], (side, side))[0]
    return whole, mask


HAIR = "a person with red hair / a person with blond hair / a person with black hair"


def overlap(mask, other) -> float:
    both, either = (mask > 0.5) & (other > 0.5), (mask > 0.5) | (other > 0.5)
    return float(both.sum() / either.sum())


def test_a_photograph_is_looked_at_in_the_model_s_size_and_the_mask_has_its_own(executor):
    model, clip = executor.call("HSpaceLoadFaceTextModel")[:2]
    image, hair = photograph(executor)
    asked = {"model": model, "clip": clip, "image": image, "words": HAIR, "method": "contrast", "draws": 2}
    seen = []
    hook = model.model.diffusion_model.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape))
    try:
        mask, sheet = executor.call("HSpaceWordMask", **asked)
    finally:
        hook.remove()
    assert {tuple(shape[-2:]) for shape in seen} == {(64, 64)}
    assert mask.shape == image.shape[:3] and overlap(mask, hair) > 0.5
    assert not mask[:, :, :80].any() and not mask[:, :, -80:].any(), "what was not looked at is not marked"
    assert sheet.shape[1] < 300
    with pytest.raises(ValueError, match="'image' is 640x480"):
        executor.call("HSpaceWordMask", fit="refuse", **asked)


@pytest.mark.parametrize("kind", ["EasyCache", "LazyCache"])
@pytest.mark.parametrize("method", ["contrast", "attention"])
def test_caches_of_the_host_are_not_asked(executor, kind, method):
    """Every step would be skipped, and all prompts would get the answer of the first."""
    model, clip = executor.call("HSpaceLoadFaceTextModel")[:2]
    image = executor.call("HSpaceDemoFace", source="random", seed=35, count=1)[0]
    wide = {"reuse_threshold": 3.0, "start_percent": 0.0, "end_percent": 1.0, "verbose": False}
    (cached,) = executor.call(kind, model=model, **wide)
    asked = {"clip": clip, "image": image, "words": HAIR, "method": method, "draws": 2}
    plain, with_cache = (executor.call("HSpaceWordMask", model=one, **asked) for one in (model, cached))
    assert torch.equal(with_cache[0], plain[0]) and torch.equal(with_cache[1], plain[1])


def test_a_cache_that_nobody_knows_is_found_out(executor):
    model, clip = executor.call("HSpaceLoadFaceTextModel")[:2]
    image = executor.call("HSpaceDemoFace", source="random", seed=35, count=1)[0]
    cached, kept = model.clone(), []

    def same(run, x, *args, **kwargs):
        kept.append(kept[-1] if kept else run(x, *args, **kwargs) - x)
        return x + kept[-1]

    def opened(run, *args, **kwargs):
        kept.clear()
        return run(*args, **kwargs)

    cached.add_wrapper_with_key("outer_sample", "mystery", opened)
    cached.add_wrapper_with_key("predict_noise", "mystery", same)
    with pytest.raises(ValueError, match="step cache"):
        executor.call("HSpaceWordMask", model=cached, clip=clip, image=image, words=HAIR, method="contrast", draws=2)


@pytest.mark.parametrize("method", ["contrast", "attention"])
def test_quantised_weights_see_what_the_release_sees(executor, method):
    """The maps, not only a mask that any map would give."""
    (image,) = executor.call("HSpaceTestPicture", case="noise", width=64, height=64)
    sheets = []
    for weights in ("fp32", "scaled fp8"):
        model, positive = executor.call("HSpaceTestUNet", network="sd15", dtype=weights, seed=0)[:2]
        (vae,) = executor.call("HSpaceTestVAE", network="tiny")
        asked = {"model": model, "clip": Words(positive), "image": image, "words": WORDS, "method": method}
        sheets.append(executor.call("HSpaceWordMask", vae=vae, positive=positive, draws=2, fit="any size", **asked)[1])
    apart = float((sheets[0] - sheets[1]).abs().mean())
    assert 0 < apart < 0.05


def test_a_level_that_the_model_lacks_is_refused(executor):
    world = World(executor, Case("Flux.1"))
    _, maps, _ = parts(world)
    for method in (maps.contrast_maps, maps.attention_maps):
        with pytest.raises(ValueError, match="'sigma' is 5, and the noise levels of this model end at 1"):
            method(question(world, sigma=5.0), [["hair"], ["hat"]])


def several(executor, one, other):
    return executor.call("ConditioningCombine", conditioning_1=one, conditioning_2=other)[0]


def in_an_area(executor, one, _):
    where = {"width": 0.5, "height": 1.0, "x": 0.0, "y": 0.0}
    return executor.call("ConditioningSetAreaPercentage", conditioning=one, strength=1.0, **where)[0]


def in_a_mask(executor, one, _):
    (mask,) = executor.call("SolidMask", value=1.0, width=64, height=64)
    how = {"strength": 1.0, "set_cond_area": "default"}
    return executor.call("ConditioningSetMask", conditioning=one, mask=mask, **how)[0]


@pytest.mark.parametrize("change", [several, in_an_area, in_a_mask])
def test_attention_to_parts_of_a_picture_is_refused_before_the_network_is_asked(executor, change):
    """It would be read of the first prompt alone, and of the place of another picture."""
    model, clip = executor.call("HSpaceLoadFaceTextModel")[:2]
    image = executor.call("HSpaceDemoFace", source="random", seed=35, count=1)[0]
    one, other = (executor.call("CLIPTextEncode", clip=clip, text=text)[0] for text in ("a face", "red hair"))
    asked = {"model": model, "clip": clip, "image": image, "words": "hair", "draws": 1}
    seen = []
    hook = model.model.diffusion_model.register_forward_pre_hook(lambda *_: seen.append(1))
    try:
        with pytest.raises(ValueError, match=r"'positive' holds .* set method to contrast"):
            executor.call("HSpaceWordMask", method="attention", positive=change(executor, one, other), **asked)
        assert not seen
        mask, _ = executor.call("HSpaceWordMask", method="contrast", positive=change(executor, one, other), **asked)
    finally:
        hook.remove()
    assert seen and 0 < float(mask.mean()) < 1
