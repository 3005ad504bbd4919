"""A picture of another size than the model's: fitted, said, or refused before the network is asked."""

import pytest
import torch
from torch.nn import functional as F

from .graphs import FACE, SCHEDULE, base, discover, node

SIZE = (150, 200)


@pytest.fixture(scope="module")
def given(executor):
    """The embedded model, sigmas and a face, and the face at the middle of a larger picture."""
    prompt = base(steps=8)
    model, sigmas = (executor.run(prompt, name)[0][0] for name in ("model", SCHEDULE))
    face = executor.run(prompt, FACE)[0][0]
    large = F.interpolate(face.movedim(-1, 1), (150, 150), mode="bicubic").clamp(0, 1)
    photo = F.pad(large, (25, 25, 0, 0), value=0.3).movedim(1, -1)
    return model, sigmas, face, photo


def invert(executor, given, image, **options):
    model, sigmas, *_ = given
    links = {"model": model, "sigmas": sigmas, "image": image}
    return executor.call("HSpaceInvertImage", method="fixed point", iterations=1, **links, **options)


@pytest.fixture
def said(executor, monkeypatch):
    """What nodes say on themselves."""
    lines: list[str] = []
    monkeypatch.setattr(executor.module("nodes.host.model.size"), "say", lines.append)
    return lines


def test_a_picture_that_fits_is_left_alone(executor, given, said):
    _, _, face, _ = given
    trajectory, *_ = invert(executor, given, face)
    assert trajectory["fit"] is None and not said
    assert torch.equal(trajectory["states"][-1], (face.movedim(-1, 1) * 2 - 1))
    larger = F.interpolate(face.movedim(-1, 1), (96, 88)).movedim(1, -1)
    assert invert(executor, given, larger)[0]["states"].shape[-2:] == (96, 88) and not said


def test_a_large_picture_is_cut_to_the_middle_and_the_node_says_so(executor, given, said):
    _, _, face, photo = given
    trajectory, _, rebuilt, psnr = invert(executor, given, photo)
    assert trajectory["fit"] == {"source": [150, 200], "box": [25, 0, 175, 150], "size": [64, 64]}
    assert trajectory["states"].shape[-2:] == (64, 64) and rebuilt.shape == (1, 64, 64, 3) and psnr > 20
    x0 = (trajectory["states"][-1] + 1) / 2
    assert float((x0 - face.movedim(-1, 1)).square().mean()) ** 0.5 < 0.03
    (line,) = said
    assert "200x150" in line and "64x64" in line and "Fit Photo" in line


def test_pad_keeps_all_of_it(executor, given, said):
    trajectory, *_ = invert(executor, given, given[3], fit="pad")
    assert trajectory["fit"]["box"] == [0, -25, 200, 175] and "filled up to 200x200" in said[0]


def test_refuse_asks_no_network(executor, given, monkeypatch):
    def never(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(executor.module("nodes.invert.image"), "with_denoiser", never)
    for size in ((512, 512), (104, 64), (40, 40), (60, 64)):
        with pytest.raises(ValueError, match=rf"'image' is {size[1]}x{size[0]}, .*64x64.*Fit Photo"):
            invert(executor, given, torch.rand(1, *size, 3), fit="refuse")


def test_any_size_takes_it_as_it_is(executor, given, said):
    trajectory, *_ = invert(executor, given, torch.rand(1, 104, 72, 3), fit="any size")
    assert trajectory["states"].shape[-2:] == (104, 72) and trajectory["fit"] is None and not said


def test_a_mask_of_the_picture_as_it_was_fits_and_another_is_refused(executor, given):
    model, *_ = given
    trajectory, *_ = invert(executor, given, given[3])
    mask = torch.zeros(1, *SIZE)
    mask[:, 90:120, 80:120] = 1
    inside = torch.zeros(1, 64, 64)
    inside[:, 38:51, 23:41] = 1
    links = discover()["inputs"] | {"model": model, "trajectory": trajectory, "k": 1, "iterations": 1}
    found = executor.call("HSpaceDiscoverRegion", **(links | {"mask": mask}))[0]
    assert found["mask"].shape == (64, 64) and float((found["mask"] - inside[0]).abs().mean()) < 0.02
    with pytest.raises(
        ValueError,
        match=r"aspect of the image \(64x64\) or of the picture that it was cut from \(200x150\), got 200x100",
    ):
        executor.call("HSpaceDiscoverRegion", **(links | {"mask": torch.ones(1, 100, 200)}))


def test_a_model_whose_size_is_unknown_takes_what_it_took(executor, said):
    """A tiny U-Net that tells no size: as before, and what cannot act is refused."""
    prompt = {
        "model": node("HSpaceTestUNet", network="sd15", dtype="fp32", seed=0),
        "vae": node("HSpaceTestVAE"),
        "sigmas": node("BasicScheduler", model=["model", 0], scheduler="karras", steps=2, denoise=1.0),
    }
    model, vae, sigmas = (executor.run(prompt, name)[0][0] for name in ("model", "vae", "sigmas"))
    positive = executor.run(prompt, "model")[0][1]
    links = {"model": model, "vae": vae, "sigmas": sigmas, "positive": positive, "image": torch.rand(1, 64, 144, 3)}
    trajectory = executor.call("HSpaceInvertImage", method="ddim B", **links)[0]
    assert trajectory["states"].shape[-2:] == (8, 18) and not said
    with pytest.raises(ValueError, match="'fit' is 'refuse', but this model's file does not say"):
        executor.call("HSpaceInvertImage", method="ddim B", fit="refuse", **links)


def test_latents_keep_the_aspect(executor, monkeypatch, said):
    model = executor.run({"model": node("HSpaceTestUNet", network="sdxl", dtype="fp32", seed=5)}, "model")[0][0]
    monkeypatch.delattr(model.model.diffusion_model, "trained_at")
    fit = executor.module("nodes.host.model.size").fit_to_model
    picture, plan = fit(model, torch.rand(1, 1500, 2000, 3), "crop")
    assert picture.shape == (1, 896, 1152, 3) and plan.source == (1500, 2000) and said
    assert fit(model, torch.rand(1, 1536, 1024, 3), "crop")[1] is None
