"""Semantic codes of the embedded autoencoders in stock samplers: what must not change does not, what should does, what
is refused."""

import numpy as np
import pytest

from devtools.console import ROOT

from .code_graphs import sampled
from .graphs import FACE, base, face, invert, node, pictures, refused, save

DIFFAE, HDAE = "DiffAE (one code)", "HDAE (a code a level)"
STEPS = 20


def coded(
    variant: str = DIFFAE, seed: int = 35, count: int = 1, image: list | None = None, steps: int = STEPS
) -> dict[str, dict]:
    """Model, a face, its code and its noise."""
    prompt = {
        "model": node("HSpaceLoadFaceDiffAE", variant=variant),
        FACE: face(seed),
        "steps": node("HSpaceDiffAESteps", model=["model", 0], steps=steps),
        "code": node("HSpaceEncodeCode", model=["model", 0], image=image or [FACE, 0]),
        "invert": invert(image or [FACE, 0], "steps", "fixed point", iterations=6, positive=["code", 0]),
        "euler": node("KSamplerSelect", sampler_name="euler"),
        "keep source": save([FACE, 0]),
    }
    prompt[FACE]["inputs"]["count"] = count
    return prompt


def drawn(name: str, code: list, latent: list | None = None, noise_seed: int | None = None) -> dict:
    """A stock sampler on a code, from the face's own noise or fresh noise."""
    return {
        f"s {name}": sampled(code, latent or ["invert", 1], noise_seed, "steps"),
        f"d {name}": node("VAEDecode", samples=[f"s {name}", 0], vae=["model", 1]),
        f"keep {name}": save([f"d {name}", 0]),
    }


def grey() -> dict:
    return {
        "grey": node("EmptyImage", width=64, height=64, batch_size=1, color=0x808080),
        "empty": node("VAEEncode", pixels=["grey", 0], vae=["model", 1]),
    }


def manipulate(attribute: str, strength: float, code: str = "code", **options) -> dict:
    inputs = {"top_k": 100.0, "orthogonal_to": "", "levels": "", "per_level": False, "limit": 6.0, **options}
    return node(
        "HSpaceManipulateCode",
        code=[code, 0],
        attributes=["model", 2],
        attribute=attribute,
        strength=strength,
        **inputs,
    )


def shown(server, result, *names: str) -> list[np.ndarray]:
    return [np.stack(pictures(server, result, f"keep {name}")).astype(int) for name in names]


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * np.log10(255**2 / max(((a - b) ** 2).mean(), 1e-9))


@pytest.mark.parametrize("variant", [DIFFAE, HDAE])
def test_a_picture_is_its_code_and_its_noise(server, variant):
    prompt = {**coded(variant, count=2), **grey(), "two": node("RepeatLatentBatch", samples=["empty", 0], amount=2)}
    prompt |= {"other face": face(80), "other": node("HSpaceEncodeCode", model=["model", 0], image=["other face", 0])}
    prompt |= drawn("own", ["code", 0]) | drawn("fresh", ["code", 0], ["two", 0], 5) | drawn("wrong", ["other", 0])
    prompt |= {"psnr": node("PreviewAny", source=["invert", 3])}
    result = server.queue(prompt, timeout=300)
    source, rebuilt, fresh, wrong = shown(server, result, "source", "own", "fresh", "wrong")
    assert len(rebuilt) == 2 and np.array_equal(rebuilt.shape, source.shape)
    assert psnr(rebuilt, source) > 35 and float(result.outputs["psnr"]["text"][0]) > 35
    # The code alone draws the same face, not any face.
    assert psnr(fresh, source) > psnr(fresh, source[::-1]) + 3
    assert psnr(wrong, source) < psnr(rebuilt, source) - 5
    assert "2 codes" in result.outputs["code"]["text"][0] and "Warning" not in result.outputs["code"]["text"][0]


def test_an_attribute_is_moved_and_nothing_at_strength_0(server):
    prompt = coded(seed=35)
    for name, attribute, strength, options in (
        ("off", "glasses", 0.0, {}),
        ("glasses", "glasses", 0.6, {}),
        ("red", "Red_Hair", 0.6, {"orthogonal_to": "glasses, smile"}),
        ("few", "red hair", 0.6, {"top_k": 10.0}),
    ):
        prompt |= {name: manipulate(attribute, strength, **options), **drawn(name, [name, 0])}
    prompt |= drawn("plain", ["code", 0])
    result = server.queue(prompt, timeout=300)
    source, plain, off, glasses, red, few = shown(server, result, "source", "plain", "off", "glasses", "red", "few")
    assert np.array_equal(off, plain)
    assert psnr(glasses, source) < 30 and np.abs(glasses - plain).mean() > 1
    redder = (red - plain)[..., 0].astype(float) - (red - plain)[..., 1:].mean(-1)
    assert redder[redder > np.quantile(redder, 0.9)].mean() > 20
    assert np.abs(few - red).mean() > 0.3
    before, after = result.outputs["glasses"]["text"][0].removeprefix("glasses: ").split(" > ")
    assert float(before) < 0 < float(after)


