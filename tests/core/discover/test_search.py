"""A search for directions with its settings in one place, and what people are told of sets."""

import pytest
import torch

from core.discover.average import agreement_text
from core.discover.difference import check_comparable, check_levels
from core.discover.find import discover
from core.discover.search import RegionSearch
from core.discover.track import levels_down, track, track_text


def test_it_is_discovery_and_tracking_with_these_settings(small, small_trajectory):
    search, one = RegionSearch(k=2, mode="none", iterations=2, seed=3), small_trajectory.image(0)
    x, sigma = one.states[2], float(one.sigmas[2])
    directions, _ = discover(small, x, sigma, k=2, mode="none", iterations=2, seed=3)
    assert torch.equal(search.at(small, x, sigma)[0].vectors, directions.vectors)
    followed, report = track(small, one, None, [2, 3], k=2, mode="none", iterations=2, seed=3)
    assert torch.equal(search.along(small, one, [2, 3])[0].vectors, followed.vectors)
    assert track_text(followed, report).count("\n") == 3  # a line a level, a line a direction
    assert track_text(followed, {**report, "cosines": torch.zeros(0, 2)}).count("\n") == 1


def test_levels_go_down_in_equal_factors():
    assert levels_down(8.0, 1.0, 4) == pytest.approx([8.0, 4.0, 2.0, 1.0])
    assert levels_down(8.0, 1.0, 1) == [8.0]
    with pytest.raises(ValueError, match="sigma_start must be at least sigma_end, got 1 and 2"):
        levels_down(1.0, 2.0, 3)


def test_two_sets_must_be_comparable(small_trajectory):
    check_comparable(small_trajectory, small_trajectory.image(0))
    check_levels([1.0, 1.0005])
    with pytest.raises(ValueError, match="same sigmas"):
        check_levels([1.0, 1.1])


def test_agreement_is_told_by_direction():
    text = agreement_text(torch.tensor([[0.9, 0.5], [0.7, 0.5]]))
    assert (
        text
        == "#1: mean cosine with a picture's own 0.80, least 0.70\n#2: mean cosine with a picture's own 0.50, least 0.50"
    )
