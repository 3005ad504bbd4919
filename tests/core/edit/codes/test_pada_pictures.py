"""PADA judged on pictures of one step, and ages without labels."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from core.networks.diffae import DiffAEConfig, DiffAENet
from core.schedule import Schedule
from core.train.code_readings import EncodedPictures
from core.train.pada import PadaSettings, PadaWeights, train_pada
from core.train.pada_judge import ImageLosses, ages_between, one_step

from .code_world import Words, ages_of, world


def test_judged_on_pictures_too():
    codes, space, embedding = world(16)
    seen: list[float] = []
    levels: list[float] = []

    class Flat(Words):
        def embed_image(self, images):
            seen.append(float(images.requires_grad))
            return F.normalize(images.mean((2, 3)).repeat(1, 2), dim=1)

    def predict(x, sigma, code):
        levels.extend(sigma.tolist())
        return x * 0 + code[:, :3, None, None]

    images = ImageLosses(torch.zeros(16, 3, 4, 4), predict, Flat(), rows=4)
    found = train_pada(
        EncodedPictures(codes, space, embedding),
        Flat(),
        ages_of(codes, space),
        [("young", 0), ("old", 1)],
        PadaSettings(steps=6, batch=8, width=8),
        images=images,
    )
    assert seen == [1.0, 1.0] and found.extra["images"]
    # The same content is drowned by as much less noise as the picture is smaller: t = 100 to 500 of 256 pixels.
    assert len(levels) == 8 and 0.34 * 4 / 256 <= min(levels) < max(levels) <= 3.4 * 4 / 256
    assert replace(images, pictures=torch.zeros(1, 3, 256, 300)).sigmas == (0.34, 3.4)


def autoencoder():
    torch.manual_seed(0)
    net = (
        DiffAENet(DiffAEConfig((8, 8), (8, 8), (False, True), (False, True), 1, 16, 12, patch=2))
        .requires_grad_(False)
        .eval()
    )
    for p in net.parameters():
        p.normal_(0, 0.2)  # what starts at zero would hide the code
    return net


def test_one_step_pictures_differ_as_their_gradient_says():
    predict = one_step(autoencoder().double(), Schedule("linear"), "v")
    g = torch.Generator().manual_seed(3)
    x, code, way = (
        torch.randn(shape, generator=g, dtype=torch.float64) for shape in ((2, 3, 16, 16), (2, 12), (2, 12))
    )
    sigma = torch.tensor([0.34, 3.4], dtype=torch.float64)
    code.requires_grad_(True)
    (gradient,) = torch.autograd.grad((predict(x, sigma, code) * x).sum(), code)
    up, down = ((predict(x, sigma, code.detach() + h * way) * x).sum() for h in (1e-5, -1e-5))
    along = (gradient * way).sum()
    assert along.abs() > 1e-3 and torch.allclose(along, (up - down) / 2e-5, rtol=1e-6)


def test_pictures_alone_train_pada_and_at_weight_0_are_not_looked_at():
    codes, space, embedding = world(16)
    g = torch.Generator().manual_seed(4)
    pictures = torch.rand(16, 3, 16, 16, generator=g) * 2 - 1

    class Looking(Words):
        def embed_image(self, images):
            return F.normalize(F.adaptive_avg_pool2d(images, (1, 2)).flatten(1), dim=1)

    images = ImageLosses(pictures, one_step(autoencoder(), Schedule("linear"), "v"), Looking(), rows=4)

    def trained(steps=6, weights=PadaWeights(), **options):  # noqa: B008
        return train_pada(
            EncodedPictures(codes, space, embedding),
            Looking(),
            ages_of(codes, space),
            [("young", 0), ("old", 1)],
            PadaSettings(steps=steps, batch=8, width=8, weights=weights),
            **options,
        ).net.state_dict()

    def same(one, two):
        return all(torch.equal(a, b) for a, b in zip(one.values(), two.values(), strict=True))

    assert same(trained(weights=PadaWeights(image=0.0), images=images), trained())
    assert not same(trained(images=images), trained())
    nothing = PadaWeights(0, 0, 0, 0, 0, 0, 0, 0, 0)
    fresh = trained(1, weights=replace(nothing, image=0.0))
    assert same(trained(2, weights=replace(nothing, image=0.0)), fresh)
    assert not same(trained(2, weights=nothing, images=images), fresh), "only pictures can have moved them"
    with pytest.raises(ValueError, match="16 codes need the same pictures"):
        trained(images=replace(images, pictures=pictures[:4]))


def test_ages_without_labels_lie_along_the_texts():
    _, _, embedding = world(300)
    ages, rest = ages_between(Words(), embedding, ["young"], ["old"])
    direction = Words().embed_text(["old"])[0] - Words().embed_text(["young"])[0]
    assert float(ages.min()) == 0 and float(ages.max()) == 1
    assert torch.corrcoef(torch.stack([ages, embedding @ direction]))[0, 1] > 0.95
    assert (rest @ F.normalize(direction, dim=0)).std() < 1e-4
