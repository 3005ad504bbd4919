"""Files of the layout that the DiffAE authors released: loaded, moved along CelebA's attributes, and what is missing in
them said."""

import subprocess
import sys

import numpy as np
import pytest

from devtools.console import ROOT

from .graphs import FACE, face, node, pictures, refused, save

AUTOENC, LATENT, CLS = "ffhq64_autoenc.ckpt", "ffhq64_autoenc_latent.ckpt", "ffhq64_autoenc_cls.ckpt"
MAKE = """
import sys
from pathlib import Path
import torch
sys.path.insert(0, "tests/core")
from released_diffae import STATISTICS, WIDE, lightning, saved, weights

torch.manual_seed(0)
folder = Path(sys.argv[1])
saved(folder / sys.argv[2], lightning(weights(64)))
saved(folder / sys.argv[3], lightning(weights(64, 4)))
heads = {f"{k}.{n}": torch.randn(s) for k in ("classifier", "ema_classifier") for n, s in (("weight", (40, WIDE)), ("bias", (40,)))}
# Of the network itself the classifier's file has nothing left.
saved(folder / sys.argv[4], lightning({}, **STATISTICS, **heads))
print(float(heads["classifier.weight"][31].norm()) * WIDE**0.5)
"""


@pytest.fixture(scope="module")
def slope(server):
    """Puts the files where nodes find them; how much the score of Smiling rises at strength 1."""
    folder = server.process.models / "hspace"
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", MAKE, str(folder), AUTOENC, LATENT, CLS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    yield float(done.stdout)
    for name in (AUTOENC, LATENT, CLS):
        (folder / name).unlink()


def loaded(checkpoint: str = AUTOENC, statistics: str = CLS) -> dict[str, dict]:
    """Model, attributes of the classifier, and the code of a face."""
    return {
        "model": node("HSpaceLoadDiffAE", checkpoint=checkpoint, statistics=statistics),
        "about": node("PreviewAny", source=["model", 2]),
        FACE: face(),
        "heads": node("HSpaceLoadHeads", model=["model", 0], file=CLS),
        "names": node("PreviewAny", source=["heads", 1]),
        "code": node("HSpaceEncodeCode", model=["model", 0], image=[FACE, 0]),
    }


def moved(name: str, strength: float, attribute: str = "Smiling") -> dict[str, dict]:
    """The face drawn with its code moved."""
    code = node(
        "HSpaceManipulateCode",
        code=["code", 0],
        attributes=["heads", 0],
        attribute=attribute,
        strength=strength,
        top_k=100.0,
    )
    links = {
        "model": ["model", 0],
        "positive": [name, 0],
        "negative": [name, 0],
        "sampler": ["euler", 0],
        "sigmas": ["steps", 0],
    }
    return {
        name: code,
        f"s {name}": node("SamplerCustom", add_noise=True, noise_seed=1, cfg=1.0, latent_image=["empty", 0], **links),
        f"d {name}": node("VAEDecode", samples=[f"s {name}", 0], vae=["model", 1]),
        f"keep {name}": save([f"d {name}", 0]),
    }


def test_a_released_file_and_its_classifier(server, slope):
    prompt = loaded() | moved("off", 0.0) | moved("more", 0.4) | moved("less", -0.4, "smiling")
    prompt |= {
        "steps": node("HSpaceDiffAESteps", model=["model", 0], steps=4),
        "euler": node("KSamplerSelect", sampler_name="euler"),
    }
    prompt |= {"empty": node("VAEEncode", pixels=[FACE, 0], vae=["model", 1])}
    result = server.queue(prompt, timeout=300)
    about = result.outputs["about"]["text"][0]
    assert (
        "DiffAE, 64 pixels, code of 32" in about and "codes: known" in about and "Sample Codes does not work" in about
    )
    names = result.outputs["names"]["text"][0].split(", ")
    assert len(names) == 40 and (names[0], names[31], names[39]) == ("5_o_Clock_Shadow", "Smiling", "Young")
    off, more, less = (
        np.stack(pictures(server, result, f"keep {name}")).astype(int) for name in ("off", "more", "less")
    )
    assert off.shape == (1, 64, 64, 3) and (more != off).any() and (less != off).any() and (less != more).any()
    for name, strength in (("off", 0.0), ("more", 0.4), ("less", -0.4)):
        before, after = result.outputs[name]["text"][0].removeprefix("Smiling: ").split(" > ")
        assert float(after) - float(before) == pytest.approx(strength * slope, abs=0.02)


def test_what_a_released_file_lacks_is_said(server, slope):
    plain = loaded(statistics="none")
    result = server.queue({k: plain[k] for k in ("model", "about")}, timeout=300)
    assert "missing, connect them for Manipulate Code" in result.outputs["about"]["text"][0]
    codes = {
        "codes": node("HSpaceSampleCodes", model=["model", 0], count=1, seed=0, steps=5),
        "text": node("PreviewAny", source=["codes", 0]),
    }
    refused(
        server, {"model": plain["model"], **codes}, "no latent network", "load the checkpoint of its latent network"
    )
    # A latent network works on normalised codes.
    latent = loaded(LATENT, "none")
    refused(
        server,
        {"model": latent["model"], **codes},
        "standard deviation of this model's codes are unknown",
        "as 'statistics'",
    )
    server.queue({"model": loaded(LATENT)["model"], **codes}, timeout=300)
    refused(
        server,
        loaded(statistics=LATENT),
        "no conds_mean and conds_std",
        "take the file of the latent network or of the classifier",
    )
    refused(server, loaded(CLS, "none"), "load the autoencoder's file, and this one as its statistics")
    heads = {**plain, "heads": node("HSpaceLoadHeads", model=["model", 0], file=AUTOENC)}
    refused(server, heads, "it is no classifier of DiffAE")
