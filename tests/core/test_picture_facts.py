"""What a trajectory remembers of its pictures travels on its socket, and old trajectories have none of it."""

import pytest
import torch

from core.payload import trajectory_from_payload, trajectory_to_payload
from core.picture_facts import PictureFit, WorldFact
from core.trajectory import Trajectory

FIT = PictureFit((300, 400), (50, 0, 350, 300), (64, 64))
WORLD = WorldFact(0.85, (0.9, 2.5), 1.25, 1.7)


def path(**facts) -> Trajectory:
    states = torch.rand(3, 2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return Trajectory(torch.tensor([2.0, 1.0, 0.0], dtype=torch.float64), states, "0123456789ab", **facts)


def test_facts_travel_as_plain_values():
    payload = trajectory_to_payload(path(fit=FIT, world=WORLD))
    assert payload["fit"] == {"source": [300, 400], "box": [50, 0, 350, 300], "size": [64, 64]}
    assert payload["world"] == {"sigma": 0.85, "ratios": [0.9, 2.5], "usual": 1.25, "limit": 1.7}
    back = trajectory_from_payload(payload)
    assert back.fit == FIT and back.world == WORLD


def test_trajectories_of_before_have_none():
    payload = trajectory_to_payload(path())
    assert payload["fit"] is None and payload["world"] is None
    for name in ("fit", "world"):
        del payload[name]
    back = trajectory_from_payload(payload)
    assert back.fit is None and back.world is None
    assert trajectory_from_payload({**payload, "version": 1, "extra": {}}).world is None


def test_one_picture_of_a_batch_has_its_own():
    assert path(world=WORLD).image(1).world.ratios == (2.5,) and path(world=WORLD).image(0).world.is_usual
    assert path(world=WORLD).image(1).repeat(3).world.ratios == (2.5, 2.5, 2.5)
    assert WORLD.worst == 2.5 and WORLD.is_outside and not WORLD.is_usual


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"fit": {"source": [300, 400], "box": [50, 0, 50, 300], "size": [64, 64]}}, "box"),
        ({"fit": {"source": [300], "box": [50, 0, 350, 300], "size": [64, 64]}}, "source"),
        ({"fit": {"source": [300, 400.0], "box": [50, 0, 350, 300], "size": [64, 64]}}, "source"),
        ({"fit": {}}, "source"),
        ({"fit": []}, "fit"),
        ({"world": {"sigma": 0.85, "ratios": [0.9], "usual": 1.25, "limit": 1.7}}, "2 ratios"),
        ({"world": {"sigma": 0.85, "ratios": [0.9, float("nan")], "usual": 1.25, "limit": 1.7}}, "finite"),
        ({"world": {"sigma": 0.85, "ratios": "ab", "usual": 1.25, "limit": 1.7}}, "ratios"),
        ({"world": {"sigma": 0.85, "ratios": [0.9, 1.0], "usual": 1.8, "limit": 1.7}}, "usual"),
        ({"world": {"sigma": "a", "ratios": [0.9, 1.0], "usual": 1.25, "limit": 1.7}}, "sigma"),
    ],
)
def test_damaged_facts_are_refused(facts, message):
    with pytest.raises(ValueError, match=message):
        trajectory_from_payload({**trajectory_to_payload(path()), **facts})
