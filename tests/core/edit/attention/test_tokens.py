"""Token maps against the paper's rules written out."""

import itertools
import random

import pytest
import torch

from core.edit.attention.tokens import (
    Prompt,
    align,
    check_words,
    mark_words,
    parse_weights,
    parse_windows,
    token_map,
    tokens_from_payload,
    tokens_to_payload,
    window_of,
)

BEGIN, END, CHUNK = 1000, 1001, 12


def prompt(*words: str, chunks: int = 1, chunk: int = CHUNK) -> Prompt:
    """Every letter is a token, every word a group; words that do not fit go on in the next chunk."""
    ids, groups, rows = [], [], [[]]
    for word in words:
        if len(rows[-1]) + len(word) > chunk - 2:
            rows.append([])
        rows[-1].extend(word)
    rows += [[]] * (chunks - len(rows))
    it = iter(words)
    for row in rows:
        ids.append(BEGIN)
        at = 0
        while at < len(row):
            word = next(it)
            groups.append((word, tuple(range(len(ids), len(ids) + len(word)))))
            ids += [ord(letter) for letter in word]
            at += len(word)
        ids += [END] * (chunk - 1 - len(row))
    return Prompt(tuple(ids), tuple(groups), chunk)


def best(source, target) -> int:
    """Longest common subsequence by trying all."""
    for n in range(min(len(source), len(target)), 0, -1):
        if set(itertools.combinations(source, n)) & set(itertools.combinations(target, n)):
            return n
    return 0


def test_alignment_is_a_longest_common_subsequence():
    draw = random.Random(0)
    for _ in range(60):
        a, b = ([draw.randrange(4) for _ in range(draw.randrange(8))] for _ in range(2))
        found = align(a, b)
        pairs = [(i, j) for j, i in enumerate(found) if i >= 0]
        assert all(a[i] == b[j] for i, j in pairs) and len(pairs) == best(a, b)
        assert all(x < y for x, y in itertools.pairwise([i for i, _ in pairs]))


def test_ties_go_left_first():
    assert align([1, 2], [1, 2, 1, 2]) == [0, 1, -1, -1]


def test_one_word_of_as_many_tokens_is_replaced_one_to_one():
    a, b = prompt("a", "cat", "sat"), prompt("a", "dog", "sat")
    shares, alpha = token_map(a, b, "auto")
    assert torch.equal(shares, torch.eye(CHUNK, dtype=torch.float64)) and bool((alpha == 1).all())


def test_unequal_words_share_and_what_follows_is_not_shifted():
    a, b = prompt("a", "cat", "sat"), prompt("a", "moof", "sat")  # 3 tokens -> 4
    shares, alpha = token_map(a, b, "replace")
    expected = torch.zeros(CHUNK, CHUNK, dtype=torch.float64)
    for i, j in [(0, 0), (1, 1), (5, 6), (6, 7), (7, 8), (8, 9), *((i, i) for i in range(10, CHUNK))]:
        expected[i, j] = 1
    expected[2:5, 2:6] = 1 / 4
    assert torch.equal(shares, expected)
    assert torch.equal(alpha, torch.ones(CHUNK, dtype=torch.float64))


def test_words_are_paired_in_order_within_a_run():
    shares, _ = token_map(prompt("ab", "c", "x"), prompt("d", "ef", "x"), "replace")
    assert torch.equal(shares[1:3, 1], torch.ones(2).double()) and torch.equal(
        shares[3, 2:4], torch.full((2,), 0.5).double()
    )
    assert shares[1:3, 2:4].abs().sum() == 0 and shares[3, 1] == 0


def test_runs_of_different_numbers_of_words_are_paired_as_wholes_and_keep_their_mass():
    shares, alpha = token_map(prompt("ab", "c", "x"), prompt("defg", "x"), "replace")
    assert torch.allclose(shares[1:4, 1:5], torch.full((3, 4), 0.25).double())
    assert torch.allclose(shares[1:4].sum(1), torch.ones(3).double()) and alpha[1:5].all()


@pytest.mark.parametrize("mode", ["replace", "refine"])
def test_inserted_words_keep_their_map_and_deleted_ones_vanish(mode):
    short, long = prompt("a", "cat"), prompt("a", "big", "cat")
    shares, alpha = token_map(short, long, mode)
    assert alpha[2:5].sum() == 0 and shares[:, 2:5].abs().sum() == 0
    assert all(shares[i, j] == 1 for i, j in [(0, 0), (1, 1), (2, 5), (3, 6), (4, 7), (5, 8), (9, 9), (11, 11)])
    shares, alpha = token_map(long, short, mode)
    assert shares[2:5].abs().sum() == 0 and all(shares[i, j] == 1 for i, j in [(5, 2), (6, 3), (7, 4), (8, 5), (9, 9)])
    assert alpha[6:9].sum() == 0  # padding where the source has words: its own map


