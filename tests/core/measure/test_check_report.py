"""The report on a model: Markdown, a picture that can be read, and what works with what."""

import torch

from core.measure.check_report import BAD, GOOD, CheckLine, CheckReport
from core.measure.fitness import ModelTraits, fitness_of

UNET = ModelTraits("UNetModel", latent=True, attention=True)
FLUX = ModelTraits("Flux", unet=False, flow=True, latent=True)
STRANGE = ModelTraits("Strange", cut=False, unet=False, flow=True, latent=True)
PIXELS = ModelTraits("DDPMUNet", promptless=True)
CODED = ModelTraits("DiffAENet", coded=True, promptless=True)


def works(traits: ModelTraits) -> dict[str, bool]:
    return {f.nodes.split(",")[0]: f.works for f in fitness_of(traits)}


def test_what_works_with_what():
    assert works(UNET) == {
        "Invert Image": True,
        "Discover Region Directions": True,
        "Steer": True,
        "Steer With Trained Edit": True,
        "Edit-Friendly Inversion": True,
        "FlowEdit": True,
        "Prompt-to-Prompt": True,
        "Null-Text Optimise": True,
        "Fit Image LoRA": True,
        "Train Asyrp": True,
        "Train DiffusionCLIP": False,
        "Encode": False,
    }
    assert [name for name, does in works(STRANGE).items() if does] == ["Invert Image", "FlowEdit"]
    suits = ["Invert Image", "Discover Region Directions", "Steer", "FlowEdit"]
    assert [name for name, does in works(FLUX).items() if does] == suits
    assert not works(PIXELS)["FlowEdit"] and not works(CODED)["FlowEdit"]
    assert works(PIXELS)["Train DiffusionCLIP"] and not works(PIXELS)["Prompt-to-Prompt"]
    assert works(CODED)["Encode"] and not works(CODED)["Train DiffusionCLIP"]
    quantised = ModelTraits("UNetModel", latent=True, attention=True, quantised=True)
    assert not works(quantised)["Train Asyrp"] and works(quantised)["Discover Region Directions"]
    closed = works(ModelTraits("UNetModel", latent=True, attention=True, quantised=True, differentiable=False))
    assert not closed["Discover Region Directions"] and not closed["Null-Text Optimise"] and closed["Steer"]
    assert all(f.why for traits in (UNET, FLUX, STRANGE, PIXELS, CODED) for f in fitness_of(traits) if not f.works)


def report(*lines: CheckLine) -> CheckReport:
    return CheckReport("Works. Next: this.", lines, fitness_of(FLUX), [("torch", "2.6"), ("fingerprint", "ab")])


def test_markdown_has_every_line_and_the_block():
    text = report(CheckLine("size", "64 | 64\npixels", GOOD, "as told"), CheckLine("memory", "none", BAD)).markdown()
    assert text.startswith("**Works. Next: this.**\n")
    assert "| size | ok | 64 \\| 64 pixels | as told |" in text and "| memory | no | none |  |" in text
    assert "```\ntorch: 2.6\nfingerprint: ab\n```" in text
    assert not report(CheckLine("memory", "none", BAD)).is_good and report(CheckLine("size", "64")).is_good


def test_the_card_grows_with_what_it_says():
    short, long = (report(CheckLine("size", "word " * n, GOOD, "hint")).card() for n in (3, 90))
    assert short.shape[2:] == long.shape[2:] == (960, 3) and long.shape[1] > short.shape[1] + 40
    assert float(short.min()) < 0.3 and float(short[:, -10:].min()) == 1.0  # ink, and paper below it
    assert not torch.equal(short[:, :200], report(CheckLine("size", "word word word", BAD, "hint")).card()[:, :200])
