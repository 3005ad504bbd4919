"""Concept guidance: the released formula in eps, its masks, what the dials do and refuse."""

import math

import pytest
import torch

from core.edit.noise.ledits import (
    Concept,
    attention_mask,
    change_mask,
    concepts_from_payload,
    concepts_to_payload,
    guided,
    share_done,
    smoothed,
)


def predictions(k=2, b=2):
    g = torch.Generator().manual_seed(6)
    return [torch.randn(b, 4, 8, 12, generator=g, dtype=torch.float64) for _ in range(k + 1)]


def released(eps_u, eps, concepts):
    """LEDITS++'s loop over the concepts, in eps (implicit mask alone)."""
    total = torch.zeros_like(eps_u)
    for e, c in zip(eps, concepts, strict=True):
        guidance = e - eps_u
        if c.reverse:
            guidance = guidance * -1
        guidance = guidance * c.scale
        size = guidance.abs().sum(1, keepdim=True).repeat(1, eps_u.shape[1], 1, 1)
        limit = torch.quantile(size.flatten(2).float(), c.threshold, dim=2)
        total += torch.where(size >= limit[:, :, None, None], guidance, torch.zeros_like(guidance))
    return eps_u + total


def test_the_released_formula_in_denoised_pictures():
    base, *seen = predictions()
    concepts = [Concept(7.0, 0.83), Concept(3.0, 0.57, reverse=True)]
    x, sigma = torch.randn_like(base), 1.7
    eps = [(x - d) / sigma for d in (base, *seen)]
    expected = x - sigma * released(eps[0], eps[1:], concepts)
    assert float((guided(base, seen, concepts) - expected).abs().max()) < 1e-12


def test_attention_says_where_pixel_by_pixel():
    """M1 with the Gaussian, its reflected border and the enlargement written out; both masks must agree."""
    g = torch.Generator().manual_seed(3)
    maps, threshold, (base, one) = torch.rand(2, 5, 7, generator=g), 0.7, predictions(1)
    bell = [math.exp(-(((i - 1) / (2 * 0.5)) ** 2)) for i in range(3)]
    at = lambda i, n: -i if i < 0 else 2 * (n - 1) - i if i >= n else i  # noqa: E731
    expected = torch.zeros(2, 1, 10, 14)
    for b in range(2):
        smooth = torch.zeros(5, 7)
        for y in range(5):
            for x in range(7):
                near = [
                    (maps[b, at(y + i, 5), at(x + j, 7)] * bell[i + 1] * bell[j + 1])
                    for i in (-1, 0, 1)
                    for j in (-1, 0, 1)
                ]
                smooth[y, x] = sum(near) / sum(bell) ** 2
        found = smooth >= smooth.flatten().sort().values[int(0.7 * 34 + 0.999)]
        expected[b, 0] = found.repeat_interleave(2, 0).repeat_interleave(2, 1).float()
    assert torch.equal(attention_mask(maps, (10, 14), threshold), expected)
    place, concept = attention_mask(maps, (8, 12), threshold), Concept(5.0, 0.4)
    both = guided(base, [one], [concept], None, [place])
    assert torch.allclose(both, base + 5 * change_mask(one - base, 0.4) * place * (one - base), atol=1e-12)
    assert torch.equal(guided(base, [one], [concept], None, [None]), guided(base, [one], [concept]))


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.9])
def test_a_quantile_lets_its_share_through(threshold):
    mask = change_mask(predictions()[0], threshold)
    assert mask.shape == (2, 1, 8, 12)
    assert torch.allclose(mask.mean((1, 2, 3)), torch.full((2,), 1 - threshold, dtype=torch.float64), atol=0.02)


def test_one_concept_of_all_pixels_is_classifier_free_guidance():
    base, one = predictions(1)
    assert torch.allclose(guided(base, [one], [Concept(3.0, 0.0)]), base + 3 * (one - base), atol=1e-12)
    away = guided(base, [one], [Concept(3.0, 0.0, reverse=True)])
    assert torch.allclose(away, base - 3 * (one - base), atol=1e-12)