def test_refine_keeps_the_map_of_substituted_words():
    shares, alpha = token_map(prompt("a", "cat", "sat"), prompt("a", "dog", "sat"), "refine")
    assert alpha[2:5].sum() == 0 and shares[:, 2:5].abs().sum() == 0 and alpha[5:].all()


def test_auto_replaces_for_equally_many_words_only():
    a = prompt("a", "cat", "sat")
    for other in (prompt("a", "dog", "sat"), prompt("a", "big", "cat", "sat")):
        mode = "replace" if len(other.words) == len(a.words) else "refine"
        assert torch.equal(token_map(a, other)[0], token_map(a, other, mode)[0])


def test_prompts_of_several_chunks():
    """A word pushed into the next chunk is found there; begins, ends and padding answer each other chunk by chunk."""
    a = prompt("ab", "cde", "fgh", chunks=2)
    b = prompt("ab", "xyzw", "cde", "fgh")
    assert len(a.ids) == len(b.ids) == 2 * CHUNK
    shares, alpha = token_map(a, b, "refine")
    where = {text: at for text, at in b.words}
    for text, at in a.words:
        assert all(shares[i, j] == 1 for i, j in zip(at, where[text], strict=True))
    assert where["fgh"][0] > CHUNK and shares[CHUNK, CHUNK] == 1 and shares[a.end(1), b.end(1)] == 1
    assert alpha[list(where["xyzw"])].sum() == 0


def test_a_prompt_against_itself_is_the_identity():
    a = prompt("ab", "cde", "ab", "fgh", chunks=2)
    for mode in ("replace", "refine", "auto"):
        shares, alpha = token_map(a, a, mode)
        assert torch.equal(shares, torch.eye(len(a.ids), dtype=torch.float64)) and alpha.all()


def test_find():
    a = prompt("red", "hair", "a", "red", "h")
    assert a.find("Red") == [*a.words[0][1], *a.words[3][1]]
    assert a.find("red hair") == [*a.words[0][1], *a.words[1][1]]
    assert a.find("re") == [] and a.find("hairy") == []


def test_words_are_marked_in_every_prompt():
    prompts = [prompt("red", "hair"), prompt("a", "hat")]
    marks = mark_words(prompts, ["hair", "hat"])
    for row, phrase, one in zip(marks, ("hair", "hat"), prompts, strict=True):
        assert row.nonzero().flatten().tolist() == one.find(phrase)
    assert mark_words(prompts, []) is None
    check_words(["red", "hat"], prompts, "words")
    with pytest.raises(ValueError, match="words: 'blue' is not among the words of the prompts"):
        check_words(["blue"], prompts, "words")


def test_windows_of_controls():
    assert window_of("cross", 0.1, 0.8) == (0.1, 0.8) and window_of("self", 0.5, 0.0) == (0.0, 0.0)
    with pytest.raises(ValueError, match=r"cross_start 0\.8 lies behind cross_end 0\.5"):
        window_of("cross", 0.8, 0.5)


def test_texts():
    assert parse_weights("red: 2, long hair: 1.5\n") == {"red": 2.0, "long hair": 1.5}
    assert parse_windows("red: 0-0.5; hair: 0.8, a b: .2..1") == {"red": (0, 0.5), "hair": (0, 0.8), "a b": (0.2, 1)}
    assert parse_weights("") == {} and parse_weights("red:-1") == {"red": -1.0}
    for text in ("red", "red: two", ": 2", "red: inf"):
        with pytest.raises(ValueError, match="reweights"):
            parse_weights(text)
    for text in ("red: 0.8-0.2", "red: 2"):
        with pytest.raises(ValueError, match="window"):
            parse_windows(text)


def test_payload_and_bad_prompts():
    rows = [prompt("a", "cat"), prompt("a", "dog")]
    assert tokens_from_payload(tokens_to_payload(rows)) == rows
    payload = tokens_to_payload(rows)
    for bad in (None, {}, {**payload, "prompts": payload["prompts"][:1]}, {**payload, "prompts": [{}]}):
        with pytest.raises(ValueError, match="HSPACE_TOKENMAP"):
            tokens_from_payload(bad)
    with pytest.raises(ValueError, match="one length"):
        token_map(prompt("a"), prompt("a", chunks=2))
    with pytest.raises(ValueError, match="mode"):
        token_map(*rows, "swap")
    with pytest.raises(ValueError, match="whole chunks"):
        Prompt((1, 2, 3), (), 2)
    with pytest.raises(ValueError, match="reading order"):
        Prompt((1, 2, 3, 4), (("a", (2, 1)),), 4)
