"""Models that count frames: a picture is a video of one frame for them, and for nobody else."""

import pytest
import torch

from devtools.transformers import Case, World

FAMILIES = ("Qwen-Image", "Wan 2.1", "Anima", "Cosmos-Predict2", "Krea 2")
SIZE = (64, 96)


@pytest.fixture(scope="module")
def vae(executor):
    return executor.call("HSpaceTestVAE", network="frames")[0]


@pytest.fixture(scope="module")
def picture(executor):
    return executor.call("HSpaceTestPicture", case="noise", width=SIZE[1], height=SIZE[0])[0]


def inverted(world, vae, picture, method="fixed point", steps=6, **options):
    sigmas = world.executor.call("BasicScheduler", model=world.model, scheduler="simple", steps=steps, denoise=1.0)[0]
    inputs = {"iterations": 10} if method == "fixed point" else {}
    found = world.executor.call(
        "HSpaceInvertImage",
        model=world.model,
        image=picture,
        sigmas=sigmas,
        method=method,
        vae=vae,
        positive=world.positive,
        **{**inputs, **options},
    )
    return found


def resumed(world, sampler, sigmas, latent, model=None):
    call = world.executor.call
    return call(
        "SamplerCustomAdvanced",
        noise=call("DisableNoise")[0],
        guider=call("BasicGuider", model=model or world.model, conditioning=world.positive)[0],
        sampler=sampler,
        sigmas=sigmas,
        latent_image=latent,
    )[0]["samples"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_picture_goes_there_and_back(executor, vae, picture, family):
    """Inverted, rendered, and resumed in the stock sampler: the same picture."""
    world = World(executor, Case(family))
    assert world.framed
    trajectory, noise, rebuilt, psnr = inverted(world, vae, picture)
    assert trajectory["states"].shape[1:] == (1, 16, 8, 12) and noise["samples"].shape == (1, 16, 1, 8, 12)
    assert rebuilt.shape == picture.shape and psnr > 10, psnr
    edited, plain, latent = executor.call(
        "HSpaceRenderTrajectory", model=world.model, trajectory=trajectory, asymmetric=False, vae=vae
    )
    assert torch.equal(edited, plain) and latent["samples"].shape == (1, 16, 1, 8, 12)
    back = resumed(world, *executor.call("HSpaceResumeTrajectory", trajectory=trajectory, asymmetric=False), noise)
    assert back.shape == latent["samples"].shape
    assert torch.allclose(back, latent["samples"], atol=1e-4 * float(back.abs().max()))


@pytest.mark.parametrize("method", ["edict", "bdia"])
def test_exact_inversions_come_back(executor, vae, picture, method):
    world = World(executor, Case("Qwen-Image"))
    trajectory, noise, _, psnr = inverted(world, vae, picture, method)
    assert psnr > 80, psnr
    sampler, sigmas = executor.call("HSpaceSampleExactInversion", trajectory=trajectory)
    back = resumed(world, sampler, sigmas, noise)
    clean = executor.module("nodes.host.model.latents").latents_out(world.model, trajectory["states"][-1])
    assert torch.allclose(back, clean, atol=1e-3 * float(clean.abs().max()))


def test_pictures_of_a_batch_are_no_frames(executor, vae, picture):
    """The VAE makes one video of a batch: they are encoded one by one."""
    world = World(executor, Case("Wan 2.1"))
    images = executor.module("nodes.host.model.images")
    with torch.inference_mode():
        batch = images.encode(world.model, vae, torch.cat([picture, picture.flip(1)]))
        alone = images.encode(world.model, vae, picture.flip(1))
        assert batch.shape == (2, 16, 8, 12) and torch.equal(batch[1:], alone)
        assert images.decode(world.model, vae, batch).shape == (2, *SIZE, 3)


def test_more_frames_are_refused_by_number(executor, vae, picture):
    world = World(executor, Case("Qwen-Image"))
    trajectory = inverted(world, vae, picture, "ddim B")[0]
    sampler, sigmas = executor.call("HSpaceResumeTrajectory", trajectory=trajectory, asymmetric=False)
    with pytest.raises(ValueError, match="this latent holds 5 frames, and this pack edits single pictures"):
        resumed(world, sampler, sigmas, {"samples": torch.zeros(1, 16, 5, 8, 12)})


def test_a_region_is_measured_and_held_in_its_own_pixels(executor, vae, picture):
    """Masks have no frames: a noise mask holds the rest while another prompt changes the region."""
    world = World(executor, Case("Qwen-Image"))
    trajectory, _, _, _ = inverted(world, vae, picture, steps=4)
    mask = torch.zeros(1, *SIZE)
    mask[:, :, :48] = 1
    clean = executor.module("nodes.host.model.latents").latents_out(world.model, trajectory["states"][-1])
    (latent,) = executor.call("SetLatentNoiseMask", samples={"samples": clean}, mask=mask)
    sampler, sigmas = executor.call("HSpaceResumeTrajectory", trajectory=trajectory, asymmetric=False)
    world.positive = world.negative
    back = resumed(world, sampler, sigmas, latent)
    assert torch.allclose(back[..., 6:], clean[..., 6:], atol=1e-4) and not torch.allclose(
        back[..., :6], clean[..., :6]
    )


def test_derivatives_through_such_a_vae_are_refused(executor, vae, picture):
    world = World(executor, Case("Qwen-Image"))
    trajectory = inverted(world, vae, picture, "ddim B")[0]
    with pytest.raises(ValueError, match="leave 'vae' unconnected"):
        executor.call(
            "HSpaceDiscoverRegion", model=world.model, trajectory=trajectory, sigma=0.0, k=1, mode="none", vae=vae
        )


def test_sounds_are_refused_by_name(executor, picture):
    world = World(executor, Case("Flux.1"))

    class Sound:
        latent_dimensions = 1

    model = world.model.clone()
    model.add_object_patch("latent_format", Sound())
    images = executor.module("nodes.host.model.images")
    with pytest.raises(ValueError, match="whose latents are no pictures"):
        images.check_pictures(model)
