"""The shipped embedder finds held-out faces by their captions, and is differentiable in the picture."""

import pytest
import torch

from core.embedder import Embedder
from core.faces.embedder import load_embedder
from core.faces.factors import sample
from core.train.directional import TEMPLATES, text_direction
from scripts.train_face_embedder import retrieval


def test_it_finds_faces_by_their_captions(device):
    space = load_embedder("weights/face_embedder.safetensors", device)
    assert isinstance(space, Embedder)
    found = retrieval(space, sample(4096, torch.Generator().manual_seed(90), held_out=True))
    assert found["captions"] == 256
    assert found["text to image R@1"] >= 0.6 and found["image to a true caption"] >= 0.8
    x = torch.zeros(1, 3, 64, 64, device=device, requires_grad=True)
    space.embed_image(x)[:, 0].sum().backward()
    assert float(x.grad.abs().max()) > 0


def test_its_directions_mean_what_they_say(device):
    """A smile moves a picture along the smile's direction more than along any other."""
    from core.faces.render import render

    space = load_embedder("weights/face_embedder.safetensors", device)
    factors = sample(32, torch.Generator().manual_seed(91), held_out=True)
    targets = {
        "smiling face": ("smile", 0.8),
        "face with glasses": ("glasses", 1.0),
        "face with red hair": ("hair_color", 3.0),
    }
    off = {"smile": -0.3, "glasses": 0.0, "hair_color": 1.0}
    directions = torch.stack([text_direction(space, "face", t)[0] for t in targets])
    for row, (factor, value) in enumerate(targets.values()):
        a, b = ({**factors, factor: torch.full_like(factors[factor], v)} for v in (off[factor], value))
        with torch.no_grad():
            one, two = (space.embed_image(render(f, 64, device=device)[0] * 2 - 1) for f in (a, b))
        moved = ((two - one) @ directions.T).mean(0)
        assert int(moved.argmax()) == row and float(moved[row]) > 0.1


def test_words_that_the_face_world_has_not_are_refused_by_name(device):
    """Left out, they would leave a prompt that says something else, such as "face with a"."""
    net = load_embedder("weights/face_embedder.safetensors", device)
    for prompt, word in (
        ("face with a moustache", "moustache"),
        ("older looking face", "older"),
        ("face with a öl", "öl"),
    ):
        with pytest.raises(ValueError, match=f"knows not '{word}'"):
            net.embed_text([prompt])
    with pytest.raises(ValueError, match="no word that says something"):
        net.embed_text(["with a"])
    assert net.embed_text([t.format("smiling face") for t in TEMPLATES]).isfinite().all()
    with pytest.raises(ValueError, match="mean the same"):
        text_direction(net, "face", "the face")
