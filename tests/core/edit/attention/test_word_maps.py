"""Words in a picture: shares and contrasts against dense float64, thresholds, masks and what is refused."""

import pytest
import torch

from core.edit.attention.concept_attention import added_by, attend_beside, word_shares
from core.edit.attention.word_contrast import contrast
from core.edit.attention.word_mask import map_sheet, mask_of_words, otsu, parse_phrases, unit_map


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_words_attend_to_themselves_and_the_picture():
    q, k, v = (drawn(2, 3, 4, 8, seed=i) for i in range(3))
    keys, values = drawn(2, 3, 9, 8, seed=3), drawn(2, 3, 9, 8, seed=4)
    both = torch.cat([k, keys], 2).double()
    dense = (q.double() @ both.mT * 8**-0.5).softmax(-1) @ torch.cat([v, values], 2).double()
    found = attend_beside(q, k, v, (keys, values))
    assert torch.allclose(found.double(), dense.transpose(1, 2).flatten(2), atol=1e-6)


def test_every_place_is_shared_out():
    words, picture = drawn(5, 6), drawn(7, 6, seed=1)
    groups = [slice(0, 1), slice(1, 4), slice(4, 5)]
    found = word_shares(words, picture, groups)
    means = torch.stack([words[g].double().mean(0) for g in groups])
    scores = (means @ picture.double().T).exp()
    assert torch.allclose(found.double(), scores / scores.sum(0), atol=1e-6)
    assert torch.allclose(found.sum(0), torch.ones(7))


def test_a_word_adds_where_it_changes_the_output():
    plain = drawn(6, 4)
    word = plain.clone()
    word[2] += 3
    assert added_by(word, plain).tolist() == [0, 0, 6, 0, 0, 0]


def test_a_contrast_stands_where_answers_differ():
    first = drawn(2, 3, 26, 26)
    second = first.clone()
    second[..., 10:14, 4:8] += 1
    found = contrast([first, second])
    assert divmod(int(found.argmax()), 26)[0] in range(10, 14)
    assert float(found[20:].max()) == 0
    assert float(found.mean()) == pytest.approx(1, abs=1e-4)
    assert torch.allclose(contrast([second, first]), found)
    with pytest.raises(ValueError, match="two prompts"):
        contrast([first])


def test_a_flat_map_has_no_edge_in_a_contrast():
    """At the border the mean is over what lies inside, so that equal changes stay equal."""
    found = contrast([torch.zeros(1, 3, 26, 39), torch.ones(1, 3, 26, 39)])
    assert torch.allclose(found, torch.ones_like(found))


def test_the_threshold_is_that_of_every_threshold_tried():
    values = torch.cat([drawn(400).mul(0.05) + 0.25, drawn(100, seed=1).mul(0.05) + 0.75]).clamp(0, 1)

    def between(threshold):
        above = values > threshold
        share = above.double().mean()
        return share * (1 - share) * (values[above].double().mean() - values[~above].double().mean()) ** 2

    best = max(between(t) for t in torch.linspace(0.3, 0.7, 81))
    assert between(otsu(values)) >= best * 0.995


def test_masks_unite_words_and_leave_rivals_out():
    left, right = torch.zeros(4, 4), torch.zeros(4, 4)
    left[:, 0] = right[:, 3] = 1
    assert mask_of_words([left, right], [], 0.5).sum(0).tolist() == [4, 0, 0, 4]
    assert mask_of_words([left, right], [right * 2], 0.5).sum(0).tolist() == [4, 0, 0, 0]
    assert mask_of_words([left], [], 0.0).equal(left)


def test_unit_maps_reach_from_0_to_1():
    found = unit_map(drawn(3, 5), (30, 40))
    assert found.shape == (30, 40)
    assert (float(found.min()), float(found.max())) == (0, 1)


def test_phrases_are_read_and_refused():
    assert parse_phrases("hair, closed eyes / open  eyes\n a hat,") == [
        ["hair"],
        ["closed eyes", "open eyes"],
        ["a hat"],
    ]
    assert parse_phrases(" \n") == []
    for bad in ("hair /", "hair / hair", "hair, hair"):
        with pytest.raises(ValueError, match="words"):
            parse_phrases(bad)


def test_the_sheet_shows_every_map():
    sheet = map_sheet(drawn(3, 16, 16).clamp(-1, 1), ["hair"], [torch.rand(16, 16)], torch.ones(16, 16))
    wider = map_sheet(drawn(3, 16, 16).clamp(-1, 1), ["a", "b"], [torch.rand(16, 16)] * 2, torch.ones(16, 16))
    assert sheet.shape[0] == 1 and sheet.shape[-1] == 3 and wider.shape[2] > sheet.shape[2]
