"""Blocks of the feature methods: the papers' own on Stable Diffusion 1.x, the same depth elsewhere."""

import pytest

from core.edit.attention.feature_blocks import PRESETS, Recipe, parse_blocks, preset

COARSE = [("input", 7), ("middle", 0), ("output", 3)]


def numbers(blocks):
    assert all(name == "output" for name, _ in blocks)
    return sorted(n for _, n in blocks)


def test_stable_diffusion_has_the_papers_blocks():
    pnp = preset("PnP", 12, COARSE)
    assert numbers(pnp.hidden) == [4] and numbers(pnp.queries) == list(range(4, 12)) and not pnp.keys
    assert (pnp.tau_f, pnp.tau_a, pnp.start) == (0.8, 0.5, 0)
    masa = preset("MasaCtrl", 12, COARSE)
    assert numbers(masa.keys) == list(range(6, 12)) and masa.start == 0.08 and not masa.queries
    assert preset("P2P self", 12, COARSE).queries == frozenset(COARSE) and preset("P2P self", 12, COARSE).positive_only


def test_other_networks():
    assert numbers(preset("PnP", 6, COARSE).hidden) == [2] and numbers(preset("PnP", 6, COARSE).queries) == [2, 3, 4, 5]
    sdxl = preset("PnP", 9, COARSE, sdxl=True)
    assert numbers(sdxl.hidden) == [1] and numbers(sdxl.queries) == [1, 2, 3, 4, 5]


def test_windows_in_steps():
    pnp = preset("PnP", 12, COARSE)
    acting = [pnp.at(i, 50) for i in range(50)]
    assert [bool(a and a.hidden) for a in acting] == [i < 40 for i in range(50)]
    assert [bool(a and a.queries) for a in acting] == [i < 25 for i in range(50)]
    masa = preset("MasaCtrl", 12, COARSE)
    assert [masa.at(i, 50) is not None for i in range(50)] == [i >= 4 for i in range(50)]
    assert [masa.at(i, 25) is not None for i in range(25)] == [
        i >= 2 for i in range(25)
    ]  # half as many steps, half as late
    assert all(Recipe(hidden=pnp.hidden).at(i, 5) is None for i in range(5))
    for name in PRESETS[:-1]:
        assert preset(name, 12, COARSE).at(4, 50) is not None
    assert preset("custom", 12, COARSE).at(0, 50) is None


def test_blocks_as_text():
    known = [("input", 7), ("input", 8), ("middle", 0), *(("output", i) for i in range(12))]
    assert parse_blocks(" 4-6, middle;Input 7-8\n9", known) == {
        ("input", 7),
        ("input", 8),
        ("middle", 0),
        *(("output", i) for i in (4, 5, 6, 9)),
    }
    assert parse_blocks("none", known) == parse_blocks("", known) == frozenset()
    for text, words in (("four", "must read like"), ("12", "output 12"), ("input 1", "input 1")):
        with pytest.raises(ValueError, match=words):
            parse_blocks(text, known)
    with pytest.raises(ValueError, match="preset"):
        preset("pnp", 12, COARSE)


def test_a_recipe_fits_a_network_and_says_what_it_takes():
    recipe = Recipe(
        hidden=frozenset([("output", 4)]), queries=frozenset([("output", 4), ("output", 9)]), tau_f=0.8, tau_a=0.5
    )
    fitted = recipe.within([("output", 4)], [("output", 9)])
    assert fitted.hidden == {("output", 4)} and fitted.queries == {("output", 9)} and not fitted.keys
    moved = fitted.moved(-1.0, 0.3, 0.1)
    assert (moved.tau_f, moved.tau_a, moved.start) == (0.8, 0.3, 0.1)
    assert moved.text == "residual: output 4; steps from 10% to 80%\nqueries and keys: output 9; steps from 10% to 30%"
