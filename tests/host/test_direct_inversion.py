"""Direct inversion: the source row of a pair comes back exactly."""

import json

import numpy as np
import pytest

from .feature_graphs import inject, inverted, out, resumed
from .graphs import half_mask, node, pictures, save
from .pair_graphs import SOURCE, TARGET, differences, local_blend, p2p


def test_direct_inversion_returns_the_source_exactly(server):
    """With guidance the source row drifts off; DirectInversion holds it, and Prompt-to-Prompt then keeps what the words
    do not touch."""
    prompt = inverted(2) | {
        "pair": node("HSpacePairConditioning", clip=["model", 1], source=SOURCE, targets=TARGET),
        "rows": node("HSpacePairLatent", latent=["invert", 1], rows=2),
        "edited": p2p(cross_end=0.4, self_end=0.6),
        "drifting": node("HSpaceResumeTrajectory", trajectory=["invert", 0], asymmetric=False, eta=0.0, direct=False),
        "true": node("VAEEncode", pixels=["face", 0], vae=["model", 2]),
        "both": node("HSpacePairLatent", latent=["true", 0], rows=2),
    }
    runs = {
        "direct": resumed("edited", "pair", 4.0, ("rows", 0)),
        "drift": resumed("edited", "pair", 4.0, ("rows", 0), ("drifting", 0), ("drifting", 1)),
    }
    for part in runs.values():
        prompt |= part
    names = out(runs["direct"]), out(runs["drift"])
    direct, drift, target = differences(server, prompt, ("both", names[0]), ("both", names[1]), names)
    assert direct["rows"][0] < 1e-6 and drift["rows"][0] > 1e-2
    assert (
        direct["rows"][1] > 1e-2 and target["rows"][1] > 0
    )  # the target takes its attention from the row that is held


def test_direct_inversion_holds_the_source_of_every_pair_and_no_other_row(server):
    """Two pairs of one picture; and a repeated latent with one prompt, whose rows are all edits."""
    prompt = inverted(2) | {
        "pair": node("HSpacePairConditioning", clip=["model", 1], source=SOURCE, targets=TARGET),
        "double": node("RepeatLatentBatch", samples=["invert", 1], amount=2),
        "rows": node("HSpacePairLatent", latent=["double", 0], rows=2),
        "true": node("VAEEncode", pixels=["face", 0], vae=["model", 2]),
        "four": node("RepeatLatentBatch", samples=["true", 0], amount=4),
    }
    pairs, rows, one = (
        resumed("model", *args)
        for args in (("pair", 4.0, ("rows", 0)), ("target", 4.0, ("double", 0)), ("target", 4.0, ("invert", 1)))
    )
    prompt |= pairs | rows | one | {"twice": node("RepeatLatentBatch", samples=[out(one), 0], amount=2)}
    direct, edits = differences(server, prompt, ("four", out(pairs)), ("twice", out(rows)))
    assert max(direct["rows"][::2]) < 1e-6 and min(direct["rows"][1::2]) > 1e-2
    assert max(edits["rows"]) < 1e-5


@pytest.mark.parametrize(("features", "words"), [(False, ""), (True, ""), (True, "hair")])
def test_direct_inversion_with_a_local_blend_keeps_the_picture_itself(server, features, words):
    """Beside Prompt-to-Prompt alone, and beside features whose source pass has rows of its own that are not looked
    at."""
    prompt = inverted(2) | {"features": inject("PnP qk only", model=("words", 0))}
    prompt |= {
        "pair": node("HSpacePairConditioning", clip=["model", 1], source=SOURCE, targets=TARGET),
        "rows": node("HSpacePairLatent", latent=["invert", 1], rows=2),
        "words": p2p(cross_end=0.4, self_end=0.6),
        "true": node("VAEEncode", pixels=["face", 0], vae=["model", 2]),
        "both": node("HSpacePairLatent", latent=["true", 0], rows=2),
        **half_mask(64, 64, "painted"),
        "edited": local_blend("features" if features else "words", words=words, mask=["painted", 0]),
    }
    prompt |= resumed("edited", "pair", 4.0, ("rows", 0))
    last = out(prompt)
    prompt["figures"] = node("HSpaceTestOutside", latent=[last, 0], mask=["painted", 0])
    prompt["exact"] = node("HSpaceTestDifference", a=["both", 0], b=[last, 0])
    result = server.queue(prompt, timeout=300)
    figures, exact = (json.loads(result.outputs[name]["text"][0]) for name in ("figures", "exact"))
    assert exact["rows"][0] < 1e-6
    assert figures["outside"] == 0 and figures["inside"][0] > 0.05 and figures["area"] == [0.5]


def test_one_row_is_resumed_as_before(server):
    prompt = inverted(3) | resumed("model", "source")
    prompt["decode"] = node("VAEDecode", samples=[out(prompt), 0], vae=["model", 2])
    result = server.queue({**prompt, "save": save(["decode", 0]), "rebuilt": save(["invert", 2])}, timeout=300)
    (a,), (b,) = pictures(server, result, "save"), pictures(server, result, "rebuilt")
    assert np.abs(a.astype(int) - b).max() <= 1
