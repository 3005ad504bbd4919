"""The identity of two attentions against dense probability maps, and the local blend against its definition."""

import pytest
import torch

from core.edit.attention.local_blend import attention_map, blend, blend_mask, map_level, target_masks
from core.edit.attention.prompt_to_prompt import mix_values, word_control
from core.schedule import in_steps

from .test_tokens import CHUNK, prompt

HEADS, QUERIES, DIM, STEPS = 3, 20, 8, 10
PAIRS = {
    "replace": (prompt("a", "cat", "sat"), prompt("a", "moof", "sat")),
    "refine": (prompt("a", "cat"), prompt("a", "big", "cat")),
    "delete": (prompt("a", "big", "cat"), prompt("a", "cat")),
    "chunks": (prompt("ab", "cde", "fgh", chunks=2), prompt("ab", "xyzw", "cde", "fgh")),
}


def split(t):
    return t.unflatten(-1, (HEADS, DIM)).transpose(1, 2)


def attend(q, k, v):
    return torch.nn.functional.scaled_dot_product_attention(split(q), split(k), split(v)).transpose(1, 2).flatten(2)


def maps(q, k):
    return (split(q) @ split(k).transpose(-1, -2) * DIM**-0.5).softmax(-1)


def literal(m_s, m_t, source, target, mode, weights, window, windows, step):
    """The controllers as the paper describes them: columns of maps, one word after the other."""
    from core.edit.attention.tokens import token_map

    shares, alpha = token_map(source, target, mode)
    out = m_t.clone()
    edges = {j: window for j in range(len(target.ids))} | {
        j: w for word, w in windows.items() for j in target.find(word)
    }
    factor = {j: c for word, c in weights.items() for j in target.find(word)}
    for j, (start, end) in edges.items():
        if not int(start * (STEPS + 1)) <= step < int(end * (STEPS + 1)):
            continue
        taken = sum(shares[i, j] * m_s[..., i] for i in range(len(source.ids)))
        edited = alpha[j] * taken + (1 - alpha[j]) * m_t[..., j]
        out[..., j] = factor.get(j, 1.0) * edited
    return out


@pytest.mark.parametrize("repeats", [1, 2])
@pytest.mark.parametrize("step", [0, 3, 6, 8, 10])
@pytest.mark.parametrize("mode", ["replace", "refine"])
@pytest.mark.parametrize("pair", PAIRS)
def test_two_attentions_equal_edited_maps(pair, mode, step, repeats):
    source, target = PAIRS[pair]
    length = len(source.ids)
    weights, window, windows = (
        {"cat": 2.5, "sat": -1.0},
        (0.0, 0.6),
        {"cat": (0.2, 0.9), "a": (0.5, 0.7), "moof": (0.0, 0.4)},
    )
    q_s, q_t = torch.randn(2, 1, QUERIES, HEADS * DIM, dtype=torch.float64)
    k_s, k_t, v_t = torch.randn(3, 1, length, HEADS * DIM, dtype=torch.float64)
    dense = literal(maps(q_s, k_s), maps(q_t, k_t), source, target, mode, weights, window, windows, step)
    expected = (dense @ split(v_t)).transpose(1, 2).flatten(2)
    found = word_control(source, target, mode, window, weights, windows).at(step, STEPS)
    k_s, k_t, v_t = (t.repeat(1, repeats, 1) for t in (k_s, k_t, v_t))
    if found is None:
        assert torch.equal(dense, maps(q_t, k_t[:, :length]))
        return
    taken, own = mix_values(v_t, found[0][None], found[1][None])
    assert (attend(q_s, k_s, taken) + attend(q_t, k_t, own) - expected).abs().max() < 1e-12
    averaged = (
        attention_map(q_s, k_s[:, :length], HEADS).double() @ found[0]
        + attention_map(q_t, k_t[:, :length], HEADS) * found[1]
    )
    assert (averaged - dense.mean(1)).abs().max() < 1e-6


def test_nothing_outside_of_the_windows():
    source, target = PAIRS["replace"]
    assert word_control(source, target, window=(0.0, 0.0), weights={"sat": 3.0}).at(0, STEPS) is None
    control = word_control(source, target, window=(0.3, 0.6))
    assert [control.at(i, STEPS) is not None for i in range(STEPS)] == [
        int(0.3 * 11) <= i < int(0.6 * 11) for i in range(STEPS)
    ]
    with pytest.raises(ValueError, match="window"):
        word_control(source, target, window=(0.6, 0.3))


def test_values_keep_their_type():
    control = word_control(*PAIRS["replace"]).at(0, STEPS)
    taken, own = mix_values(torch.randn(1, CHUNK, 4, dtype=torch.float16), control[0][None], control[1][None])
    assert taken.dtype == own.dtype == torch.float16


def test_windows_round_as_the_paper():
    assert [in_steps((0.0, 0.4), i, 50) for i in range(50)] == [i < 20 for i in range(50)]
    assert [in_steps((0.0, 0.29), i, 100) for i in range(100)] == [i < 29 for i in range(100)]
    assert not any(in_steps((0.0, 0.0), i, 7) for i in range(7)) and all(in_steps((0.0, 1.0), i, 7) for i in range(7))


def test_blend_mask_against_loops():
    maps, size = torch.rand(3, 4, 5), (8, 10)
    found = blend_mask(maps, size, 0.6)
    for r in range(3):
        for y in range(size[0]):
            for x in range(size[1]):
                hit = False
                for row in (0, r):
                    near = maps[row, max(y // 2 - 1, 0) : y // 2 + 2, max(x // 2 - 1, 0) : x // 2 + 2]
                    hit |= bool(near.max() > 0.6 * maps[row].max())
                assert found[r, y, x] == float(hit)
    assert blend_mask(maps, size, 0.6, pool=False).sum() < found.sum()


def test_blend_is_exact_at_both_ends():
    x, mask = torch.randn(3, 2, 4, 5), (torch.rand(3, 4, 5) > 0.5).float()
    out = blend(x, mask)
    for r in range(3):
        for c in range(2):
            inside = mask[r] > 0
            assert torch.equal(out[r, c][inside], x[r, c][inside]) and torch.equal(out[r, c][~inside], x[0, c][~inside])


def test_the_level_of_the_maps():
    assert map_level({0: 4096, 1: 1024, 2: 256, 3: 64}) == 2  # Stable Diffusion at 512
    assert map_level({0: 9216, 1: 2304, 2: 576, 3: 144}) == 2  # at 768
    assert map_level({1: 4096, 2: 1024}) == 2  # SDXL at 1024
    assert map_level({0: 256, 1: 64, 2: 16}) == 1  # the face model
    assert map_level({1: 64, 2: 16}) == 2


def test_masks_of_targets_grow_to_the_picture():
    mask = torch.rand(4, 2, 3)
    grown = target_masks(mask, 2, 8)
    assert torch.equal(grown, mask[[1, 3]].repeat_interleave(8, 1).repeat_interleave(8, 2))
