"""NaN of a network or of a VAE is one error that names it, in every node that asks one: never a picture, a PSNR or
another's fault."""

import re

import pytest

from .graphs import node
from .worlds import EVERY, EVERY_TEXT, World, watched

ABOVE = 0.5


@pytest.fixture(scope="module")
def worlds(executor):
    return {False: World(executor), True: World(executor, text=True)}


def sick(model):
    """A MODEL that gives NaN above a noise level, as half precision does where it overflows."""
    return watched(model, lambda sigma, out: out * float("nan") if sigma > ABOVE else out)


CASES = [(False, name) for name in EVERY] + [
    (True, name) for name in (*EVERY_TEXT, "Invert Image, fixed point", "Resume Trajectory")
]


@pytest.mark.sweep("")
@pytest.mark.parametrize(("text", "name"), CASES, ids=[f"{name}{', text' * text}" for text, name in CASES])
def test_a_network_is_named_with_its_level(worlds, text, name):
    w, recipe = worlds[text], {**EVERY, **EVERY_TEXT}[name]
    with pytest.raises(ValueError, match=r"network|repeat 1 of 2") as error:
        recipe(w, sick(w.model))
    said = str(error.value)
    level = re.search(r"network gave NaN or infinite values at sigma ([\d.]+)", said)
    assert "try fp32 or bf16" in said and "learning rate (lr)" not in said
    assert (level is not None and float(level[1]) > ABOVE) or name == "SDEdit Repeat"
    recipe(w, w.model)  # and the plain one is fine


class SickVAE:
    """A VAE that gives NaN, by one of its ways."""

    def __init__(self, vae, way: str):
        self._vae, self._way = vae, way

    def __getattr__(self, name: str):
        return getattr(self._vae, name)

    def encode(self, *args, **kwargs):
        return self._vae.encode(*args, **kwargs) * (float("nan") if self._way == "encode" else 1)

    def decode(self, *args, **kwargs):
        return self._vae.decode(*args, **kwargs) * (float("nan") if self._way == "decode" else 1)


@pytest.fixture(scope="module")
def small(executor):
    """MODEL, CONDITIONING, VAE, picture, trajectory of a small latent model."""
    prompt = {
        "net": node("HSpaceTestUNet", network="sd15", dtype="fp32", seed=0),
        "vae": node("HSpaceTestVAE"),
        "image": node("HSpaceTestPicture", case="noise", width=64, height=64),
        "sigmas": node("BasicScheduler", model=["net", 0], scheduler="karras", steps=3, denoise=1.0),
    }
    (model, positive, _), (vae,), (image,), (sigmas,) = executor.run(prompt, "net", "vae", "image", "sigmas")
    return {"model": model, "positive": positive, "vae": vae, "image": image, "sigmas": sigmas}


def _prompted(s, *names: str) -> dict:
    """The model, its prompt and a picture, and further parts by name."""
    return {name: s[name] for name in ("model", "image", "positive", *names)}


def _invert(call, s, vae, **options):
    return call("HSpaceInvertImage", method="ddim B", vae=vae, **{**_prompted(s, "sigmas"), **options})


def _edit_friendly(call, s, vae):
    return call("HSpaceEditFriendlyInversion", **_prompted(s, "sigmas"), vae=vae, seed=0, solver="ddpm")


def _render(call, s, vae):
    path = _invert(call, s, s["vae"])[0]
    return call("HSpaceRenderTrajectory", model=s["model"], trajectory=path, asymmetric=False, protect=0.0, vae=vae)


def _atlas(call, s, vae):
    path = _invert(call, s, s["vae"])[0]
    directions = call(
        "HSpaceDiscoverRegion",
        model=s["model"],
        trajectory=path,
        k=1,
        mode="none",
        tau=0.01,
        rank=20,
        sigma=2.0,
        iterations=1,
    )[0]
    return call(
        "HSpaceDirectionAtlas",
        model=s["model"],
        trajectory=path,
        directions=directions,
        strength=1.0,
        columns=3,
        count=1,
        vae=vae,
    )


def _morph(call, s, vae):
    path = _invert(call, s, s["vae"])[0]
    dials = {"frames": 3, "alphas": "", "attention": 0.6, "adain": True, "lora_mode": "delta", "batch": 4}
    return call("HSpaceMorphFrames", model=s["model"], first=path, second=path, vae=vae, **dials)


def _into(call, s, vae):
    dials = {"sigma": 3.0, "steps": 2, "repeats": 1, "seed": 0}
    return call("HSpaceIntoDomain", **_prompted(s), vae=vae, **dials)


def _lora(call, s, vae):
    return call("HSpaceFitImageLora", **_prompted(s), vae=vae, steps=1, rank=1, lr=1e-3, seed=0)


def _recolour(call, s, vae):
    path = _edit_friendly(call, s, s["vae"])[0]
    return call(
        "HSpaceRecolourEditFriendly", model=s["model"], trajectory=path, colour=s["image"], strength=0.1, vae=vae
    )


ENCODE = {
    "Invert Image": _invert,
    "Edit-Friendly Inversion": _edit_friendly,
    "Into The Domain": _into,
    "Fit Image LoRA": _lora,
    "Recolour": _recolour,
}
DECODE = {
    "Invert Image": _invert,
    "Edit-Friendly Inversion": _edit_friendly,
    "Render Trajectory": _render,
    "Direction Atlas": _atlas,
    "Morph Frames": _morph,
    "Into The Domain": _into,
}


@pytest.mark.parametrize("name", ENCODE)
def test_a_vae_that_encodes_nan_is_named(executor, small, name):
    with pytest.raises(ValueError, match=r"the VAE gave NaN or infinite values for '(image|colour)'.*fp32"):
        ENCODE[name](executor.call, small, SickVAE(small["vae"], "encode"))


@pytest.mark.parametrize("name", DECODE)
def test_a_vae_that_decodes_nan_is_named(executor, small, name):
    with pytest.raises(ValueError, match=r"the VAE gave NaN or infinite values when it decoded this picture.*fp32"):
        DECODE[name](executor.call, small, SickVAE(small["vae"], "decode"))
    DECODE[name](executor.call, small, small["vae"])  # and the plain one is fine