def test_codes_and_noises_are_interpolated(server):
    prompt = coded(seed=35)
    prompt |= {
        k.replace("code", "code two").replace("invert", "invert two"): v
        for k, v in coded(seed=52).items()
        if k in ("code", "invert")
    }
    prompt["face two"] = face(52)
    for name in ("code two", "invert two"):
        prompt[name]["inputs"]["image"] = ["face two", 0]
    prompt["invert two"]["inputs"]["positive"] = ["code two", 0]
    links = {
        "first": ["code", 0],
        "second": ["code two", 0],
        "first_noise": ["invert", 1],
        "second_noise": ["invert two", 1],
    }
    prompt |= {
        "frames": node("HSpaceInterpolateCodes", **links, frames=5, levels="", alphas=""),
        **drawn("frames", ["frames", 0], ["frames", 1]),
    }
    prompt |= {**drawn("one", ["code", 0]), **drawn("two", ["code two", 0], ["invert two", 1])}
    result = server.queue(prompt, timeout=300)
    frames, one, two = shown(server, result, "frames", "one", "two")
    assert len(frames) == 5 and np.abs(frames[0] - one[0]).max() <= 1 and np.abs(frames[-1] - two[0]).max() <= 1
    away = [((f - frames[0]) ** 2).mean() for f in frames]
    assert away == sorted(away) and away[2] > 50
    # A face on the way, not a fade: it has sharper edges than the mean of both ends.
    fade = (frames[0] + frames[-1]) / 2
    assert np.abs(frames[2] - fade).mean() > 3


def test_levels_are_mixed(server):
    prompt = coded(HDAE)
    prompt |= {"style face": face(52), "style": node("HSpaceEncodeCode", model=["model", 0], image=["style face", 0])}
    for name, levels in (("none", ""), ("fine", "0"), ("coarse", "2"), ("all", "0, 1, 2")):
        prompt |= {
            name: node("HSpaceMixCodeLevels", code=["code", 0], style=["style", 0], levels=levels),
            **drawn(name, [name, 0]),
        }
    prompt |= drawn("plain", ["code", 0]) | drawn("other", ["style", 0])
    result = server.queue(prompt, timeout=300)
    plain, other, none, fine, coarse, every = shown(server, result, "plain", "other", "none", "fine", "coarse", "all")
    assert np.array_equal(none, plain) and np.array_equal(every, other)
    assert (fine != plain).any() and (coarse != plain).any() and (fine != coarse).any()
    refused(
        server,
        {**prompt, "fine": node("HSpaceMixCodeLevels", code=["code", 0], style=["style", 0], levels="7")},
        "levels 0 (finest) to 2",
    )
    refused(
        server,
        {**prompt, "fine": node("HSpaceMixCodeLevels", code=["code", 0], style=["style", 0], levels="fine")},
        "separated by commas",
    )


def test_new_codes_are_drawn(server):
    prompt = coded() | grey() | {"codes": node("HSpaceSampleCodes", model=["model", 0], count=3, seed=4, steps=50)}
    prompt |= {
        "three": node("RepeatLatentBatch", samples=["empty", 0], amount=3),
        **drawn("new", ["codes", 0], ["three", 0], 6),
    }
    prompt |= {
        "again": node("HSpaceSampleCodes", model=["model", 0], count=3, seed=4, steps=50),
        **drawn("again", ["again", 0], ["three", 0], 6),
    }
    result = server.queue(prompt, timeout=300)
    new, again = shown(server, result, "new", "again")
    assert np.array_equal(new, again) and new.std() > 20
    assert min(np.abs(new[0] - new[1]).mean(), np.abs(new[1] - new[2]).mean()) > 5


