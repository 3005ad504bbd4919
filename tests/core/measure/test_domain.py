"""Is a picture of the model's world: drawn faces are, everything else is not; a reference may be the model's own."""

import pytest
import torch

from core.api import load
from core.faces.factors import sample
from core.faces.render import render
from core.measure.domain import (
    LIMIT,
    NOISES,
    QUANTILES,
    USUAL,
    WorldReference,
    compare,
    denoising_error,
    draw_reference,
    middle_level,
    reference_from,
    world_text,
)
from core.measure.known_worlds import KNOWN_WORLDS
from core.schedule import karras


@pytest.fixture(scope="module")
def face_model():
    return load("face_model")


@pytest.fixture(scope="module")
def faces() -> torch.Tensor:
    """Held-out faces, `[24 3 64 64]` in -1..1."""
    return render(sample(24, torch.Generator().manual_seed(2026), held_out=True), 64)[0] * 2 - 1


class Shrinking:
    """A denoiser whose error is known: it answers a constant times the picture plus the noise."""

    layers, fingerprint = (), "0" * 12

    def __init__(self, share: float, noising: str = "sigma"):
        self.share, self.noising, self.calls = share, noising, 0

    def __call__(self, x, sigma):
        self.calls += 1
        return self.share * x


def test_the_figure_is_what_it_says():
    x0 = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    model = Shrinking(0.5)
    errors = denoising_error(model, x0, 0.5)
    expected = (0.25 * x0.square().mean((1, 2, 3)) + 0.25 * 0.25).sqrt()  # 0.5 (x0 + 0.5 n) - x0
    assert model.calls == NOISES and torch.allclose(errors, expected, rtol=0.05)
    assert torch.equal(errors, denoising_error(model, x0, 0.5))  # the noises are fixed
    alone = denoising_error(model, x0[1:], 0.5)
    assert torch.allclose(alone, errors[1:])  # and the same for every picture
    flow = denoising_error(Shrinking(2.0, "flow"), x0, 0.5)
    assert torch.allclose(flow, torch.ones(2), atol=0.05)  # 2 (x0 / 2 + n / 2) - x0 = n


def test_the_level_grows_with_the_side():
    assert middle_level(64) == 0.85 and middle_level(256) == pytest.approx(3.4)
    assert middle_level(64, "flow") == pytest.approx(0.85 / 1.85)


def test_a_reference_is_five_rising_numbers():
    reference = reference_from(torch.linspace(1, 2, 101), 0.85, "test")
    assert len(reference.quantiles) == len(QUANTILES) and reference.median == 1.5
    for wrong in ((1.0, 1.0), (2.0, 1.0, 1.5, 1.6, 1.7), (0.0, 1.0, 1.0, 1.0, 1.0)):
        with pytest.raises(ValueError, match="5 rising"):
            WorldReference(0.85, wrong, "test")


def test_the_verdict():
    narrow = WorldReference(0.85, (0.9, 0.95, 1.0, 1.05, 1.1), "test")
    wide = WorldReference(0.85, (0.5, 0.6, 1.0, 1.9, 2.0), "test")
    fact = compare(narrow, torch.tensor([1.24, 1.3]))
    assert (fact.usual, fact.limit) == (USUAL, LIMIT) and not fact.is_usual and not fact.is_outside
    text = world_text(fact)
    assert "unusual" in text and "picture 2 of 2" in text and "1.3" in text
    assert world_text(compare(narrow, torch.tensor([1.24]))) == ""
    assert "not a picture of this model's world" in world_text(compare(narrow, torch.tensor([1.75])))
    assert compare(wide, torch.tensor([1.9])).is_usual and not compare(wide, torch.tensor([2.6])).is_outside


def test_the_embedded_reference_is_that_of_the_paper_trail(face_model, faces):
    reference = KNOWN_WORLDS[face_model.fingerprint]
    assert reference.sigma == 0.85 and reference.median == pytest.approx(0.0835, rel=0.03)
    assert reference.quantiles[0] == pytest.approx(0.0707, rel=0.03)
    assert reference.quantiles[-1] == pytest.approx(0.0967, rel=0.03)
    fact = compare(reference, denoising_error(face_model, faces, reference.sigma))
    assert fact.is_usual and 0.93 < sorted(fact.ratios)[12] < 1.05


def test_what_is_no_face_is_outside(face_model, faces):
    g = torch.Generator().manual_seed(0)
    others = torch.cat(
        [
            faces[:1].flip(2),  # upside down
            -faces[:1],  # negative
            torch.rand(1, 3, 64, 64, generator=g) * 2 - 1,
            torch.ones(1, 3, 64, 64),
            torch.linspace(-1, 1, 64).expand(1, 3, 64, 64),
        ]
    )
    reference = KNOWN_WORLDS[face_model.fingerprint]
    fact = compare(reference, denoising_error(face_model, others, reference.sigma))
    assert min(fact.ratios) > LIMIT and fact.is_outside


def test_a_model_makes_its_own_reference(face_model):
    """Its samples lie within 0.88 and 1.14 of the stored median."""
    own = draw_reference(face_model, (3, 64, 64), karras(15, float(face_model.schedule.sigmas[-1])), 0.85)
    known = KNOWN_WORLDS[face_model.fingerprint]
    assert 0.85 < own.quantiles[0] / known.median and own.quantiles[-1] / known.median < 1.17
    assert own.median / known.median == pytest.approx(0.98, abs=0.05) and "16 pictures" in own.source
