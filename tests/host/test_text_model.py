"""The text-conditional face model in stock nodes."""

import numpy as np

from .graphs import pictures
from .text_graphs import sampled, text_model


def test_stock_samplers_and_prompts(server):
    prompt = {**text_model(), **sampled("a"), **sampled("again", seed=6)}
    result = server.queue(prompt, timeout=300)
    a, again = (pictures(server, result, f"keep {n}")[0].astype(int) for n in ("a", "again"))
    assert a.shape == (64, 64, 3) and a.std() > 20 and np.abs(a - again).mean() > 3
