"""The directional loss, and the prompts it is of."""

import math

import pytest
import torch

from core.train.directional import directional, similarity, text_direction

from ..tiny import NAMES, Colours


def test_directional_loss():
    space = Colours()
    to_red, cosine = text_direction(space, "grey", "red")
    assert float(to_red.norm()) == pytest.approx(1) and 0 < cosine < 1
    start = torch.zeros(1, 3, 8, 8)
    origin = space.embed_image(start)
    red, blue = (torch.tensor(NAMES[c])[None, :, None, None].expand(1, 3, 8, 8) * 0.5 for c in ("red", "blue"))
    losses = [float(directional(space, x, origin, to_red, log=False)) for x in (red, start, blue)]
    assert losses[0] < 0.2 < losses[1] < losses[2]
    logs = [float(directional(space, x, origin, to_red)) for x in (red, start, blue)]
    assert logs == pytest.approx([-math.log((2 - v) / 2) for v in losses], rel=1e-3)
    x = start.clone().requires_grad_(True)
    directional(space, x, origin, to_red).sum().backward()
    assert float(x.grad[:, 0].sum()) < 0 < float(x.grad[:, 2].sum())  # redder, less blue
    assert float(similarity(space, red, start, ("grey", "red"))) > 0.9
    assert float(similarity(space, blue, start, ("grey", "red"))) < 0.5


@pytest.mark.parametrize(
    ("source", "target", "word"),
    [("", "red", "source prompt is empty"), ("red", " ", "target prompt"), ("red", "red", "mean the same")],
)
def test_prompts_without_a_direction_are_refused(source, target, word):
    with pytest.raises(ValueError, match=word):
        text_direction(Colours(), source, target)