def test_own_attributes_are_trained_saved_and_loaded(server):
    prompt = coded()
    for name in ("with", "without"):
        prompt[f"faces {name}"] = face(300)
        prompt[f"faces {name}"]["inputs"]["count"] = 24
        prompt[name] = node("HSpaceEncodeCode", model=["model", 0], image=[f"faces {name}", 0])
    prompt["faces without"]["inputs"]["seed"] = 301
    groups = {"codes": ["with", 0], "without": ["without", 0], "method": "mean", "append_to": ["model", 2]}
    train = node("HSpaceTrainHeads", name="mine", **groups)
    prompt |= {"train": train, "keep": node("HSpaceSaveTrained", trained=["train", 0], name="mine")}
    values = node(
        "HSpaceTrainHeads",
        codes=["with", 0],
        name="ranked",
        method="ridge-lda",
        values=" ".join(str(i) for i in range(24)),
    )
    prompt |= {"ranked": values, "text": node("PreviewAny", source=["ranked", 1])}
    again = node("HSpaceTrainHeads", name="Glasses", **groups)
    halves = node("HSpaceTrainHeads", codes=["all", 0], name="halves", method="mean", values=" ".join(["1", "0"] * 24))
    prompt["faces all"] = {**prompt["faces with"], "inputs": {**prompt["faces with"]["inputs"], "count": 48}}
    prompt |= {"all": node("HSpaceEncodeCode", model=["model", 0], image=["faces all", 0]), "halves": halves}
    prompt |= {"again": again, "halved": node("PreviewAny", source=["halves", 1])}
    prompt |= {"keep again": node("HSpaceSaveTrained", trained=["again", 0], name="again")}
    result = server.queue(prompt, timeout=300)
    assert "48 pictures, AUROC" in result.outputs["halved"]["text"][0], "0 and 1 are two groups however they are given"
    assert (
        "48 pictures, AUROC" in result.outputs["train"]["text"][0]
        and "correlation" in result.outputs["text"]["text"][0]
    )
    load = {
        "load": node("HSpaceLoadHeads", model=["model", 0], file="mine.safetensors"),
        "names": node("PreviewAny", source=["load", 1]),
    }
    names = server.queue({"model": prompt["model"], **load}, timeout=300).outputs["names"]["text"][0].split(", ")
    assert names[-1] == "mine" and "glasses" in names
    other = {**load, "load": node("HSpaceLoadHeads", model=["model", 0], file="again.safetensors")}
    replaced = server.queue({"model": prompt["model"], **other}, timeout=300).outputs["names"]["text"][0].split(", ")
    assert replaced[-1] == "Glasses" and "glasses" not in replaced and len(replaced) == len(names) - 1
    for name in ("mine", "again"):
        (server.process.models / "hspace_edits" / "attributes" / f"{name}.safetensors").unlink()
    few = {**prompt, "faces with": face(300), "text": node("PreviewAny", source=["train", 1])}
    refused(server, few, "too few")


def test_the_step_grid_snaps_and_says_so(server):
    prompt = {k: v for k, v in coded(steps=60).items() if k in ("model", "steps")} | {
        "n": node("PreviewAny", source=["steps", 1])
    }
    result = server.queue(prompt, timeout=100)
    assert result.outputs["n"]["text"] == ["59"] and "60 do not exist" in result.outputs["steps"]["text"][0]


def test_unlike_pictures_are_warned_of(server):
    prompt = coded() | {"flat": node("EmptyImage", width=128, height=64, batch_size=1, color=0x10FF10)}
    prompt["code"]["inputs"] |= {"image": ["flat", 0], "fit": "any size"}
    text = server.queue(
        {**{k: prompt[k] for k in ("model", "flat", "code")}, "text": node("PreviewAny", source=["code", 1])},
        timeout=100,
    )
    said = text.outputs["text"]["text"][0]
    assert "128x64" in said and "scale it first" in said and "crop and align" in said


def test_what_is_refused(server):
    prompt = coded() | drawn("own", ["code", 0])
    refused(
        server,
        {**prompt, "own": manipulate("moustache", 0.3), **drawn("own", ["own", 0])},
        "unknown attribute",
        "did you mean",
    )
    hdae = {
        "hdae": node("HSpaceLoadFaceDiffAE", variant=HDAE),
        "foreign": node("HSpaceEncodeCode", model=["hdae", 0], image=[FACE, 0]),
    }
    refused(server, {**prompt, **hdae, **drawn("own", ["foreign", 0])}, "made by another model")
    foreign = {**prompt, **hdae, "own": manipulate("glasses", 0.3, "foreign"), **drawn("own", ["own", 0])}
    refused(server, foreign, "belong to model")
    plain = base()
    refused(
        server,
        {
            **plain,
            "code": node("HSpaceEncodeCode", model=["model", 0], image=[FACE, 0]),
            "text": node("PreviewAny", source=["code", 1]),
        },
        "needs a diffusion autoencoder",
    )
    text = {
        "text model": node("HSpaceLoadFaceTextModel"),
        "words": node("CLIPTextEncode", clip=["text model", 1], text="a face"),
    }
    refused(server, {**prompt, **text, **drawn("own", ["words", 0])}, "semantic code", "Encode Semantic Code")
    lonely = {**prompt}
    lonely["invert"] = invert(FACE, "steps", "ddim A")
    refused(server, lonely, "draws from a semantic code")


def test_weights_of_the_codes_are_within_their_size():
    for name in ("face_diffae", "face_hdae"):
        assert (ROOT / "weights" / f"{name}.safetensors").stat().st_size <= 16 * 2**20
