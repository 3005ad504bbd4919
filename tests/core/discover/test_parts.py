"""Algebra part by part is algebra on the whole."""

import torch

from core.discover.parts import combined, products, weighted


def test_parts_are_the_whole():
    g = torch.Generator().manual_seed(0)
    a, b = (torch.randn(n, 150_000, generator=g) for n in (3, 5))
    weights, turn = torch.rand(150_000, generator=g), torch.randn(2, 5, generator=g, dtype=torch.float64)
    wide = a.double(), b.double()
    torch.testing.assert_close(products(a, b), wide[0] @ wide[1].T, rtol=1e-12, atol=1e-9)
    torch.testing.assert_close(weighted(a, b, weights), (wide[0] * weights.double()) @ wide[1].T, rtol=1e-12, atol=1e-9)
    torch.testing.assert_close(combined(turn, b), turn @ wide[1], rtol=1e-12, atol=1e-9)


def test_empty_rows():
    rows = torch.zeros(0, 7)
    assert products(torch.ones(2, 7), rows).shape == (2, 0) and combined(torch.zeros(2, 0), rows).shape == (2, 7)