def test_nothing_is_nothing_and_the_users_mask_limits():
    base, one = predictions(1)
    assert guided(base, [], []) is base
    mask = torch.zeros(1, 1, 8, 12, dtype=torch.float64)
    mask[..., :6] = 1
    found = guided(base, [one], [Concept(5.0, 0.3)], mask)
    assert torch.equal(found[..., 6:], base[..., 6:]) and not torch.equal(found[..., :6], base[..., :6])


def test_a_drawn_mask_weakens_the_change_before_its_quantile_is_taken():
    """As the released code: a mask of a tenth of the picture passes whole at threshold 0.9, not a tenth of it."""
    g = torch.Generator().manual_seed(0)
    base, one = (torch.randn(1, 4, 64, 64, generator=g) for _ in range(2))
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 20:40, 22:43] = 1  # 10.3 %
    changed = (guided(base, [one], [Concept(5.0, 0.9)], mask) != base).any(1)
    assert 0.09 <= float(changed.float().mean()) <= float(mask.mean()) and not bool((changed & (mask[:, 0] == 0)).any())
    # Half a mask counts half, and where it is thinner than what passes, it is the mask that limits.
    eps = (base - one).double() * mask.double() * 0.5
    soft = guided(base.double(), [one.double()], [Concept(5.0, 0.95)], 0.5 * mask.double())
    size = eps.abs().sum(1, keepdim=True)
    expected = base - 5 * eps * (size >= torch.quantile(size.flatten(), 0.95))
    assert float((soft - expected).abs().max()) < 1e-6 and 0.049 < float((soft != base).any(1).double().mean()) < 0.051


def test_maps_are_smoothed_by_the_released_kernel():
    """exp(-((x - 1) / (2 * 0.5))^2) a direction: a Gaussian of 0.71 pixels, not of 0.5."""
    point = torch.zeros(1, 5, 5)
    point[0, 2, 2] = 1.0
    bell = torch.tensor([math.exp(-1), 1.0, math.exp(-1)])
    kernel = bell[:, None] * bell / bell.sum() ** 2
    assert torch.allclose(smoothed(point)[0, 0, 1:4, 1:4], kernel, atol=1e-7)
    assert abs(math.sqrt(-1 / (2 * math.log(float(kernel[1, 0] / kernel[1, 1])))) - 0.71) < 0.01


def test_steps_are_counted_by_their_level():
    sigmas = [14.0, 6.0, 2.0, 0.5, 0.0]
    assert [share_done(s, sigmas) for s in sigmas] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert share_done(5.9999998, sigmas) == 0.25 == share_done(6.0000003, sigmas)  # float32 on the way
    assert share_done(3.0, sigmas) == 0.5  # between two levels: the lower step has not begun
    concept = Concept(5.0, warm_up=0.25, cool_down=0.75)
    assert [concept.acts(share_done(s, sigmas)) for s in sigmas[:-1]] == [False, True, True, False]
    assert not Concept(0.0).acts(0.5) and Concept().acts(0.0)


def test_what_is_refused():
    for options, word in (
        ({"scale": -1.0}, "reverse"),
        ({"scale": float("nan")}, "scale"),
        ({"threshold": 1.2}, "threshold"),
        ({"warm_up": 0.6, "cool_down": 0.5}, "warm_up"),
    ):
        with pytest.raises(ValueError, match=word):
            Concept(**options)
    prompt = [[torch.zeros(1, 2, 3), {}]]
    payload = concepts_to_payload([(prompt, Concept(2.0, reverse=True))])
    assert concepts_from_payload(payload) == [(prompt, Concept(2.0, reverse=True))]
    entry = payload["concepts"][0]
    for broken in (
        None,
        [],
        {"format": "hspace.directions", "version": 1},
        {**payload, "version": 2},
        {**payload, "concepts": [{"scale": 1.0}]},
        {**payload, "concepts": None},
        {**payload, "concepts": ["x"]},
        {**payload, "concepts": [{**entry, "scale": "x"}]},
        {**payload, "concepts": [{**entry, "reverse": 1}]},
        {**payload, "concepts": [{**entry, "tokens": [-1]}]},
        {**payload, "concepts": [{**entry, "conditioning": [[None, {}]]}]},
    ):
        with pytest.raises(ValueError, match="HSPACE_CONCEPTS"):
            concepts_from_payload(broken)
